"""`agreement`: how well a map agrees with what people drew, now and at other thresholds.

One pass over the part of level 0 that annotations meet. Knows no file and no picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from napari_wsiseg.errors import JobError
from napari_wsiseg.labels import MODELS_OWN, DecisionRule, threshold_scale, threshold_unit
from napari_wsiseg.measure.overlap import Agreement, ClassAgreement, Overlap, SweepRow
from napari_wsiseg.measure.reference import Reference, near_classes
from napari_wsiseg.measure.sweep import SweepCounter, SweepCounts
from napari_wsiseg.regions import REGION, NamedRegion
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import left_out_words

if TYPE_CHECKING:
    from napari_wsiseg.store import ProbabilityMap

OTHER_SLIDES = (
    "A threshold that was chosen on these annotations must be checked on others, of other "
    "slides and patients, before it is used."
)
"""What everyone who sees a sweep must read."""

_MOST_WORKERS = 8


def agreement(
    pm: ProbabilityMap,
    annotations: Sequence[NamedRegion],
    rule: DecisionRule = MODELS_OWN,
    aliases: Mapping[str, str] | None = None,
) -> Agreement:
    """Compare a map's labels with annotations, pixel by pixel of level 0.

    What the annotations say is told by `Reference`: by their class, and those of the
    classes "Region*" and "Exclude". Only analysed pixels are compared: covered by the
    model, and in the tissue.

    Parameters
    ----------
    pm
        The map; of one that still grows, what is there.
    annotations
        In level-0 pixels of the whole slide.
    rule
        What makes a label.
    aliases
        By class of an annotation, the class of the model that is meant.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have, an alias leads to none, no
        annotation is of one, or nothing that was annotated has been analysed.
    StoreError
        If the map cannot be read.
    """
    rule.thresholds_for(pm.spec)
    reference = Reference(annotations, pm.spec, aliases or {}, pm.size, pm.downsample)
    count = SweepCounter(pm, rule)
    counts = SweepCounts(pm.spec, count.bins)
    # Each worker holds a few chunks; what it hands back is a few numbers.
    with ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1)) as pool:
        for parts in reference.parts(pm.grid.chunk):
            # Painted here while others count.
            for found in pool.map(count, parts, map(reference.paint, parts)):
                counts += found
    if not counts.evaluated:
        raise _nothing_compared(counts.area, reference)
    return _agreement(pm, rule, reference, count, counts)


def _agreement(
    pm: ProbabilityMap,
    rule: DecisionRule,
    reference: Reference,
    count: SweepCounter,
    counts: SweepCounts,
) -> Agreement:
    order = [*(index + 1 for index in count.labelled), 0]
    # The background's label is given by nobody.
    table = counts.labels[np.ix_(order, order)].tolist() if pm.spec.exclusive else None
    return Agreement(
        rule,
        threshold_unit(pm.spec),
        tuple(_class_row(pm.spec, index, count, counts) for index in count.labelled),
        None if table is None else tuple(map(tuple, table)),
        counts.area,
        counts.evaluated,
        reference.used,
        reference.regions,
        reference.left_out,
        tuple(_remarks(pm, reference, counts)),
        pm.mpp,
        pm.mpp_source,
    )


def _class_row(
    spec: ModelSpec, index: int, count: SweepCounter, counts: SweepCounts
) -> ClassAgreement:
    full = threshold_scale(spec)
    total = int(counts.reference[index + 1])
    # What reaches a threshold reaches all below it.
    others, both = counts.steps[index][:, ::-1].cumsum(axis=1)[:, ::-1].tolist()
    rows = {
        threshold: SweepRow(
            # Without the noise of 2 * 0.15: these are decimals that people gave.
            round(threshold * full, 9),
            Overlap(total, others[number] + both[number], both[number]),
        )
        for number, threshold in enumerate(count.thresholds[index], 1)
    }
    in_use = rows[count.in_use[index]]
    best = max(
        rows.values(), key=lambda row: (row.overlap.dice or 0.0, row is in_use, -row.threshold)
    )
    chosen = best.overlap.both and total < counts.evaluated
    return ClassAgreement(
        spec.classes[index], in_use, tuple(rows.values()), best if chosen else None
    )


def _remarks(pm: ProbabilityMap, reference: Reference, counts: SweepCounts) -> Iterator[str]:
    spec = pm.spec
    if pm.status != "complete":
        yield f"The result is not complete ({pm.status}): only what is there was compared."
    if lacks := left_out_words(pm):
        yield lacks
    if reference.regions:
        yield (
            f"Compared inside the regions of class {REGION}; where nothing is annotated in "
            "them, the reference is none of the classes."
        )
    else:
        yield "Compared where there are annotations; what lies outside them is not judged."
    if len(reference.used) == 1 and not reference.regions:
        (only,) = reference.used
        is_none = spec.background is not None and only == spec.classes[spec.background]
        unseen = "what is missed" if is_none else "false positives"
        yield (
            f"Only {only} is annotated, so {unseen} cannot be seen: annotate other tissue "
            f"too, or draw regions of class {REGION}."
        )
    if not spec.exclusive:
        yield "Each class is judged by itself; where others alone are annotated, it is absent."
    missing = counts.area - counts.evaluated
    if missing:
        part = 100 * missing / counts.area
        shown = "less than 0.1" if part < 0.05 else f"{part:.1f}"
        yield f"Not analysed, and so not compared: {shown} % of that area."
    for kind, number in reference.left_out.items():
        near = "".join(
            f"; {kind}={meant} as an alias would take it" for meant in near_classes(kind, spec)
        )
        yield (
            f"Left out, as if not drawn: {number} of class {kind!r}, which the model does not "
            f"have{near}."
        )
    if reference.outside:
        yield (
            f"Outside the slide: {reference.outside} of {sum(reference.used.values())} "
            "annotations; are they of this slide, and in its level-0 pixels?"
        )


def _nothing_compared(area: int, reference: Reference) -> JobError:
    if not area:
        return JobError(
            f"Of {sum(reference.used.values())} annotations none covers a pixel that may be "
            "compared; check that they are of this slide, in its level-0 pixels, and not excluded."
        )
    return JobError(
        f"None of the {area} annotated pixels was analysed; choose annotations inside the "
        "analysed tissue, or segment that part of the slide."
    )
