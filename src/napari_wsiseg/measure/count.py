"""Counts pixels of labels, part by part, of many regions in one pass.

Knows neither areas nor fractions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX, Region
from napari_wsiseg.labels import DecisionRule, decide_masks
from napari_wsiseg.regions import Shape, extent_of, mask_of
from napari_wsiseg.spec import FULL_DENSITY

if TYPE_CHECKING:
    from napari_wsiseg.labels import LabelBlock, LabelMap
    from napari_wsiseg.spec import ModelSpec

# Chunks read at once: fewer make calls dearer than the reading, more take memory.
_GROUP = 8
# How far beside the threshold a stain's area is given too, in optical density.
_BESIDE = 0.05

# Parts handed to the workers at once.
_BATCH = 64
_MOST_WORKERS = 8

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """Pixels found; all numbers add up over parts.

    Parameters
    ----------
    classes
        (classes, 4) float64: pixels of each class, sum of its stored values there, pixels
        at a lower and at a higher threshold. The last three are for stains alone.
    whole
        (3,) float64: pixels of any class, of analysed tissue, of tissue.
    """

    classes: NDArray[np.float64]
    whole: NDArray[np.float64]

    @classmethod
    def none(cls, classes: int) -> Counts:
        """Nothing found of this many classes."""
        return cls(np.zeros((classes, 4)), np.zeros(3))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.classes + other.classes, self.whole + other.whole)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.classes - other.classes, self.whole - other.whole)

    def __mul__(self, factor: float) -> Counts:
        return Counts(self.classes * factor, self.whole * factor)


@dataclass(frozen=True)
class Part:
    """A few chunks, or what regions need of them.

    Parameters
    ----------
    region
        In pixels of the level.
    is_owed
        Whether the model may have spoken there.
    boxes
        The regions that lie in it, by number, each with its box inside `region`.
    """

    region: Region
    is_owed: bool
    boxes: tuple[tuple[int, Region], ...]


class Counter:
    """Counts what labels regions have.

    Parameters
    ----------
    labels
        The labels; prepared.
    shapes
        The regions, in level-0 slide pixels; None: the whole slide.

    Attributes
    ----------
    extents
        Where each region lies, in pixels of the level.
    classes
        How many the model has.
    chunk
        Side of what a chunk of level 0 covers, in pixels of the level.
    """

    def __init__(self, labels: LabelMap, shapes: Sequence[Shape | None]) -> None:
        self._labels, self._shapes, self._pm = labels, shapes, labels.pm
        scale = 2**labels.level
        self._downsample = YX(*(value * scale for value in labels.pm.downsample))
        self.extents = [self._extent(shape) for shape in shapes]
        spec = labels.pm.spec
        self.classes, self.chunk = len(spec.classes), labels.pm.grid.chunk >> labels.level
        is_plain = labels.cleanup.is_empty and not labels.corrections
        is_plain_stain = spec.activation == "stain" and is_plain
        self._beside = _rules_beside(spec, labels.rule) if is_plain_stain else ()

    def _extent(self, shape: Shape | None) -> Region:
        size = self._labels.size
        if shape is None:
            return Region(0, 0, size)
        return extent_of(shape, self._downsample).clipped(size)

    def parts(self) -> Iterator[Part]:
        """Where regions lie, chunk row by chunk row; chunks that no region meets are in none."""
        tops = np.array([extent.top for extent in self.extents])
        bottoms = np.array([extent.bottom for extent in self.extents])
        side, level = self._pm.grid.chunk, self._labels.level
        for row, strip in enumerate(self._labels.strips()):
            met = np.flatnonzero((tops < strip.bottom) & (bottoms > strip.top)).tolist()
            if not met:
                continue
            # Coarse chunks are few, and hold what many fine ones were owed; a person may paint
            # anywhere.
            is_sparse = level == 0 and not self._labels.corrections
            owed = self._pm.grid.owed[row] > 0 if is_sparse else None
            chunks = -(-strip.size.width // side)
            for first, end, is_owed in _runs(owed, chunks):
                right = min(end * side, strip.right)
                region = Region.from_bounds(strip.top, first * side, strip.bottom, right)
                boxes = [(i, self.extents[i].intersection(region)) for i in met]
                boxes = [(i, box) for i, box in boxes if not box.is_empty]
                if boxes:
                    yield Part(around([box for _, box in boxes]), is_owed, tuple(boxes))

    def __call__(self, part: Part) -> list[tuple[int, Counts]]:
        """What each region has in a part, by its number."""
        read = self.read(part.region, is_owed=part.is_owed)
        return [(index, self.count(read, index, box)) for index, box in part.boxes]

    def read(self, region: Region, *, is_owed: bool = True) -> ReadPart:
        """What is counted of, read once for all regions."""
        return ReadPart(self._labels, self._beside, region, is_owed=is_owed)

    def count(self, read: ReadPart, index: int, box: Region) -> Counts:
        """What a region has in a box of what was read."""
        inside = self.mask(index, box)
        if inside is not None and not inside.any():
            return Counts.none(self.classes)
        return read.count(box, inside)

    def mask(self, index: int, box: Region) -> Mask | None:
        """(height, width) bool: the pixels of a box that a region holds; None: all."""
        shape = self._shapes[index]
        return None if shape is None else mask_of(shape, box, self._downsample)


def counted(labels: LabelMap, shapes: Sequence[Shape | None]) -> list[Counts]:
    """What each region has, in one pass; None: the whole slide."""
    count = Count(labels, shapes)
    for _ in count.steps():
        pass
    return count.totals


class Count:
    """A count of regions, in one pass.

    Parameters
    ----------
    labels
        The labels.
    shapes
        The regions, in level-0 slide pixels; None: the whole slide.

    Attributes
    ----------
    totals
        What each region has; complete after the last of the steps.
    """

    def __init__(self, labels: LabelMap, shapes: Sequence[Shape | None]) -> None:
        self._labels, self._shapes = labels, shapes
        self.totals = [Counts.none(len(labels.pm.spec.classes)) for _ in shapes]

    def steps(self) -> Iterator[float]:
        """Count; yields what part of the slide is done, 0..1."""
        for _ in self._labels.prepare():
            pass
        counter = Counter(self._labels, self._shapes)
        parts = counter.parts()
        # Each worker holds a few chunks; what it hands back is a few numbers.
        with workers() as pool:
            while batch := list(islice(parts, _BATCH)):
                for found in pool.map(counter, batch):
                    for index, counts in found:
                        self.totals[index] += counts
                yield batch[-1].region.bottom / self._labels.size.height


def workers() -> ThreadPoolExecutor:
    """Threads that read: a few, and no more than there are cores."""
    return ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1))


class ReadPart:
    """A part of a level, as it was read.

    Parameters
    ----------
    labels
        What it is read from.
    beside
        The rules with lower and with higher thresholds; none: they are not asked for.
    region
        In pixels of the level.
    is_owed
        Whether the model may have spoken there; if not, only the tissue is read.
    """

    def __init__(
        self,
        labels: LabelMap,
        beside: tuple[DecisionRule, ...],
        region: Region,
        *,
        is_owed: bool,
    ) -> None:
        pm = labels.pm
        self.region, self._spec, self._layers = region, pm.spec, labels.layers
        self._found: LabelBlock | None = None
        self._wider: list[Mask] = []
        if not is_owed:
            self._tissue = pm.read_tissue(region)
            self.analysed = np.zeros((region.size.height, region.size.width), bool)
            return
        self._found = labels.read(region)
        block = self._found.block
        self._tissue, self.analysed = block.tissue, block.analysed
        if self.analysed.any():
            asked = (block.values, self.analysed, None, pm.spec)
            self._wider = [decide_masks(*asked, rule) for rule in beside]

    def count(self, box: Region, inside: Mask | None) -> Counts:
        """What lies in a box of the part, and inside a mask of the box's shape."""
        at = (..., *box.shifted(-self.region.top, -self.region.left).slices)
        counts = Counts.none(len(self._spec.classes))
        counts.whole[2] = _number(box, None if self._tissue is None else self._tissue[at], inside)
        if self._found is None:
            return counts
        analysed = self.analysed[at] if inside is None else self.analysed[at] & inside
        counts.whole[1] = np.count_nonzero(analysed)
        if not counts.whole[1]:
            return counts
        labels = self._found.labels[at] * analysed
        counts.whole[0] = np.count_nonzero(labels if len(labels) == 1 else labels.any(axis=0))
        for layer, codes in zip(labels, self._layers, strict=True):
            for code in codes:
                mask = layer == code
                counts.classes[code - 1, 0] = np.count_nonzero(mask)
                if self._spec.activation == "stain":
                    values = self._found.block.values[code - 1][at]
                    counts.classes[code - 1, 1] = values.sum(dtype=np.float64, where=mask)
        for number, wider in enumerate(self._wider, 2):
            counts.classes[:, number] = np.count_nonzero(wider[at] & analysed, axis=(1, 2))
        return counts


def _number(box: Region, tissue: Mask | None, inside: Mask | None) -> int:
    masks = [mask for mask in (tissue, inside) if mask is not None]
    if not masks:
        return box.size.area
    return int(np.count_nonzero(masks[0] if len(masks) == 1 else masks[0] & masks[1]))


def _runs(owed: Mask | None, chunks: int) -> Iterator[tuple[int, int, bool]]:
    """Neighbours that are all owed, or all not, as (first, end, owed), a few at a time."""
    asked = np.ones(chunks, bool) if owed is None else owed
    edges = [0, *(np.flatnonzero(np.diff(asked)) + 1).tolist(), chunks]
    for first, end in pairwise(edges):
        for start in range(first, end, _GROUP):
            yield start, min(start + _GROUP, end), bool(asked[start])


def around(boxes: Sequence[Region]) -> Region:
    """The least region that holds all boxes."""
    return Region.from_bounds(
        min(box.top for box in boxes),
        min(box.left for box in boxes),
        max(box.bottom for box in boxes),
        max(box.right for box in boxes),
    )


def thresholds_beside(threshold: float) -> tuple[float, float]:
    """A lower and a higher one, as stored (optical density / 2)."""
    step = _BESIDE / FULL_DENSITY
    return max(threshold - step, 0.0), min(threshold + step, 1.0)


def _rules_beside(spec: ModelSpec, rule: DecisionRule) -> tuple[DecisionRule, ...]:
    own = rule.thresholds_for(spec)
    labelled = [i for i in range(len(spec.classes)) if i != spec.background]
    beside = {spec.classes[i]: thresholds_beside(own[i]) for i in labelled}
    return tuple(
        replace(rule, thresholds={name: pair[side] for name, pair in beside.items()})
        for side in (0, 1)
    )
