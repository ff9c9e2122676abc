"""`measure`: the area of each class, in one pass over level 0.

Memory is that of a row of chunks, however high the slide. Knows no picture and no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from napari_wsiseg.labels import MODELS_OWN, LabelMap
from napari_wsiseg.measure.count import Count, Counts, counted, thresholds_beside
from napari_wsiseg.measure.estimate import estimated_counts
from napari_wsiseg.measure.table import (
    NOT_ANALYSED,
    TOTAL,
    UNCLASSIFIED,
    AreaRow,
    AreaTable,
    StainRow,
)
from napari_wsiseg.regions import NamedRegion, Shape, named
from napari_wsiseg.spec import FULL_DENSITY

if TYPE_CHECKING:
    from napari_wsiseg.geometry import Polygon, Region
    from napari_wsiseg.labels import Cleanup, DecisionRule
    from napari_wsiseg.store import ProbabilityMap


@overload
def measure(
    pm: ProbabilityMap,
    rule: DecisionRule = ...,
    cleanup: Cleanup | None = ...,
    *,
    regions: None = ...,
    estimate: bool = ...,
    corrected: bool = ...,
) -> AreaTable: ...


@overload
def measure(
    pm: ProbabilityMap,
    rule: DecisionRule = ...,
    cleanup: Cleanup | None = ...,
    *,
    regions: Sequence[NamedRegion | Region | Polygon],
    estimate: bool = ...,
    corrected: bool = ...,
) -> list[AreaTable]: ...


def measure(
    pm: ProbabilityMap,
    rule: DecisionRule = MODELS_OWN,
    cleanup: Cleanup | None = None,
    *,
    regions: Sequence[NamedRegion | Region | Polygon] | None = None,
    estimate: bool = False,
    corrected: bool = False,
) -> AreaTable | list[AreaTable]:
    """Areas of a map's classes within the tissue, from level 0.

    Independent classes (sigmoid, stain) are measured one by one: they may overlap, and
    unclassified is what is in none of them.

    Parameters
    ----------
    pm
        The map; of one that still grows, what is there.
    rule
        What makes a label. Areas are within the tissue whether or not it clips labels.
    cleanup
        What is done to labels before they are measured; None: nothing.
    regions
        A table each, in this order, of what lies inside, by pixels' centres. Boxes and
        outlines are in level-0 pixels of the slide. None: one table of the whole slide.
    estimate
        Numbers at once in place of the right ones: from the pyramid level nearest 2 Mpx, and
        a sample of level 0 that tells how far its averages are off. With a clean-up there is
        no such sample.
    corrected
        Measure the labels that were corrected by hand (see `correct`), which have their rule
        already. What has a label there counts as analysed tissue, wherever it lies.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have, an outline is none, or
        something is to be cleaned and the slide has no scale.
    ExportError
        If the labels have to be cleaned, and the disk refuses.
    StoreError
        If the map cannot be read, or nothing was corrected.
    """
    wanted = None if regions is None else named(regions)
    shapes = _shapes(wanted)
    with LabelMap(pm, rule, cleanup, corrected=corrected) as labels:
        counts = estimated_counts(labels, shapes) if estimate else counted(labels, shapes)
        make = _Tables(labels, estimated=estimate)
    return make.table(counts[0]) if wanted is None else make.tables(wanted, counts)


def measure_labels(
    labels: LabelMap, regions: Sequence[NamedRegion] | None = None
) -> list[AreaTable]:
    """The same of labels of level 0 that are there: a table a region, or one of the whole slide.

    Raises
    ------
    ExportError, StoreError
        As `measure`.
    """
    measuring = Measuring(labels, regions)
    for _ in measuring.steps():
        pass
    return measuring.tables()


class Measuring:
    """The same, step by step: for whoever shows how far it is, or may be stopped.

    Parameters
    ----------
    labels
        Of level 0.
    regions
        A table each; None: one of the whole slide.
    """

    def __init__(self, labels: LabelMap, regions: Sequence[NamedRegion] | None = None) -> None:
        self._labels, self._regions = labels, regions
        self._count = Count(labels, _shapes(regions))

    def steps(self) -> Iterator[float]:
        """Measure; yields what part of the slide is done, 0..1.

        Raises
        ------
        ExportError, StoreError
            As `measure`.
        """
        return self._count.steps()

    def tables(self) -> list[AreaTable]:
        """What was found, when the steps have come to their end."""
        counts, make = self._count.totals, _Tables(self._labels, estimated=False)
        if self._regions is None:
            return [make.table(counts[0])]
        return make.tables(self._regions, counts)


def _shapes(regions: Sequence[NamedRegion] | None) -> list[Shape | None]:
    return [None] if regions is None else [region.shape for region in regions]


class _Tables:
    """Makes tables of counts."""

    def __init__(self, labels: LabelMap, *, estimated: bool) -> None:
        self._pm, self._estimated = labels.pm, estimated
        self._corrected = bool(labels.corrections)
        self._is_plain = labels.cleanup.is_empty and not self._corrected
        spec = labels.pm.spec
        self._thresholds = labels.rule.thresholds_for(spec)
        self._labelled = [i for i in range(len(spec.classes)) if i != spec.background]

    def tables(self, regions: Sequence[NamedRegion], counts: Sequence[Counts]) -> list[AreaTable]:
        """A table a region."""
        return [self.table(*pair) for pair in zip(counts, regions, strict=True)]

    def table(self, counts: Counts, region: NamedRegion | None = None) -> AreaTable:
        """The table of a region; None: of the whole slide."""
        spec = self._pm.spec
        classified, analysed, tissue = np.rint(counts.whole).astype(np.int64).tolist()

        def row(name: str, pixels: float, *, is_part: bool = True) -> AreaRow:
            mpp, pixels = self._pm.mpp, round(pixels)
            area = None if mpp is None else pixels * mpp.y * mpp.x / 1e6
            fraction = pixels / analysed if is_part and analysed else None
            return AreaRow(name, pixels, area, fraction)

        rows = [row(spec.classes[i], float(counts.classes[i, 0])) for i in self._labelled]
        rows += [
            row(UNCLASSIFIED, analysed - classified),
            row(NOT_ANALYSED, tissue - analysed, is_part=False),
            row(TOTAL, tissue, is_part=False),
        ]
        return AreaTable(
            tuple(rows),
            tuple(self._stains(counts)) if spec.activation == "stain" else (),
            self._pm.mpp,
            self._pm.mpp_source,
            None if region is None else region.name,
            None if region is None else region.kind,
            self._estimated,
            self._corrected,
        )

    def _stains(self, counts: Counts) -> Iterator[StainRow]:
        full = FULL_DENSITY / 255 if self._pm.layout.dtype == "uint8" else FULL_DENSITY
        analysed = max(counts.whole[1], 1.0)
        for index in self._labelled:
            pixels, values, *wider = counts.classes[index].tolist()
            threshold = self._thresholds[index]
            densities = (FULL_DENSITY * value for value in thresholds_beside(threshold))
            fractions = (pixels / analysed for pixels in wider)
            yield StainRow(
                self._pm.spec.classes[index],
                FULL_DENSITY * threshold,
                values * full / pixels if pixels >= 0.5 else None,
                tuple(zip(densities, fractions, strict=True)) if self._is_plain else (),
            )
