"""`segment` and `run`: what is wanted, checked and opened, and then run."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine.inputs import ModelSource, SlideSource, TissueSource, opened
from napari_wsiseg.engine.plan import fitted_model, resolve
from napari_wsiseg.engine.progress import Progress
from napari_wsiseg.engine.room import check_room, working_folder
from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.engine.stages import Run
from napari_wsiseg.errors import JobError
from napari_wsiseg.memory import Workspace
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.store.lock import check_unwritten
from napari_wsiseg.threads import interrupt_behind


def run(
    job: SegmentationJob,
    slide: SlideSource | None = None,
    model: ModelSource | None = None,
    tissue: TissueSource | None = None,
) -> ProbabilityMap:
    """`segment` to its end.

    Parameters
    ----------
    job
        What to run.
    slide, model, tissue
        In place of the job's, as in `segment`.

    Returns
    -------
    ProbabilityMap
        Open; at `job.output`, or in memory where that is None.

    Raises
    ------
    WsisegError
        As `segment` does.
    """
    result = None
    steps = segment(job, slide, model, tissue)
    try:
        for progress in steps:
            result = progress.result
    finally:
        # A trace of an interrupt would keep its threads alive.
        steps.close()
    assert result is not None  # noqa: S101 - `segment` yields at least its end
    return result


def segment(
    job: SegmentationJob,
    slide: SlideSource | None = None,
    model: ModelSource | None = None,
    tissue: TissueSource | None = None,
    *,
    settled: RunPlan | None = None,
) -> Generator[Progress]:
    """Segment a slide; yields after every batch and every finished row of chunks.

    Closing the generator cancels the run: what is finished stays and the same job
    goes on from there.

    Parameters
    ----------
    job
        What to run.
    slide
        An open slide, or what `open_slide` takes, in place of the job's.
    model
        A model, or a name, in place of the job's.
    tissue
        A mask (h, w) bool over the whole slide, or a `TissueMask`, in place of the job's; kept
        in the result.
    settled
        What `plan` made of this job, slide and model, to be run as it was shown.

    Yields
    ------
    Progress

    Raises
    ------
    WsisegError
        JobError, SlideError and ModelError before an output exists; InferenceError
        and StoreError also later, with every finished row kept.
    """
    handled = sys.exception()
    if job.output is not None and job.on_exists == "error" and job.output.exists():
        raise JobError(f"{job.output} exists; name another output, or resume or overwrite it.")
    if job.output is not None:
        check_unwritten(job.output)
    try:
        yield from _steps(job, slide, model, tissue, settled)
    except Exception as error:
        if (interrupt := interrupt_behind(error, handled)) is not None:
            raise interrupt from None
        raise


def _steps(
    job: SegmentationJob,
    slide: SlideSource | None,
    model: ModelSource | None,
    tissue: TissueSource | None,
    settled: RunPlan | None,
) -> Iterator[Progress]:
    with ExitStack() as stack:
        inputs = stack.enter_context(opened(job, slide, model, tissue, load=True))
        plan = resolve(inputs, foretell=False) if settled is None else settled
        folder = stack.enter_context(working_folder(job.output))
        tight = None if job.output is None else check_room(plan, folder)
        workspace = stack.enter_context(Workspace(plan.budget, folder, plan.need.resident))
        assert inputs.segmenter is not None  # noqa: S101 - it was to be loaded
        model = fitted_model(inputs.segmenter, plan)
        going = Run(plan, inputs.slide, model, inputs.prior, workspace)
        yield from going.steps(tight)
