"""Corrections by hand: what a person paints over a result's labels, kept beside them.

The prediction stays as it is. Knows no window.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import JobError, shown
from napari_wsiseg.geometry import YX, Polygon, Region
from napari_wsiseg.labels import corrected
from napari_wsiseg.labels.corrected import CorrectedLabels
from napari_wsiseg.labels.record import NAME, Correction
from napari_wsiseg.labels.rule import MODELS_OWN, DecisionRule
from napari_wsiseg.regions import extent_of, mask_of, named
from napari_wsiseg.store.files import check_no_links, naming, partial_name
from napari_wsiseg.store.label_images import unlist_label
from napari_wsiseg.store.lock import WriterLock

if TYPE_CHECKING:
    from napari_wsiseg.spec import ModelSpec
    from napari_wsiseg.store import ProbabilityMap

# Areas are in map pixels.
_MAP = YX(1.0, 1.0)


def labels_to_correct(
    pm: ProbabilityMap, area: Region | Polygon, rule: DecisionRule = MODELS_OWN
) -> tuple[Region, NDArray[np.uint8]]:
    """What is there to be painted over: the corrected labels, or those of the rule.

    Parameters
    ----------
    pm
        The map.
    area
        A box, or the (y, x) vertices of an outline, in map pixels; what of it lies
        outside the map is left out.
    rule
        What makes a label as long as nothing was corrected.

    Returns
    -------
    box
        The map pixels around the area.
    labels
        (height, width) uint8 of the box: 0 for none, i + 1 for class i. Of independent
        classes that overlap, the most probable.

    Raises
    ------
    JobError
        If the area is none, lies outside the map, or the rule names a class that the model
        does not have.
    StoreError
        If the map or its corrected labels cannot be read.
    """
    box, _ = _placed(pm, area)
    if has_corrections(pm):
        return box, CorrectedLabels.open(pm).read(box)
    return box, corrected.decided(pm, rule, box)


def correct(
    pm: ProbabilityMap,
    area: Region | Polygon,
    painted: NDArray[np.unsignedinteger[Any]],
    rule: DecisionRule = MODELS_OWN,
) -> Correction:
    """Keep what was painted; `correct_steps` to the end, with its parameters and errors."""
    steps = correct_steps(pm, area, painted, rule)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            correction: Correction = end.value
            return correction


def correct_steps(
    pm: ProbabilityMap,
    area: Region | Polygon,
    painted: NDArray[np.unsignedinteger[Any]],
    rule: DecisionRule = MODELS_OWN,
) -> Generator[float, None, Correction]:
    """Keep what was painted over the labels of a result, step by step.

    It goes to `labels/corrected` inside the result: a label image of the whole map with
    one label a pixel, for every kind of model. The first correction makes it of the
    labels of the rule; later ones change the chunks that they meet. Glass and what was
    not analysed may be painted too. Closing the steps early leaves all as it was.

    Parameters
    ----------
    pm
        The map, on disk, and written by nobody.
    area
        As for `labels_to_correct`. Of an outline, pixels with their centre inside change.
    painted
        (height, width) whole numbers, of the box that `labels_to_correct` gives for the
        area: 0 for none, i + 1 for class i.
    rule
        What makes a label where nothing is painted; used by the first correction alone.

    Yields
    ------
    float
        What part is done, 0..1.

    Returns
    -------
    What was recorded; if nothing was changed, nothing is, and its `pixels` are 0.

    Raises
    ------
    JobError
        If the area is none or lies outside the map, or `painted` has another shape or holds
        other labels.
    StoreError
        If the map is in memory or being written, the corrected labels are damaged, or the
        disk refuses: what was corrected before stands.
    """
    rule.thresholds_for(pm.spec)
    box, inside = _placed(pm, area)
    where = box if isinstance(area, Region) else tuple((float(y), float(x)) for y, x in area)
    labels = _checked(painted, box, pm.spec)
    lock = _locked(pm)
    try:
        corrected.sweep(pm)
        stored = CorrectedLabels.open(pm) if has_corrections(pm) else None
        before = corrected.decided(pm, rule, box) if stored is None else stored.read(box)
        after = labels if inside is None else np.where(inside, labels, before)
        changed = int(np.count_nonzero(after != before))
        correction = Correction(datetime.now(UTC).replace(microsecond=0), where, changed)
        if changed and stored is None:
            yield from corrected.create(pm, rule, box, after, correction)
        elif changed and stored is not None:
            stored.paint(box, after, correction)
    finally:
        lock.release()
    yield 1.0
    return correction


def has_corrections(pm: ProbabilityMap) -> bool:
    """Whether labels of a result were corrected; damaged ones count."""
    return corrected.is_there(pm)


def corrections(pm: ProbabilityMap) -> tuple[Correction, ...]:
    """What was corrected in a result, the earliest first; empty where nothing was.

    Raises
    ------
    StoreError
        If the corrected labels are damaged, or the run has gone on since.
    """
    return CorrectedLabels.open(pm).corrections if has_corrections(pm) else ()


def discard_corrections(pm: ProbabilityMap) -> None:
    """Remove the corrected labels of a result, damaged ones too; the prediction stays.

    Raises
    ------
    StoreError
        If the map is being written, or the disk refuses.
    """
    if not has_corrections(pm):
        return
    folder = corrected.folder_of(pm)
    lock = _locked(pm)
    try:
        unlist_label(lock.folder, NAME)
        if not has_corrections(pm):
            return  # another process was quicker
        aside = partial_name(folder)
        with naming(folder):
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        lock.release()


def _locked(pm: ProbabilityMap) -> WriterLock:
    """The right to write to a map's result, and nowhere else."""
    result = corrected.folder_of(pm).parent.parent
    check_no_links(result)
    return WriterLock.acquire(result)


def _placed(pm: ProbabilityMap, area: Region | Polygon) -> tuple[Region, NDArray[np.bool_] | None]:
    """The box of an area inside the map, and which of its pixels change; None: all.

    Raises
    ------
    JobError
        If there is no such box.
    """
    (region,) = named([area])
    box = extent_of(region.shape, _MAP).clipped(pm.size)
    if box.is_empty:
        raise JobError(
            f"The area {shown(area)} lies outside the map of {pm.size}; paint inside it."
        )
    return box, None if isinstance(area, Region) else mask_of(region.shape, box, _MAP)


def _checked(
    painted: NDArray[np.unsignedinteger[Any]], box: Region, spec: ModelSpec
) -> NDArray[np.uint8]:
    """What was painted as labels.

    Raises
    ------
    JobError
        If it has another shape than the box, or holds anything but labels.
    """
    found = np.asarray(painted)
    shape = (box.size.height, box.size.width)
    if found.shape != shape or found.dtype.kind not in "iu":
        raise JobError(
            f"What was painted is {found.dtype} {found.shape}; give whole numbers of the shape "
            f"{shape} (height, width), as `labels_to_correct` does."
        )
    codes = [0, *(i + 1 for i in range(len(spec.classes)) if i != spec.background)]
    strange = np.setdiff1d(found, codes)
    if strange.size:
        known = ", ".join(f"{code} ({spec.classes[code - 1]})" for code in codes[1:])
        raise JobError(
            f"The label {strange[0]} was painted, which model {spec.name!r} does not have; paint "
            f"0 (none), {known}."
        )
    return found.astype(np.uint8)
