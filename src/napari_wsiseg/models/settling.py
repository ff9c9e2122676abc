"""Where a slide and a stain model meet: by which glass level and stains it is measured.

Settled once, kept in the result, and read back when it is gone on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.errors import JobError, ModelError
from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.models.stains import StainVectors, estimate
from napari_wsiseg.models.zoo import Entry, entry, models

if TYPE_CHECKING:
    from napari_wsiseg.slides import Slide


# So begins the source of what was settled here, and of nothing that was given.
_OWN = "this slide"


def check_stains(job: SegmentationJob) -> None:
    """Refuse the slide's stains for a model that takes none, before it is loaded.

    Raises
    ------
    JobError
        If the job asks for them, and its model is no stain model or is given its stains.
    """
    _to_settle(job, None)


def settle_stains(
    job: SegmentationJob,
    model: Segmenter | None,
    slide: Slide,
    tissue: NDArray[np.bool_] | None = None,
    before: object = None,
) -> StainVectors | None:
    """The glass level and stains by which a run measures the slide; the same every time.

    The slide is looked at near 8 µm per pixel for its glass level, and in 16 fields of
    256 µm near 1 µm per pixel for its stains.

    Parameters
    ----------
    job
        Its `stains` says whether they are the slide's.
    model
        In place of the job's, or None.
    slide
        What is to be measured.
    tissue
        (h, w) bool over the whole slide: where stains are looked for; None: everywhere.
    before
        What `identity` said of the model of the result that is gone on with: its stains
        stand where they were the slide's.

    Returns
    -------
    What `with_stains` takes; None where the model's own stand, or it takes none.

    Raises
    ------
    JobError
        If the job asks for the slide's stains, and the model takes none or is given its own.
    ModelError
        If the slide does not show them.
    SlideError
        If no part of the slide can be read.
    """
    known = _to_settle(job, model)
    if known is None:
        return None
    kept = _kept(known, before)
    if kept is not None:
        return kept
    # Late: reading slides loads much that listing the models has no need of.
    from napari_wsiseg.models.sampling import stained_pixels
    from napari_wsiseg.slides.overview import find_glass, read_overview

    look = read_overview(slide)
    glass = find_glass(look)
    white = "; no glass found, white taken" if glass.is_scarce else ""
    if known.measures_glass:
        return replace(known.standard, background=glass.rgb, source=f"{_OWN}{white}")
    fields = stained_pixels(slide, look, glass, tissue)
    advice = f"run {slide.info.stem} with stains='standard' (--stains standard)"
    found = estimate(fields, known.standard, glass.rgb, advice=advice)
    return replace(found, source=f"{_OWN}, {found.source}{white}")


def with_stains(model: Segmenter, stains: StainVectors | None) -> Segmenter:
    """The model that measures by what `settle_stains` found; None: as it is.

    Raises
    ------
    JobError
        If the model is none that measures stains.
    """
    if stains is None:
        return model
    from napari_wsiseg.models.staining import StainSegmenter

    if not isinstance(model, StainSegmenter):
        raise JobError(
            f"Model {model.spec.name!r} measures no stains; give the model that the plan was made "
            "with."
        )
    return model.stained(stains)


def _to_settle(job: SegmentationJob, model: Segmenter | None) -> Entry | None:
    """The model's line in the zoo, where the slide has a say in its stains."""
    if model is None and job.model not in models():
        return None  # A model's file, or a name that is refused when it is loaded.
    name = job.model if model is None else model.spec.name
    known, is_settled = _known(job, model)
    from_slide = job.stains == "slide"
    if from_slide and known is None:
        raise JobError(
            f"Model {name!r} measures no stains, so it cannot take the slide's; "
            "leave out stains='slide' (--stains slide)."
        )
    if from_slide and is_settled:
        raise JobError(
            f"Model {name!r} was given its stains, so it cannot take the slide's; leave out "
            "stains='slide' (--stains slide), or the file of stains (--weights)."
        )
    if known is None or is_settled:
        return None
    return known if from_slide or known.measures_glass else None


def _known(job: SegmentationJob, model: Segmenter | None) -> tuple[Entry | None, bool]:
    """A stain model's line in the zoo, or None, and whether its stains were given."""
    if model is None:
        known = entry(job.model)
        return (known if known.measures_stains else None), job.weights is not None
    from napari_wsiseg.models.staining import StainSegmenter

    return (model.known, model.is_settled) if isinstance(model, StainSegmenter) else (None, False)


def _kept(known: Entry, before: object) -> StainVectors | None:
    """The stains of a result, or None where they were not the slide's, or say nothing."""
    if not isinstance(before, Mapping) or before.get("name") != known.spec.name:
        return None
    try:
        stains = replace(known.standard, **before.get("parameters", {}))
    except (TypeError, ModelError):
        return None
    return stains if str(stains.source).startswith(_OWN) else None
