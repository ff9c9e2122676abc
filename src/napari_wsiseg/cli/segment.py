"""`segment SLIDE...`: one slide after the other; a bad one does not stop the rest."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_wsiseg.cli import report
from napari_wsiseg.cli.interrupt import Interrupt
from napari_wsiseg.cli.progress import shown_progress, tell
from napari_wsiseg.cli.terminal import INTERRUPTED, fail, out, say, sentence, warn
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import plan, segment
from napari_wsiseg.engine.inputs import job_model, prior_result
from napari_wsiseg.engine.naming import result_path
from napari_wsiseg.engine.words import plan_words, stain_words
from napari_wsiseg.errors import InferenceError, SlideError, WsisegError
from napari_wsiseg.measure import measure
from napari_wsiseg.models import Segmenter
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.words import several

if TYPE_CHECKING:
    from napari_wsiseg.store import ProbabilityMap


@dataclass
class Outcome:
    """How it went with one slide.

    Parameters
    ----------
    slide
        Its file or folder.
    name
        What it is called: its alias, else where it lies.
    output
        Its result; None as long as none was chosen.
    values
        What the result says, as plain JSON; None where there is none.
    error
        Why there is none.
    begun
        Whether its first patches were computed.
    warnings
        What the user was warned of.
    seconds
        How long it took.
    """

    slide: Path
    name: str
    output: Path | None = None
    values: dict[str, Any] | None = None
    error: Exception | None = None
    begun: bool = False
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def unfinished(self) -> bool:
        """Whether it came to no end, good or bad."""
        return self.values is None and self.error is None

    @property
    def refused(self) -> bool:
        """Whether it could not even begin: a bad file, place or job, the user's to mend."""
        # A bug, or a model that fails at once, is no bad input.
        foreseen = isinstance(self.error, WsisegError | OSError)
        return foreseen and not (self.begun or isinstance(self.error, InferenceError))

    def as_json(self) -> str:
        """One line of JSON."""
        status = "cancelled" if self.unfinished else "failed"
        common = {
            "slide": self.name,
            "status": status,
            "output": None if self.output is None else str(self.output),
        }
        if self.error is not None:
            common["error"] = sentence(self.error)
        ending = {
            "warnings": self.warnings,
            "seconds": round(self.seconds, 1),
            "notice": RESEARCH_USE,
        }
        return json.dumps(common | (self.values or {}) | ending)


@dataclass(frozen=True)
class Settings:
    """What holds for all slides of a command.

    Parameters
    ----------
    job
        What to do with each; `slide` and `output` are set a slide.
    folder
        Where results go, by the slides' names; None: to `job.output` itself.
    as_json
        One JSON object a slide, when it ends, in place of tables.
    verbose
        Whether errors come with their tracebacks.
    """

    job: SegmentationJob
    folder: Path | None
    as_json: bool = False
    verbose: bool = False


def segment_slides(slides: Sequence[Path], settings: Settings) -> int:
    """Segment slides; the exit status.

    Raises
    ------
    JobError, ModelError
        If no slide could be run with such a job.
    """
    outcomes: list[Outcome] = []
    model: Segmenter | None = None
    interrupted = False
    with Interrupt() as interrupt:
        try:
            for number, path in enumerate(slides, 1):
                interrupt.check()
                outcomes.append(Outcome(path, settings.job.alias or str(path)))
                say(
                    outcomes[-1].name + (f" ({number} of {len(slides)})" if len(slides) > 1 else "")
                )
                slide = _opened(outcomes[-1], settings)
                if slide is not None:
                    with slide:
                        # Loaded for the first good slide; what is wrong with it is wrong for all.
                        if model is None:
                            model = loaded_model(settings.job)
                        _attempt(outcomes[-1], slide, model, settings, interrupt)
                if settings.as_json:
                    out(outcomes[-1].as_json())
        except KeyboardInterrupt:
            interrupted = True
            _tell_interrupted(outcomes, len(slides), settings)
            if settings.as_json and outcomes and outcomes[-1].unfinished:
                out(outcomes[-1].as_json())
    return INTERRUPTED if interrupted else _status(outcomes)


def _opened(outcome: Outcome, settings: Settings) -> Slide | None:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            slide = open_slide(outcome.slide, mpp=settings.job.mpp, alias=settings.job.alias)
    except SlideError as error:
        outcome.error = error
        fail(error, verbose=settings.verbose)
        return None
    for warning in caught:
        outcome.warnings.append(str(warning.message))
        warn(str(warning.message))
    return slide


def loaded_model(job: SegmentationJob) -> Segmenter:
    """The job's model."""
    return job_model(job, None)


def _attempt(
    outcome: Outcome, slide: Slide, model: Segmenter, settings: Settings, interrupt: Interrupt
) -> None:
    """Run one slide to its end; whatever fails is noted, and the next slide's turn comes."""
    start = time.perf_counter()
    try:
        outcome.output = settings.job.output
        if settings.folder is not None:
            outcome.output = result_path(settings.folder, slide.info)
        job = settings.job.model_copy(update={"slide": outcome.slide, "output": outcome.output})
        model = job_model(job, prior_result(job), model)
        with _watched(job, slide, model, outcome, interrupt) as result:
            areas = measure(result)
            outcome.values = report.result_values(result, areas)
            if not settings.as_json:
                report.print_result(result, areas)
    except BrokenPipeError:
        raise
    # Readers, models and disks fail in ways that nobody lists; the other slides are not to blame.
    except Exception as error:  # noqa: BLE001
        outcome.error = error
        fail(error, verbose=settings.verbose)
    finally:
        outcome.seconds = time.perf_counter() - start


def _watched(
    job: SegmentationJob, slide: Slide, model: Segmenter, outcome: Outcome, interrupt: Interrupt
) -> ProbabilityMap:
    """Run the job while its progress is shown; between two batches it may be interrupted."""
    foretold = plan(job, slide, model)
    say(f"  {plan_words(foretold)}")
    if words := stain_words(foretold):
        say(f"  {words}")
    told = set(outcome.warnings)
    steps = segment(job, slide, model, settled=foretold)
    with interrupt.gently(), shown_progress(interrupt) as shown, closing(steps):
        for step in steps:
            interrupt.gentle = outcome.begun = True
            tell(step, told)
            shown.show(step)
            if step.kind != "done":
                interrupt.check()
    if step.patches_total == 0 and foretold.grid.keep.any():
        needed = (foretold.wanted & (foretold.grid.owed > 0)).any()
        why = "It is complete already" if needed else "No tissue lies in the region"
        say(f"  {why}; nothing was computed.")
    outcome.warnings[:] = list(dict.fromkeys([*outcome.warnings, *step.result.warnings]))
    return step.result


def _tell_interrupted(outcomes: Sequence[Outcome], total: int, settings: Settings) -> None:
    resumes = settings.job.on_exists == "resume"
    again = "run the same command again to go on" if resumes else "resume it to go on"
    begun = outcomes[-1].output if outcomes and outcomes[-1].unfinished else None
    if begun is not None and begun.exists():
        say(f"Interrupted: what is finished is kept in {begun}; {again}.")
    elif total > 1:
        ended = sum(not outcome.unfinished for outcome in outcomes)
        say(f"Interrupted: {ended} of {several(total, 'slide')} ended; {again}.")
    else:
        say("Interrupted: nothing was written; run the same command again.")


def _status(outcomes: Sequence[Outcome]) -> int:
    """The exit status, after a list of what failed."""
    failed = [(o.name, o.error) for o in outcomes if o.error is not None]
    if failed and len(outcomes) > 1:
        say(f"{len(failed)} of {several(len(outcomes), 'slide')} failed:")
        for name, error in failed:
            say(f"  {name}: {sentence(error)}")
    if failed:
        return 2 if all(outcome.refused for outcome in outcomes) else 1
    return 3 if any(o.values and o.values["failed_patches"] for o in outcomes) else 0
