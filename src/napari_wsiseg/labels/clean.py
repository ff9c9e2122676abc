"""Cleans the labels of a whole map, strip by strip, as if they were one array.

Knows `Cleanup` and label images; knows neither probabilities nor files of results.
"""

from __future__ import annotations

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

# Among a hole's neighbours: what is part of it, or another hole.
_HOLE = -1
# What is not analysed, and what lies outside the slide.
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
        (layers, height, width) uint8, anything that is read and written by slices; holds
        the cleaned labels in the end.
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
        self._read, self._size, self._cleanup = read, size, cleanup
        self._target = target
        self._strips = [
            Region.from_bounds(top, 0, min(top + rows, size.height), size.width)
            for top in range(0, size.height, rows)
        ]
        self._layers = range(target.shape[0])

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
        found = self._read(_with_rows(region, halo, self._size))
        labels = found.labels
        if halo:
            labels = np.stack([_most_frequent(x, found.analysed, self._cleanup) for x in labels])
        first = region.top - max(region.top - halo, 0)
        self._target[:, *region.slices] = labels[:, first : first + region.size.height]

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
        wider = _with_rows(region, 1, self._size)
        labels, analysed = self._cleaned(layer, wider), self._read(wider).analysed
        around = np.full((region.size.height + 2, region.size.width + 2), _OPEN, np.int16)
        first = 1 - (region.top - wider.top)
        around[first : first + wider.size.height, 1:-1] = np.where(
            analysed & (labels == 0), np.int16(_HOLE), labels.astype(np.int16)
        )
        numbers, count = label(around[1:-1, 1:-1] == _HOLE, connectivity=2, return_num=True)
        facts = Facts(
            area=np.bincount(numbers.ravel(), minlength=count + 1),
            low=np.full(count + 1, np.iinfo(np.int64).max),
            high=np.full(count + 1, _OPEN),
        )
        for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
            beside = around[rows:, columns:][: region.size.height, : region.size.width]
            at_edge = (numbers > 0) & (beside != _HOLE)
            np.minimum.at(facts.low, numbers[at_edge], beside[at_edge])
            np.maximum.at(facts.high, numbers[at_edge], beside[at_edge])
        return numbers, facts

    def _cleaned(self, layer: int, region: Region) -> Labels:
        return np.array(self._target[layer, *region.slices])


def _with_rows(region: Region, rows: int, size: Size) -> Region:
    """The region with more rows above and below, inside the image."""
    top, bottom = region.top - rows, region.bottom + rows
    return Region.from_bounds(top, region.left, bottom, region.right).clipped(size)


def _objects(labels: Labels) -> tuple[NDArray[np.integer], Facts]:
    numbers, count = label(labels, background=0, connectivity=1, return_num=True)
    nobody = np.zeros(count + 1, np.int64)
    return numbers, Facts(np.bincount(numbers.ravel(), minlength=count + 1), nobody, nobody)


def _most_frequent(labels: Labels, analysed: Mask, cleanup: PixelCleanup) -> Labels:
    """The label that most analysed pixels around have; of equals its own, then the lowest."""
    best, votes = np.zeros_like(labels), np.full(labels.shape, -1, np.int32)
    own = np.zeros(labels.shape, np.int32)
    for code in np.flatnonzero(np.bincount(labels.ravel(), minlength=1)):
        found = _within_reach((labels == code) & analysed, cleanup.reach)
        wins = found > votes
        best[wins], votes[wins] = code, found[wins]
        np.copyto(own, found, where=labels == code)
    return np.where(analysed & (own < votes), best, labels)


def _within_reach(mask: Mask, reach: tuple[int, ...]) -> NDArray[np.int32]:
    """How many pixels of the mask lie within the disc around each pixel."""
    half, widest = len(reach) // 2, max(reach)
    height, width = mask.shape
    padded = np.pad(mask, ((half, half), (widest + 1, widest)))
    sums = np.cumsum(padded, axis=1, dtype=np.int32)
    found = np.zeros(mask.shape, np.int32)
    for row, sideways in enumerate(reach):
        part = sums[row : row + height]
        found += part[:, widest + sideways + 1 :][:, :width]
        found -= part[:, widest - sideways :][:, :width]
    return found
