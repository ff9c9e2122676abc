"""Areas at once, for use while a threshold is moved: from a coarse level, set right by a sample.

A coarse level holds averages. What is decided on them differs from what level 0 gives, and
in much the same way all over the slide: fine structures drown, or grow. How far, is seen in chunks
of level 0 that are drawn at random: the difference estimator of survey sampling (Cochran,
Sampling Techniques, 1977, chapters 6 and 7). As many are read as its standard error asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region
from napari_wsiseg.labels import LabelMap
from napari_wsiseg.measure.count import Counter, Counts, Part, ReadPart, around, counted, workers

if TYPE_CHECKING:
    from napari_wsiseg.regions import Shape
    from napari_wsiseg.store import ProbabilityMap

_PIXELS = 2e6
# A quarter of what an estimate may be off, as a part of the analysed tissue.
_ERROR = 0.0025
_LEAST, _MOST, _BATCH = 32, 256, 16

Chunk = tuple[int, int]


def estimated_counts(labels: LabelMap, shapes: Sequence[Shape | None]) -> list[Counts]:
    """About what a count of these labels would find in each region; None: the whole slide.

    The same numbers every time. Small maps are counted. After a clean-up, which needs the
    whole map, the numbers are those of the coarse level alone.
    """
    pm, level = labels.pm, _level(labels.pm)
    if level == 0 or np.count_nonzero(pm.grid.owed) <= _LEAST:
        return counted(labels, shapes)
    cleanup, corrected = labels.cleanup, bool(labels.corrections)
    with (
        LabelMap(pm, labels.rule, cleanup, level=level, corrected=corrected) as coarse,
        LabelMap(pm, labels.rule, corrected=corrected) as fine,
    ):
        for _ in coarse.prepare():
            pass
        counter = Counter(coarse, shapes)
        view = counter.read(Region(0, 0, coarse.size))
        scale = pm.size.area / coarse.size.area
        totals = [
            counter.count(view, index, extent) * scale
            for index, extent in enumerate(counter.extents)
        ]
        if not coarse.cleanup.is_empty:
            return totals
        ranks = np.random.default_rng(0).permutation(pm.grid.owed.size)
        drawn = ranks.reshape(pm.grid.owed.shape)
        samples = [_Sample(counter, view, index, drawn, scale) for index in range(len(shapes))]
        _draw(Counter(fine, shapes), samples, pm.grid.chunk)
        pairs = zip(totals, samples, strict=True)
        return [_sound(total + sample.correction()) for total, sample in pairs]


def _level(pm: ProbabilityMap) -> int:
    """The level nearest 2 Mpx; its pixels do not straddle chunks of level 0."""
    sizes = [size.area for at, size in enumerate(pm.layout.sizes) if pm.grid.chunk % 2**at == 0]
    return min(range(len(sizes)), key=lambda at: abs(math.log(sizes[at] / _PIXELS)))


class _Sample:
    """Chunks of a region in random order, and what was seen in the first of them.

    Parameters
    ----------
    counter, view
        Of the coarse level, and all of that level.
    index
        The region's number.
    ranks
        (chunk rows, chunk columns): in which order chunks are drawn.
    scale
        Pixels of level 0 per coarse pixel.
    """

    def __init__(
        self, counter: Counter, view: ReadPart, index: int, ranks: NDArray[np.int64], scale: float
    ) -> None:
        self._counter, self._view, self.index, self._scale = counter, view, index, scale
        self._side = counter.chunk
        analysed, first = _analysed(counter, view, index)
        chunks = np.argwhere(analysed) + np.array(first)
        order = np.argsort(ranks[chunks[:, 0], chunks[:, 1]])
        self._chunks: list[Chunk] = [(row, column) for row, column in chunks[order].tolist()]
        self._weights = analysed[analysed > 0][order] * scale
        self._seen: list[Counts] = []

    def wanted(self) -> list[Chunk]:
        """The chunks to be seen next; none: it is enough."""
        seen = len(self._seen)
        if not seen:
            return self._chunks[:_LEAST]
        enough = seen >= _MOST or self._error() <= _ERROR
        return [] if enough else self._chunks[seen : seen + _BATCH]

    def see(self, chunk: Chunk, fine: Counts) -> None:
        """Take what level 0 has in a chunk: those asked for, in their order."""
        top, left = chunk[0] * self._side, chunk[1] * self._side
        box = Region.from_bounds(top, left, top + self._side, left + self._side)
        box = box.intersection(self._counter.extents[self.index])
        coarse = self._counter.count(self._view, self.index, box)
        self._seen.append(fine - coarse * self._scale)

    def correction(self) -> Counts:
        """What is to be added to the coarse level's numbers."""
        total = Counts.none(self._counter.classes)
        for difference in self._seen:
            total += difference
        seen = float(self._weights[: len(self._seen)].sum())
        return total * (float(self._weights.sum()) / seen) if seen else total

    def _error(self) -> float:
        """Standard error of the worst class, as a part of the analysed tissue."""
        seen, every = len(self._seen), len(self._chunks)
        if seen == every:
            return 0.0
        weights = self._weights[:seen]
        found = np.array([[*counts.classes[:, 0], counts.whole[0]] for counts in self._seen])
        rest = found - found.sum(axis=0) / weights.sum() * weights[:, None]
        variances = (rest**2).sum(axis=0) / (seen - 1)
        errors = np.sqrt((1 - seen / every) * variances / seen) / weights.mean()
        return float(errors.max())


def _analysed(counter: Counter, view: ReadPart, index: int) -> tuple[NDArray[np.int64], Chunk]:
    """Analysed coarse pixels of a region, by chunk of level 0, and the first of those."""
    extent, side = counter.extents[index], counter.chunk
    if extent.is_empty:
        return np.zeros((0, 0), np.int64), (0, 0)
    inside = view.analysed[extent.slices]
    mask = counter.mask(index, extent)
    if mask is not None:
        inside = inside & mask
    above, before = extent.top % side, extent.left % side
    below, after = -extent.bottom % side, -extent.right % side
    padded = np.pad(inside, ((above, below), (before, after)))
    rows, columns = padded.shape[0] // side, padded.shape[1] // side
    sums = padded.reshape(rows, side, columns, side).sum(axis=(1, 3), dtype=np.int64)
    return sums, (extent.top // side, extent.left // side)


def _draw(fine: Counter, samples: Sequence[_Sample], side: int) -> None:
    """Let all samples see what they want; a chunk that several want is read once."""

    def look(wish: tuple[Chunk, list[int]]) -> dict[tuple[Chunk, int], Counts]:
        (row, column), indices = wish
        top, left = row * side, column * side
        chunk = Region.from_bounds(top, left, top + side, left + side)
        boxes = [(index, fine.extents[index].intersection(chunk)) for index in indices]
        # What a coarse pixel holds may begin just beside the chunk.
        boxes = [(index, box) for index, box in boxes if not box.is_empty]
        if not boxes:
            return {}
        part = Part(around([box for _, box in boxes]), is_owed=True, boxes=tuple(boxes))
        return {(wish[0], index): counts for index, counts in fine(part)}

    nothing = Counts.none(fine.classes)
    with workers() as pool:
        while wishes := [(sample, chunks) for sample in samples if (chunks := sample.wanted())]:
            wanted: dict[Chunk, list[int]] = {}
            for sample, chunks in wishes:
                for chunk in chunks:
                    wanted.setdefault(chunk, []).append(sample.index)
            found: dict[tuple[Chunk, int], Counts] = {}
            for answer in pool.map(look, wanted.items()):
                found |= answer
            for sample, chunks in wishes:
                for chunk in chunks:
                    sample.see(chunk, found.get((chunk, sample.index), nothing))


def _sound(counts: Counts) -> Counts:
    """The same without what chance alone brings about: less than nothing, more than all."""
    classified, analysed, tissue = np.maximum(counts.whole, 0).tolist()
    analysed = min(analysed, tissue)
    classes = np.clip(counts.classes, 0, [[analysed, np.inf, analysed, analysed]])
    return Counts(classes, np.array([min(classified, analysed), analysed, tissue]))
