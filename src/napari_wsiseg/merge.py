"""`RowMerger`: predictions in grid order in, finished bands out, exactly once each.

pixel = sum(w p) / sum(w) over all patches that cover it, in float32, added in grid
order. Knows no slide, no model, no store; holds the canvas rows that two rows of patches
share, as wide as the patches of the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.config import Window
from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import Indices, PatchGrid
from napari_wsiseg.messages import Band

_LEAST_WEIGHT = 1e-3

Array = Any
"""An array of numpy's or a tensor of torch's: the merger uses what they have in common."""


class Canvas(Protocol):
    """Where sums are held: a `Workspace`, or the memory of the device that predicts."""

    def take(self, shape: tuple[int, ...], dtype: type[np.float32]) -> Array:
        """A zero-filled array."""

    def settle(self, array: Array) -> Array:
        """The array itself, or what now stands in its place."""

    def release(self, array: Array) -> None:
        """Give an array back."""

    def place(self, array: NDArray[np.float32]) -> Array:
        """The same numbers beside the arrays that are taken."""


def window_weights(window: Window, size: Size) -> NDArray[np.float32]:
    """Weight of each pixel of a patch's answer.

    "uniform" is 1 everywhere. "gaussian" falls off to the edges with a standard
    deviation of an eighth of the side, as in nnU-Net (Isensee et al. 2021, Nature
    Methods 18, 203), but never below 0.001, so that a pixel that only a patch's
    corner covers keeps its value.
    """
    if window == "uniform":
        return np.ones((size.height, size.width), np.float32)
    rows, columns = (
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
        for n in (size.height, size.width)
    )
    return np.maximum(np.outer(rows, columns), _LEAST_WEIGHT).astype(np.float32)


class RowMerger:
    """Adds predictions up and lets go of the pixels that no later patch can reach.

    A row of patches is gone through from left to right. The columns left of the patch that came
    last are added up at once, over all patches of the row that reach them, and those of
    their rows that the next row of patches cannot reach leave as a band; the others are held.
    So a sum is touched once a row of patches, while it is in the processor's cache.

    Right for any depth of overlap, sparse rows and non-square patches. No two bands overlap,
    and pixels in none are not covered; their edges are multiples of the grid's scale, or those of
    a patch, and do not depend on how batches fell.

    Parameters
    ----------
    grid
        Where patches lie.
    patches
        (n, 2) the patches that will come, in grid order.
    classes
        Channels of a prediction.
    window
        Weight of a patch's pixels where patches overlap.
    canvas
        Where the sums are held; predictions must lie there too.
    """

    def __init__(
        self,
        grid: PatchGrid,
        patches: Indices,
        classes: int,
        window: Window,
        canvas: Canvas,
    ) -> None:
        self._grid = grid
        self._patches = patches
        self._bands = band_rows(grid, patches)
        self._frame = grid.frame(patches)
        self._canvas = canvas
        self._weights: Array | None = None
        # Equal weights need no multiplication: a patch then counts 1 where it lies.
        if window != "uniform":
            self._weights = canvas.place(window_weights(window, grid.patch_output))
        width = self._frame.size.width
        self._sums: Array = canvas.take((classes, held_rows(grid), width), np.float32)
        self._total: Array = canvas.take((held_rows(grid), width), np.float32)
        self._holds = np.zeros(width, bool)
        rows, self._widest = block_shape(grid)
        self._block_sums: Array = canvas.take((classes * rows * self._widest,), np.float32)
        self._block_total: Array = canvas.take((rows * self._widest,), np.float32)
        # A processor's cache holds one class of a block; a GPU wants few and large steps.
        step = 1 if isinstance(self._sums, np.ndarray) else classes
        self._steps = [slice(first, first + step) for first in range(0, classes, step)]
        self._came = 0
        self._column = 0
        self._answers: deque[_Answer] = deque()
        self._rows = self._next_rows(held=0)

    @property
    def final(self) -> int:
        """The canvas's rows above this one are final, and were yielded."""
        return self._rows.first

    def add(
        self,
        indices: Indices,
        predictions: Sequence[Array],
        failed: frozenset[int] = frozenset(),
    ) -> Iterator[Band]:
        """Add some patches and yield what became final.

        Parameters
        ----------
        indices
            (n, 2) grid rows and columns, following on those added before.
        predictions
            n answers (classes, height, width), float32 in 0..1; kept until the patches
            beside them came, so they must not change.
        failed
            Positions in the batch to be left uncovered.
        """
        self._sums = self._canvas.settle(self._sums)
        self._total = self._canvas.settle(self._total)
        for position, (row, column) in enumerate(indices):
            box = self._grid.output_region(int(row), int(column))
            left = box.left - self._frame.left
            yield from self._merge_to(left // self._grid.scale * self._grid.scale)
            if position not in failed:
                right = left + box.size.width
                self._answers.append(_Answer(left, right, box.size.height, predictions[position]))
            self._came += 1
            if self._came == len(self._patches) or self._patches[self._came, 0] != row:
                yield from self._merge_to(self._frame.size.width)
                self._column = 0
                self._rows = self._next_rows(self._rows.kept)

    def close(self) -> None:
        """Give the canvas back."""
        for array in (self._sums, self._total, self._block_sums, self._block_total):
            self._canvas.release(array)

    def _next_rows(self, held: int) -> _Rows:
        """What the next row of patches reaches; all of the canvas where there is none."""
        if self._came == len(self._patches):
            return _Rows(self._grid.canvas.height, 0, 0, 0, 0)
        row = int(self._patches[self._came, 0])
        first, end = self._bands[row]
        box = self._grid.output_region(row, 0)
        return _Rows(first, box.top - first, end - first, box.bottom - end, held)

    def _merge_to(self, end: int) -> Iterator[Band]:
        """Add up the frame's columns before `end`, in blocks no wider than a patch."""
        answers, holds = self._answers, self._holds
        while (first := self._column) < end:
            # In a block either all columns hold sums of rows above, or none.
            alike = holds[first : min(end, first + self._widest)] == holds[first]
            stop = first + int(np.argmin(alike) or len(alike))
            held = self._rows.held if holds[first] else 0
            if answers or held:
                yield from self._merge_block(slice(first, stop), held)
            holds[first:stop] = bool(answers) or held > 0
            self._column = stop
            while answers and answers[0].right <= stop:
                answers.popleft()

    def _merge_block(self, columns: slice, held: int) -> Iterator[Band]:
        """Add up some columns, of which so many rows hold sums; yield what is final of it."""
        done, kept = self._rows.done, self._rows.kept
        # In one piece, however narrow: numpy takes a third longer where there are gaps.
        shape = (done + kept, columns.stop - columns.start)
        total = self._block_total[: shape[0] * shape[1]].reshape(shape)
        sums = self._block_sums[: len(self._sums) * shape[0] * shape[1]].reshape((-1, *shape))
        parts = [self._part(answer, columns) for answer in self._answers]
        total[:held] = self._total[:held, columns]
        total[held:] = 0
        for part in parts:
            # Views with names: torch would copy what `a[b] += c` puts back.
            view = total[part.place]
            view += part.weights
        self._total[:kept, columns] = total[done:]
        # Where nothing was added the sum is 0, so any divisor will do.
        divisor = total[:done].clip(min=1 if self._weights is None else _LEAST_WEIGHT)
        for classes in self._steps:
            block = sums[classes]
            block[:, :held] = self._sums[classes, :held, columns]
            block[:, held:] = 0
            for part in parts:
                view = block[(slice(None), *part.place)]
                values = part.values[classes]
                view += values if self._weights is None else values * part.weights
            self._sums[classes, :kept, columns] = block[:, done:]
            final = block[:, :done]
            final /= divisor
        if done:
            left = self._frame.left + columns.start
            yield Band(self._rows.first, left, sums[:, :done], total[:done] > 0)

    def _part(self, answer: _Answer, columns: slice) -> _Part:
        """What an answer adds to some columns."""
        first, stop = max(answer.left, columns.start), min(answer.right, columns.stop)
        top, height = self._rows.offset, answer.height
        cut = (slice(height), slice(first - answer.left, stop - answer.left))
        return _Part(
            (slice(top, top + height), slice(first - columns.start, stop - columns.start)),
            answer.values[(slice(None), *cut)],
            1 if self._weights is None else self._weights[cut],
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer of the row of patches that is gone through; the canvas may cut it."""

    left: int
    right: int
    height: int
    values: Array


@dataclass(frozen=True, slots=True)
class _Part:
    """What an answer adds to a block: where, what, and with which weights."""

    place: tuple[slice, slice]
    values: Array
    weights: Array


@dataclass(frozen=True, slots=True)
class _Rows:
    """The canvas's rows that a row of patches reaches.

    Parameters
    ----------
    first
        Of them, at an edge of a stored pixel.
    offset
        Rows before the patches' own.
    done, kept
        Rows that are final when the row of patches is, and those below that are not yet.
    held
        Rows, from the first, that patches above have reached.
    """

    first: int
    offset: int
    done: int
    kept: int
    held: int


def held_rows(grid: PatchGrid) -> int:
    """Rows of sums that a merger holds at the most: what two rows of patches share."""
    shared = grid.patch_output.height - grid.stride.height + grid.scale - 1
    return min(shared, grid.canvas.height)


def held_batches(grid: PatchGrid, batch_size: int) -> int:
    """Batches of answers that a merger holds at the most, the one that is added among them.

    A batch is held as long as one of its answers is: until the patches of its row that overlap
    with it have come, and one beside it.
    """
    stride, scale = grid.stride.width, grid.scale
    # Columns are added up to the last edge of a stored pixel that is left of a patch.
    reach = grid.patch_output.width + scale - gcd(stride, scale)
    earlier = min(-(-reach // stride), grid.shape[1] - 1)
    return 1 + -(-earlier // batch_size)


def block_shape(grid: PatchGrid) -> tuple[int, int]:
    """Rows and columns that are added up at once at the most: a patch's, on whole stored pixels."""
    output, scale = grid.patch_output, grid.scale
    return output.height + scale - 1, -(-output.width // scale) * scale


def band_rows(grid: PatchGrid, patches: Indices) -> dict[int, tuple[int, int]]:
    """The canvas's rows that become final with each grid row of these patches: first, and end.

    They are cut between stored pixels; what no patch reaches is in none.
    """
    rows = np.unique(patches[:, 0])
    firsts = grid.tops[rows] // grid.scale * grid.scale
    ends = np.minimum(grid.tops[rows] + grid.patch_output.height, grid.canvas.height)
    ends[:-1] = np.minimum(ends[:-1], firsts[1:])
    bands = zip(firsts.tolist(), ends.tolist(), strict=True)
    return dict(zip(rows.tolist(), bands, strict=True))
