"""Cleans the labels of a whole map, strip by strip, as if they were one array.

Knows `Cleanup` and label images; knows neither probabilities nor files of results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.labels.cleanup import PixelCleanup
from napari_wsiseg.labels.components import Facts, SeamComponents

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

# What lies beside a hole without a label: not analysed, or outside the slide.
_OPEN = 0


@dataclass(frozen=True)
class Labelled:
    """Labels of a region before the clean-up.

    Parameters
    ----------
    labels
        (layers, height, width) uint8; each layer is cleaned by itself.
    analysed
        (height, width) bool: where there may be a label.
    """

    labels: Labels
    analysed: Mask


class Cleaner:
    """Cleans labels into an array.

    Parameters
    ----------
    read
        Gives the labels of a region.
    size
        Of the whole image.
    cleanup
        What is to be done.
    target
        (layers + 1, height, width) uint8, anything that is read and written by slices;
        holds the cleaned labels in the end, and as the last layer what is analysed: of a
        map that still grows, what was when its labels were read.
    rows
        Height of a strip.
    """

    def __init__(
        self,
        read: Callable[[Region], Labelled],
        size: Size,
        cleanup: PixelCleanup,
        target: Any,
        rows: int,
    ) -> None:
        self._size, self._cleanup, self._target = size, cleanup, target
        self._strips = [
            Region.from_bounds(top, 0, min(top + rows, size.height), size.width)
            for top in range(0, size.height, rows)
        ]
        self._layers = range(target.shape[0] - 1)
        self._rows = _Rows(read, self._strips)
        # Of each strip the first and the last row, (layers + 1, 2, width): other strips ask
        # for no more, and reading it would unpack all of the strip.
        self._seams: list[Labels] = []

    def steps(self) -> Iterator[float]:
        """Do it; yields what part is done, 0..1, after each strip."""
        sweeps: list[Callable[[int], None]] = [self._smooth]
        objects = [SeamComponents(diagonal=False) for _ in self._layers]
        holes = [SeamComponents(diagonal=True) for _ in self._layers]
        if self._cleanup.least_object > 1:
            sweeps += [
                lambda strip: self._collect_objects(strip, objects),
                lambda strip: self._drop_objects(strip, objects),
            ]
        if self._cleanup.largest_hole > 0:
            sweeps += [
                lambda strip: self._collect_holes(strip, holes),
                lambda strip: self._fill_holes(strip, holes),
            ]
        done, total = 0, len(sweeps) * len(self._strips)
        for sweep in sweeps:
            for strip in range(len(self._strips)):
                sweep(strip)
                done += 1
                yield done / total

    def _smooth(self, strip: int) -> None:
        region, halo = self._strips[strip], len(self._cleanup.reach) // 2
        top = max(region.top - halo, 0)
        found = self._rows.between(top, min(region.bottom + halo, self._size.height))
        own = slice(region.top - top, region.bottom - top)
        labels = found.labels
        if halo:
            labels = np.stack([_most_frequent(x, found.analysed, self._cleanup) for x in labels])
        whole = np.concatenate([labels[:, own], found.analysed[None, own].view(np.uint8)])
        self._target[:, *region.slices] = whole
        self._seams.append(whole[:, [0, -1]])

    def _collect_objects(self, strip: int, objects: list[SeamComponents]) -> None:
        for layer in self._layers:
            labels = self._cleaned(layer, self._strips[strip])
            numbers, facts = _objects(labels)
            objects[layer].add(numbers, labels, facts)

    def _drop_objects(self, strip: int, objects: list[SeamComponents]) -> None:
        for layer in self._layers:
            labels = self._cleaned(layer, self._strips[strip])
            numbers, facts = _objects(labels)
            small = objects[layer].whole(strip, facts).area < self._cleanup.least_object
            labels[small[numbers]] = 0
            self._target[layer, *self._strips[strip].slices] = labels
            self._seams[strip][layer] = labels[[0, -1]]

    def _collect_holes(self, strip: int, holes: list[SeamComponents]) -> None:
        for layer in self._layers:
            numbers, facts = self._holes(layer, strip)
            holes[layer].add(numbers, (numbers > 0).view(np.uint8), facts)

    def _fill_holes(self, strip: int, holes: list[SeamComponents]) -> None:
        region = self._strips[strip]
        for layer in self._layers:
            numbers, facts = self._holes(layer, strip)
            whole = holes[layer].whole(strip, facts)
            enclosed = (whole.low == whole.high) & (whole.low > _OPEN)
            fill = np.where(enclosed & (whole.area <= self._cleanup.largest_hole), whole.low, 0)
            fill[0] = 0
            labels = self._cleaned(layer, region)
            labels += fill.astype(np.uint8)[numbers]
            self._target[layer, *region.slices] = labels

    def _holes(self, layer: int, strip: int) -> tuple[NDArray[np.integer], Facts]:
        """The strip's patches of analysed pixels without a label, and what is around them.

        Filling a hole alters no other's neighbours: two holes never touch.
        """
        region = self._strips[strip]
        around = np.pad(self._cleaned(layer, region), 1)
        analysed = np.pad(self._cleaned(-1, region).view(bool), 1)
        for other, edge, row in ((strip - 1, -1, 0), (strip + 1, 0, -1)):
            if 0 <= other < len(self._seams):
                around[row, 1:-1] = self._seams[other][layer, edge]
                analysed[row, 1:-1] = self._seams[other][-1, edge]
        is_hole = analysed & (around == 0)
        inside = is_hole[1:-1, 1:-1]
        numbers, count = label(inside, connectivity=2, return_num=True)
        facts = Facts(
            area=np.bincount(numbers.ravel(), minlength=count + 1),
            low=np.full(count + 1, np.iinfo(np.int64).max),
            high=np.full(count + 1, _OPEN),
        )
        for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
            beside = np.s_[rows : rows + region.size.height, columns : columns + region.size.width]
            at_edge = inside & ~is_hole[beside]
            of, values = numbers[at_edge], around[beside][at_edge].astype(np.int64)
            np.minimum.at(facts.low, of, values)
            np.maximum.at(facts.high, of, values)
        return numbers, facts

    def _cleaned(self, layer: int, region: Region) -> Labels:
        return np.array(self._target[layer, *region.slices])


class _Rows:
    """The labels, row after row, each read once; rows that were passed are forgotten."""

    def __init__(self, read: Callable[[Region], Labelled], strips: list[Region]) -> None:
        self._read, self._ahead = read, iter(strips)
        self._held: deque[tuple[Region, Labelled]] = deque()

    def between(self, top: int, bottom: int) -> Labelled:
        """All layers from a row on to before another; neither may lie above those of earlier."""
        while not self._held or self._held[-1][0].bottom < bottom:
            strip = next(self._ahead)
            self._held.append((strip, self._read(strip)))
        while self._held[0][0].bottom <= top:
            self._held.popleft()
        parts = [
            (slice(max(top - strip.top, 0), bottom - strip.top), found)
            for strip, found in self._held
        ]
        return Labelled(
            np.concatenate([found.labels[:, rows] for rows, found in parts], axis=1),
            np.concatenate([found.analysed[rows] for rows, found in parts]),
        )


def _objects(labels: Labels) -> tuple[NDArray[np.integer], Facts]:
    numbers, count = label(labels, background=0, connectivity=1, return_num=True)
    nobody = np.zeros(count + 1, np.int64)
    return numbers, Facts(np.bincount(numbers.ravel(), minlength=count + 1), nobody, nobody)


def _most_frequent(labels: Labels, analysed: Mask, cleanup: PixelCleanup) -> Labels:
    """The label that most analysed pixels around have; of equals its own, then the lowest."""
    best = np.zeros_like(labels)
    votes, own = np.zeros((2, *labels.shape), _counter(cleanup.reach))
    for code in np.flatnonzero(np.bincount(labels.ravel(), minlength=1)).tolist():
        is_code = labels == code
        found = _within_reach(is_code & analysed, cleanup.reach)
        np.copyto(best, np.uint8(code), where=found > votes)
        np.maximum(votes, found, out=votes)
        np.copyto(own, found, where=is_code)
    return np.where(analysed & (own < votes), best, labels)


def _counter(reach: tuple[int, ...]) -> np.dtype[Any]:
    """The smallest type that holds as many pixels as the disc has: the less, the faster."""
    return np.min_scalar_type(sum(2 * sideways + 1 for sideways in reach))


def _within_reach(mask: Mask, reach: tuple[int, ...]) -> NDArray[Any]:
    """How many pixels of the mask lie within the disc around each pixel."""
    half, widest = len(reach) // 2, max(reach)
    height, width = mask.shape
    padded = np.pad(mask, ((half, half), (widest + 1, widest)))
    # Where the sums run over, their differences do as well: those of a disc are right.
    sums = np.cumsum(padded, axis=1, dtype=_counter(reach))
    found = np.zeros_like(mask, sums.dtype)
    for sideways in set(reach):
        across = (
            sums[:, widest + sideways + 1 :][:, :width] - sums[:, widest - sideways :][:, :width]
        )
        for row in (row for row, same in enumerate(reach) if same == sideways):
            found += across[row : row + height]
    return found
