"""What a slide's result is called."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine.identity import run_values
from napari_wsiseg.engine.inputs import SlideSource, TissueSource, opened
from napari_wsiseg.engine.plan import fitted_model, resolve
from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.errors import StoreError
from napari_wsiseg.models import Segmenter
from napari_wsiseg.slides.base import SlideInfo
from napari_wsiseg.store import ProbabilityMap


def result_path(folder: Path, info: SlideInfo) -> Path:
    """`<stem>.ome.zarr`, or, where that is another slide's, with 8 hex digits of the fingerprint.

    Parameters
    ----------
    folder
        Where results go; need not exist.
    info
        The slide.
    """
    plain = folder / f"{info.stem}.ome.zarr"
    marked = folder / f"{info.stem}-{info.fingerprint[:8]}.ome.zarr"
    return marked if marked.exists() or _is_anothers(plain, info.fingerprint) else plain


def plan_in(
    folder: Path,
    job: SegmentationJob,
    slide: SlideSource,
    model: Segmenter,
    tissue: TissueSource | None = None,
    *,
    foretell: bool = False,
) -> RunPlan:
    """The plan of a job whose output is the first name in the folder that it may have.

    That is `result_path`, then `<stem>-<model>.ome.zarr`, then `<stem>-<model>-2.ome.zarr` and
    so on: the first that is free, or holds the same run, which is then gone on with. A job that
    overwrites takes the first that is free or a result of this slide and model.

    Parameters
    ----------
    folder
        Where results go; need not exist.
    job
        What to run; its own output plays no part. `plan_in(...).job.output` says where.
    slide, model, tissue
        As in `segment`.
    foretell
        Whether to time the model, for a forecast.

    Raises
    ------
    JobError, SlideError, ModelError
        If the job cannot be done.
    """
    with opened(job, slide, model, tissue, load=True) as inputs:
        info = inputs.slide.info
    for path in _names(folder, info, model.spec.name):
        placed = job.model_copy(update={"output": path})
        try:
            with opened(placed, slide, model, tissue, load=True) as inputs:
                plan = resolve(inputs, foretell=foretell)
                if not path.exists() or _is_own(path, plan, model):
                    return plan
        except StoreError:
            # Something else has that name; it stays as it is.
            continue
    raise AssertionError("names do not end")


def _names(folder: Path, info: SlideInfo, model: str) -> Iterator[Path]:
    yield result_path(folder, info)
    yield folder / f"{info.stem}-{model}.ome.zarr"
    for number in count(2):
        yield folder / f"{info.stem}-{model}-{number}.ome.zarr"


def _is_own(path: Path, plan: RunPlan, model: Segmenter) -> bool:
    """Whether a result is of this run, or, where it is to be replaced, of its slide and model."""
    with ProbabilityMap.open(path) as result:
        if plan.job.on_exists == "overwrite":
            same_slide = result.info.identity.get("slide") == plan.info.fingerprint
            return same_slide and result.spec.name == plan.spec.name
        return not result.info.differences(run_values(plan, fitted_model(model, plan)))


def _is_anothers(path: Path, fingerprint: str) -> bool:
    if not path.exists():
        return False
    try:
        with ProbabilityMap.open(path) as result:
            slide = result.provenance.get("slide")
    # What is no result of ours is not renamed around: the run refuses it, and says why.
    except StoreError:
        return False
    return isinstance(slide, dict) and slide.get("fingerprint") != fingerprint
