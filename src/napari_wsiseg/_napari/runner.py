"""`Runner`: what takes minutes, one at a time, in a worker of napari's."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from qtpy.QtCore import QObject, Signal
from superqt.utils import GeneratorWorker

from napari_wsiseg._napari.switch import Switch

R = TypeVar("R")
Steps = Callable[[Any, Switch], Generator[Any, None, Any]]
"""Takes a request and a switch; yields steps, and returns how it ended. Raises nothing: Qt's
workers lose a RuntimeError, and what an aborted one returns."""


class Runner(QObject, Generic[R]):
    """Runs requests, one at a time.

    Parameters
    ----------
    steps
        What to do with a request.

    Attributes
    ----------
    stepped
        With each step.
    ended
        With what the steps returned, exactly once a run.
    """

    stepped = Signal(object)
    ended = Signal(object)

    def __init__(self, steps: Steps, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._steps = steps
        self._switch = Switch()
        self._worker: _Worker | None = None
        self._request: R | None = None
        self._end: Any = None

    @property
    def request(self) -> R | None:
        """What is being run; None: nothing."""
        return self._request

    @property
    def is_paused(self) -> bool:
        """Whether the run is held."""
        return self._worker is not None and self._switch.is_held

    def start(self, request: R) -> bool:
        """Start, unless a run is on its way; whether it was started."""
        if self._worker is not None:
            return False
        self._request, self._switch, self._end = request, Switch(), None
        worker = _Worker(self._steps, request, self._switch)
        worker.yielded.connect(self._on_step)
        worker.finished.connect(self._on_finished)
        self._worker = worker
        worker.start()
        return True

    def pause(self) -> None:
        """Hold the run at its next step."""
        self._switch.hold()

    def resume(self) -> None:
        """Let the run go on."""
        self._switch.go()

    def cancel(self) -> None:
        """Stop the run at its next step."""
        self._switch.stop()

    def _on_step(self, step: Any) -> None:
        if isinstance(step, _End):
            self._end = step.value
        elif not self._switch.is_stopped:
            self.stepped.emit(step)

    def _on_finished(self, _nothing: None = None) -> None:
        self._worker = self._request = None
        self.ended.emit(self._end)


class _End:
    def __init__(self, value: Any) -> None:
        self.value = value


class _Worker(GeneratorWorker[Any, Any, Any]):
    """Ends by itself when it is asked to, so that the run closes what it has open.

    What napari does to workers that it quits is to forget their generators; one that is
    held would never hear of it.
    """

    def __init__(self, steps: Steps, request: object, switch: Switch) -> None:
        super().__init__(_with_end, steps, request, switch)
        self._switch = switch

    def quit(self) -> None:
        """Stop at the next step."""
        self._switch.stop()


def _with_end(steps: Steps, request: object, switch: Switch) -> Generator[Any, None, None]:
    """The steps, and the end as the last of them."""
    yield _End((yield from steps(request, switch)))
