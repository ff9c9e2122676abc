"""What a job names, opened: the slide, the model, and the result to go on with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.config import Backend, Precision, SegmentationJob
from napari_wsiseg.errors import JobError, SlideError
from napari_wsiseg.grid import Mask
from napari_wsiseg.models import Segmenter, check_stains, load_model, models
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.store.drafts import check_ours
from napari_wsiseg.tissue import TissueMask

SlideSource = Slide | str | os.PathLike[str] | NDArray[np.generic]
"""An open slide, or what `open_slide` takes."""

ModelSource = Segmenter | str | Path
"""A model, or its name or file."""

TissueSource = Mask | TissueMask
"""A mask (h, w) bool over the whole slide, or one that says how it was made."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """A job, and what it meets.

    Parameters
    ----------
    job
        What to run.
    slide
        Open.
    spec
        Of the model.
    segmenter
        The model; None where it was not loaded.
    tissue
        A mask over the whole slide in place of the job's, or None.
    prior
        The result to go on with, or None.
    """

    job: SegmentationJob
    slide: Slide
    spec: ModelSpec
    segmenter: Segmenter | None
    tissue: TissueSource | None
    prior: ProbabilityMap | None


@contextmanager
def opened(
    job: SegmentationJob,
    slide: SlideSource | None,
    model: ModelSource | None,
    tissue: TissueSource | None,
    *,
    load: bool,
) -> Iterator[Inputs]:
    """What the job names, or what stands in its place; what is opened here is closed again.

    Parameters
    ----------
    job
        What to run.
    slide, model, tissue
        In place of the job's.
    load
        Whether to load a model that is only named; else its spec has to do.

    Raises
    ------
    WsisegError
        If slide, model or result cannot be opened.
    """
    if isinstance(model, (str, Path)):
        job, model = job.model_copy(update={"model": str(model)}), None
    with ExitStack() as stack:
        source = job.slide if slide is None else slide
        if source is None:
            raise JobError("The job names no slide; give its file (slide=...).")
        reader = _reader(source, job, stack)
        prior = prior_result(job)
        if model is not None:
            model = load_model(model)  # refuses what is no model
        elif load:
            model = job_model(job, prior)
        spec = _spec_of(job) if model is None else model.spec
        if tissue is not None and not isinstance(tissue, TissueMask):
            tissue = np.asarray(tissue)
        yield Inputs(job, reader, spec, model, tissue, prior)


def _reader(source: SlideSource, job: SegmentationJob, stack: ExitStack) -> Slide:
    """The slide, open; what is opened here is closed by the stack."""
    if not _is_open(source):
        return stack.enter_context(open_slide(source, mpp=job.mpp, alias=job.alias))
    if job.alias not in (None, source.info.alias):
        raise JobError(
            f"The job calls the slide {job.alias!r}, and it was opened without that name; open it "
            f"with open_slide(..., alias={job.alias!r})."
        )
    return source


def check_there(slide: Slide) -> None:
    """A slide that is gone costs all that is left, and is no matter of damaged parts.

    Raises
    ------
    SlideError
        If it was closed, or its file is not there any more.
    """
    path = slide.info.path
    if getattr(slide, "closed", False):
        problem = "it was closed"
    elif path is not None and not os.path.exists(path):  # noqa: PTH110 - of no disk it says no
        problem = slide.info.without_path(f"{path} is not there any more")
    else:
        return
    raise SlideError(
        f"{slide.info.stem} cannot be read on: {problem}; what is finished is kept, open the slide "
        "again and run it on."
    )


def prior_result(job: SegmentationJob) -> ProbabilityMap | None:
    """The result that the job would go on with, if it is there.

    Raises
    ------
    StoreError
        If what is there is no result of ours, also where one is to be replaced.
    """
    if job.output is None:
        return None
    if job.on_exists == "overwrite":
        check_ours(job.output)
    if job.on_exists != "resume" or not job.output.exists():
        return None
    return ProbabilityMap.open(job.output)


def job_model(
    job: SegmentationJob, prior: ProbabilityMap | None, at_hand: Segmenter | None = None
) -> Segmenter:
    """The job's model, ready to predict.

    What precision and backend "auto" stand for differs by machine and is settled once: a
    result to go on with keeps those that it was begun in.

    Parameters
    ----------
    job
        Names model, weights, device, precision and backend.
    prior
        The result to go on with, or None.
    at_hand
        The job's model, loaded before: handed back where its precision and backend will do.

    Raises
    ------
    ModelError
        If it cannot be loaded, or not on this device in this precision and backend.
    JobError
        If the job asks for the slide's stains, and it takes none.
    """
    check_stains(job)
    settled = _settled(job, prior)
    if at_hand is not None and all(
        value in (getattr(job, name), getattr(at_hand, name, None))
        for name, value in settled.items()
    ):
        return at_hand
    return load_model(
        job.model,
        weights=job.weights,
        device=job.device,
        **settled,
        trust=job.trust,
    )


def _is_open(source: SlideSource) -> TypeGuard[Slide]:
    """Whether it is a slide that can be read; also one that does not offer all of `Slide`."""
    return hasattr(source, "info") and hasattr(source, "read_at")


def _settled(job: SegmentationJob, prior: ProbabilityMap | None) -> dict[str, str]:
    """The job's precision and backend; for "auto", those of the result to go on with."""
    asked = {"precision": job.precision, "backend": job.backend}
    stored = None if prior is None else prior.info.identity.get("model")
    if not isinstance(stored, dict) or any(
        value not in ("auto", stored.get(name)) for name, value in asked.items()
    ):
        # One that was asked for by name makes it another run, to be settled afresh.
        return dict(asked)
    known = {"precision": get_args(Precision), "backend": get_args(Backend)}
    # Where a model leaves no choice, what it stores may be none.
    return {
        name: str(stored[name]) if stored.get(name) in known[name] else value
        for name, value in asked.items()
    }


def _spec_of(job: SegmentationJob) -> ModelSpec:
    check_stains(job)
    known = models()
    if job.model in known:
        return known[job.model]
    return load_model(
        job.model,
        weights=job.weights,
        device=job.device,
        backend=job.backend,
        trust=job.trust,
    ).spec
