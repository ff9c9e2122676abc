"""A run as the window sees it: steps that may be watched, paused and stopped. No Qt."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_wsiseg._napari.priority import give_way
from napari_wsiseg._napari.switch import Switch
from napari_wsiseg.errors import InferenceError, WsisegError, reason

if TYPE_CHECKING:
    from napari_wsiseg.config import SegmentationJob
    from napari_wsiseg.engine import Progress, RunPlan
    from napari_wsiseg.models import Segmenter
    from napari_wsiseg.slides import Slide
    from napari_wsiseg.store import ProbabilityMap
    from napari_wsiseg.tissue import TissueMask


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for when they clicked, settled.

    Parameters
    ----------
    job
        Without slide and output.
    folder
        Where results go.
    slide
        Open; stays so until the run has ended.
    tissue
        The mask as the window shows it; None: the job says.
    load_model
        Gives the job's model; may take long.
    """

    job: SegmentationJob
    folder: Path
    slide: Slide
    tissue: TissueMask | None
    load_model: Callable[[], Segmenter]


@dataclass(frozen=True)
class Doing:
    """What the run is at, before there are patches to count."""

    text: str


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Parameters
    ----------
    status
        Of the result.
    result
        The map; None where none was begun.
    error
        Why it failed, else None.
    """

    status: Literal["complete", "cancelled", "failed"]
    result: ProbabilityMap | None = None
    error: WsisegError | None = None


def run_steps(
    request: RunRequest, switch: Switch
) -> Generator[Doing | RunPlan | Progress, None, RunEnd]:
    """Run to the end; every error, whatever its type, is part of the answer.

    Qt's workers lose a RuntimeError, and most of torch's errors are such.

    Yields
    ------
    Doing, then the RunPlan, then Progress.
    """
    result: ProbabilityMap | None = None
    try:
        _leave_a_core_to_the_window()
        yield Doing("Loading the model ...")
        model = request.load_model()
        if not switch.passes():
            return RunEnd("cancelled")
        yield Doing("Planning ...")
        plan = _planned(request, model)
        yield plan
        from napari_wsiseg.engine import segment

        steps = segment(plan.job, request.slide, model, request.tissue, settled=plan)
        with closing(steps):
            for step in steps:
                result = step.result
                yield step
                if step.kind != "done" and not switch.passes():
                    return RunEnd("cancelled", result)
        return RunEnd("complete", result)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - see above
        if switch.is_stopped:
            # Whatever breaks on the way out was not what the user asked about.
            return RunEnd("cancelled", result)
        return RunEnd("failed", result, told(error))


def watched_steps(
    request: RunRequest, switch: Switch
) -> Generator[Doing | RunPlan | Progress, None, RunEnd]:
    """`run_steps`, held when there is something to show, until the window has shown it.

    Beside a run that takes the window three times as long.
    """
    from napari_wsiseg.engine import Progress

    steps = run_steps(request, switch)
    shown = False
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                end: RunEnd = stop.value
                return end
            if isinstance(step, Progress) and not shown:
                shown = True
                switch.hold()
            yield step


def told(
    error: BaseException,
    kind: type[WsisegError] = InferenceError,
    out_of_memory: str = (
        "There was not enough memory; lower the memory threshold or the batch size, close "
        "other programs, and click Segment again: what is finished is kept."
    ),
) -> WsisegError:
    """The error as one of ours, of this kind where it was not: a sentence that says what to do."""
    if isinstance(error, WsisegError):
        return error
    words = f"{type(error).__name__}: {reason(error)}."
    ours = kind(out_of_memory if isinstance(error, MemoryError) else words)
    ours.__cause__ = error
    return ours


def _planned(request: RunRequest, model: Segmenter) -> RunPlan:
    from napari_wsiseg.engine.naming import plan_in

    return plan_in(request.folder, request.job, request.slide, model, request.tissue)


def _leave_a_core_to_the_window() -> None:
    """Measured on two cores: without, its event loop waited for half a second."""
    with suppress(ImportError):
        import torch

        torch.set_num_threads(max((os.cpu_count() or 2) - 1, 1))
    give_way()
