"""From the panel to a run: what it comes to beforehand, how it goes, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils import progress
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QMessageBox

from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.models_control import ModelsControl
from napari_wsiseg._napari.open_slides import OpenSlide, view_region
from napari_wsiseg._napari.priority import WindowFirst
from napari_wsiseg._napari.run_words import (
    ended_words,
    foretold_words,
    progress_words,
    unreachable_words,
)
from napari_wsiseg._napari.runner import Runner
from napari_wsiseg._napari.runs import Doing, RunEnd, RunRequest, watched_steps
from napari_wsiseg._napari.sections.resolution import ResolutionSection
from napari_wsiseg._napari.sections.run import RunSection
from napari_wsiseg._napari.slides_control import SlidesControl
from napari_wsiseg._napari.tissue_control import TissueControl
from napari_wsiseg.errors import WsisegError, reason

if TYPE_CHECKING:
    from napari_wsiseg.config import SegmentationJob
    from napari_wsiseg.engine import Progress, RunPlan
    from napari_wsiseg.geometry import Region

_SETTLING_MS = 250
_TICK_MS = 200
_MOST_WARNINGS = 3


class RunsControl(QObject):
    """Signals: `started`; `progressed` with the slide and `Progress`; `ended` with the slide and
    `RunEnd`.
    """

    started = Signal()
    progressed = Signal(object, object)
    ended = Signal(object, object)

    def __init__(
        self,
        context: Context,
        section: RunSection,
        resolution: ResolutionSection,
        slides: SlidesControl,
        tissue: TissueControl,
        models: ModelsControl,
    ) -> None:
        super().__init__(section)
        self._context, self._section, self._resolution = context, section, resolution
        self._slides, self._tissue, self._models = slides, tissue, models
        self.runner: Runner[RunRequest] = Runner(watched_steps, self)
        self.runner.stepped.connect(self._on_step)
        self.runner.ended.connect(self._on_end)
        self._window_first = WindowFirst()
        self.spilled = False
        self._slide: OpenSlide | None = None
        self._bar: Any = None
        self._step: Progress | None = None
        self._is_paused = False
        self._warnings: list[str] = []
        self._problem = ""
        section.segment_asked.connect(self.start)
        section.pause_asked.connect(self._pause)
        section.resume_asked.connect(self._resume)
        section.cancel_asked.connect(self.cancel)
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.setInterval(_SETTLING_MS)
        self._settling.timeout.connect(self._foretell)
        self._ticking = QTimer(self)
        self._ticking.setInterval(_TICK_MS)
        self._ticking.timeout.connect(self._show_step)
        for signal in (
            slides.slide_changed, tissue.changed, slides.view_moved, models.changed
        ):  # fmt: skip
            signal.connect(self.reconsider)
        context.panel.events.connect(self.reconsider)
        self.reconsider()

    def reconsider(self, *_: object) -> None:
        """Something changed: say anew what the run comes to, once the user's hand rests."""
        self._settling.start()
        self._show_ready()

    def start(self) -> None:
        """Run what is chosen; what is missing is said."""
        found = self._slides.current
        if found is None or self.runner.request is not None:
            return
        if self._context.panel.overwrite and not self._may_replace():
            return
        try:
            job = self._context.panel.job(self._view(found))
        except WsisegError as error:
            self._section.show_state(str(error))
            return
        request = RunRequest(
            job,
            self._context.panel.output_folder,
            found.slide,
            self._tissue.mask if job.tissue == "auto" else None,
            lambda: self._models.shelf.take(job),
        )
        if self.runner.start(request):
            self._window_first.on()
            self._slides.hold(found)
            self._slide, self._warnings, self.spilled = found, [], False
            self._section.show_running()
            self._section.show_state("Starting ...")
            self._section.show_warnings("")
            self._step, self._is_paused = None, False
            self._ticking.start()
            self.started.emit()
            self._open_bar(f"Segmenting {found.name}")

    def _may_replace(self) -> bool:
        """Asked each time: an earlier result cannot be brought back."""
        answer = QMessageBox.question(
            self._section,
            "Segment",
            f"An earlier result of this slide and model in {self._context.panel.output_folder} is "
            "replaced, with the corrections made in it. Go on?",
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def cancel(self) -> None:
        """Stop at the next batch."""
        if self.runner.request is not None:
            self.runner.cancel()
            self._ticking.stop()
            self._section.show_stopping()
            self._section.show_state("Stopping at the next batch ...")

    def close(self) -> None:
        """Stop, and say no more."""
        self._settling.stop()
        self._context.panel.events.disconnect(self.reconsider)
        self.runner.cancel()
        self._close_bar()
        self._window_first.off()

    def _pause(self) -> None:
        self._is_paused = True
        self.runner.pause()
        self._section.show_paused(paused=True)
        self._section.show_state("Paused; nothing is lost.")

    def _resume(self) -> None:
        self._is_paused = False
        self.runner.resume()
        self._section.show_paused(paused=False)
        self._section.show_state("Going on ...")

    def _on_step(self, step: Doing | RunPlan | Progress) -> None:
        from napari_wsiseg.engine import Progress, RunPlan

        if isinstance(step, Doing):
            self._section.show_state(step.text)
        elif isinstance(step, RunPlan):
            self.spilled = step.spills
            self._section.show_state("Reading the first patches ...")
        elif isinstance(step, Progress):
            self._on_progress(step)

    def _on_progress(self, step: Progress) -> None:
        if step.kind == "spill":
            self.spilled = True
        if step.kind == "warning" and step.message:
            self._warn(step.message)
        self._step = step
        self.progressed.emit(self._slide, step)

    def go_on(self) -> None:
        """Its layers are there: the run goes on, unless the user holds it."""
        if not self._is_paused:
            self.runner.resume()

    def _show_step(self) -> None:
        """By a timer: steps come faster than anybody reads."""
        step = self._step
        if step is None or self.runner.request is None:
            return
        self._section.show_progress(step.patches_done, step.patches_total)
        if not self._is_paused:
            self._section.show_state(progress_words(step, from_disk=self.spilled))
        self._show_bar(step)

    def _warn(self, sentence: str) -> None:
        if sentence in self._warnings:
            return
        self._warnings.append(sentence)
        shown = self._warnings[:_MOST_WARNINGS]
        more = len(self._warnings) - len(shown)
        if more:
            shown.append(f"And {more} more; the result lists them.")
        self._section.show_warnings(" ".join(shown))

    def _on_end(self, end: RunEnd) -> None:
        slide, self._slide = self._slide, None
        self._slides.hold(None)
        self._close_bar()
        self._window_first.off()
        self._show_ready()
        self._section.show_state(ended_words(end))
        if end.error is not None:
            show_error(str(end.error))
        elif end.status == "complete":
            show_info(f"{'The slide' if slide is None else slide.name} is segmented.")
        self.ended.emit(slide, end)
        self.reconsider()

    def _show_bar(self, step: Progress) -> None:
        """Not by steps, either: napari's bar handles events, the next steps among them."""
        if self._bar is not None and step.rows and step.row != self._bar.n:
            self._bar.total = step.rows
            self._bar.update(step.row - self._bar.n)

    def _open_bar(self, words: str) -> None:
        """Last of a start: napari's bar handles events, and a run may have ended in one of them."""
        bar = progress(total=0, desc=words)
        if self.runner.request is None:
            bar.close()
        else:
            self._bar = bar

    def _close_bar(self) -> None:
        self._ticking.stop()
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def _show_ready(self) -> None:
        if self.runner.request is None:
            ready = self._slides.current is not None and self._models.is_ready
            # Known at once; the forecast, which may find more, comes when the hand rests.
            self._section.show_idle(ready=ready and not (self._problem or self._unreachable()))

    def _unreachable(self) -> str:
        """Why the slide cannot be read at the resolution; empty where it can."""
        found, spec = self._slides.current, self._models.spec
        if found is None or spec is None:
            return ""
        wanted = self._context.panel.resolution or spec.resolution
        return unreachable_words(wanted, found.slide.info)

    def _view(self, found: OpenSlide) -> Region:
        """What the window shows of the slide."""
        return view_region(self._context.viewer, found.layer, found.slide.info.size)

    def _foretell(self) -> None:
        found, panel = self._slides.current, self._context.panel
        self._context.background.forget("plan")
        self._problem = ""
        if found is None or self._models.spec is None:
            self._resolution.show_meaning("")
            return
        try:
            job = panel.job(self._view(found))
        except WsisegError as error:
            self._resolution.show_meaning("", str(error))
            return
        spec = self._models.spec
        if unreachable := self._unreachable():
            self._resolution.show_meaning("", unreachable)
            self._show_ready()
            return
        tissue = self._tissue.mask
        if job.tissue == "auto" and tissue is None:
            return  # said again when it was found
        mask = tissue if job.tissue == "auto" else None
        ready = self._models.is_ready

        def work() -> RunPlan:
            return self._plan(job, found, mask, ready=ready)

        def done(plan: RunPlan) -> None:
            words = foretold_words(plan, spec)
            self._resolution.show_meaning(words.text, words.warning)
            self._show_ready()

        self._context.background.ask("plan", work, done, self._on_no_plan)

    def _on_no_plan(self, error: Exception) -> None:
        self._problem = reason(error)
        self._resolution.show_meaning("", str(error))
        self._show_ready()

    def _plan(self, job: SegmentationJob, found: OpenSlide, mask: Any, *, ready: bool) -> RunPlan:
        from napari_wsiseg.engine import plan
        from napari_wsiseg.engine.naming import plan_in

        # A network at work has the processor to itself: its timing would be wrong, and slow it.
        if not ready or self.runner.request is not None:
            return plan(job, found.slide, None, mask)
        # As the run plans: what an earlier one has done of it is not done again.
        folder = self._context.panel.output_folder
        return plan_in(folder, job, found.slide, self._models.shelf.take(job), mask, foretell=True)
