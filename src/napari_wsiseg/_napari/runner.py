"""`Runner`: one run at a time, in a worker of napari's."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import GeneratorWorker

from napari_wsiseg._napari.runs import RunEnd, RunRequest, Switch, run_steps

if TYPE_CHECKING:
    from napari_wsiseg._napari.runs import Doing
    from napari_wsiseg.engine import Progress, RunPlan


class Runner(QObject):
    """Runs requests, one at a time.

    Attributes
    ----------
    stepped
        With `Doing`, a `RunPlan` or `Progress`.
    ended
        With the `RunEnd`, exactly once a run.
    """

    stepped = Signal(object)
    ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._switch = Switch()
        self._worker: _RunWorker | None = None
        self._request: RunRequest | None = None
        self._end: RunEnd | None = None

    @property
    def request(self) -> RunRequest | None:
        """What is being run; None: nothing."""
        return self._request

    @property
    def is_paused(self) -> bool:
        """Whether the run is held."""
        return self._worker is not None and self._switch.is_held

    def start(self, request: RunRequest) -> bool:
        """Start, unless a run is on its way; whether it was started."""
        if self._worker is not None:
            return False
        self._request, self._switch, self._end = request, Switch(), None
        worker = _RunWorker(request, self._switch)
        worker.yielded.connect(self._on_step)
        worker.finished.connect(lambda *_: self._on_finished())
        self._worker = worker
        worker.start()
        return True

    def pause(self) -> None:
        """Hold the run at its next batch."""
        self._switch.hold()

    def resume(self) -> None:
        """Let the run go on."""
        self._switch.go()

    def cancel(self) -> None:
        """Stop the run at its next batch."""
        self._switch.stop()

    def _on_step(self, step: Doing | RunPlan | Progress | RunEnd) -> None:
        if isinstance(step, RunEnd):
            self._end = step
        elif not self._switch.is_stopped:
            self.stepped.emit(step)

    def _on_finished(self) -> None:
        self._worker = self._request = None
        self.ended.emit(self._end or RunEnd("cancelled"))


class _RunWorker(GeneratorWorker[Any, Any, Any]):
    """Ends by itself when it is asked to, so that the run closes what it has open.

    What napari does to workers that it quits is to forget their generators; one that is
    held would never hear of it.
    """

    def __init__(self, request: RunRequest, switch: Switch) -> None:
        super().__init__(_steps, request, switch)
        self._switch = switch

    def quit(self) -> None:
        """Stop at the next batch."""
        self._switch.stop()


def _steps(
    request: RunRequest, switch: Switch
) -> Generator[Doing | RunPlan | Progress | RunEnd, None, None]:
    """The steps, and the end as the last of them."""
    yield (yield from run_steps(request, switch))
