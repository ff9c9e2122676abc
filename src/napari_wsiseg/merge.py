"""`RowMerger`: predictions in grid order in, finished bands out, exactly once each.

pixel = sum(w p) / sum(w) over all patches that cover it, in float32, added in grid
order. Knows no slide, no model, no store; holds one ring of canvas rows, as high
as a patch and as wide as the patches of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """Adds predictions up and lets go of the rows that no later patch can reach.

    Right for any depth of overlap, sparse rows and non-square patches. The bands
    partition the rows of the canvas; their edges are multiples of the grid's scale
    and do not depend on how batches fell.

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
        self._classes = classes
        self._frame = grid.frame(patches)
        self._canvas = canvas
        # Equal weights need no multiplication: a patch then counts 1 where it lies.
        self._weights: Array | None = None
        if window != "uniform":
            self._weights = canvas.place(window_weights(window, grid.patch_output))
        rows, width = ring_rows(grid), self._frame.size.width
        self._sums: Array = canvas.take((classes, rows, width), np.float32)
        self._total: Array = canvas.take((rows, width), np.float32)
        self._rows = rows
        self._top = 0
        self._bottom = 0

    def add(
        self,
        indices: Indices,
        predictions: Sequence[Array],
        failed: frozenset[int] = frozenset(),
    ) -> Iterator[Band]:
        """Add some patches and yield the bands that became final.

        Parameters
        ----------
        indices
            (n, 2) grid rows and columns, following on those added before.
        predictions
            n answers (classes, height, width), float32 in 0..1.
        failed
            Positions in the batch to be left uncovered.
        """
        self._sums = self._canvas.settle(self._sums)
        self._total = self._canvas.settle(self._total)
        for position, (row, column) in enumerate(indices):
            yield from self._emit(int(self._grid.tops[row]))
            if position not in failed:
                self._add_patch(int(row), int(column), predictions[position])

    def finish(self) -> Iterator[Band]:
        """Yield what is left, down to the last row of the canvas."""
        yield from self._emit(self._grid.canvas.height)

    def close(self) -> None:
        """Give the canvas back."""
        self._canvas.release(self._sums)
        self._canvas.release(self._total)

    def _add_patch(self, row: int, column: int, prediction: Array) -> None:
        box = self._grid.output_region(row, column)
        left = box.left - self._frame.left
        columns = slice(left, left + box.size.width)
        for rows, start in self._ring(box.top, box.bottom):
            height = rows.stop - rows.start
            cut = (slice(start, start + height), slice(0, box.size.width))
            part = prediction[(slice(None), *cut)]
            # Views with names: torch would copy what `a[b] += c` puts back.
            sums, total = self._sums[:, rows, columns], self._total[rows, columns]
            if self._weights is None:
                sums += part
                total += 1
            else:
                weights = self._weights[cut]
                sums += part * weights
                total += weights
        self._bottom = max(self._bottom, box.bottom)

    def _emit(self, row: int) -> Iterator[Band]:
        """Bands from the first row that is still held up to `row`."""
        scale = self._grid.scale
        end = row if row >= self._grid.canvas.height else row // scale * scale
        held = min(self._bottom, end)
        if held < end:  # all that was ever added is final: cut at the scale, not amid a pixel
            held = min(-(-held // scale) * scale, end)
        for rows, start in self._ring(self._top, held):
            top = self._top + start
            spans = self._spans(top, top + rows.stop - rows.start)
            yield self._band(rows, top, spans)
            for columns in spans:
                self._sums[:, rows, columns] = 0
                self._total[rows, columns] = 0
        self._top = max(self._top, held)
        if self._top < end:
            yield self._gap(self._top, end)
            self._top = end

    def _band(self, rows: slice, top: int, spans: list[slice]) -> Band:
        sums, total = self._sums[:, rows], self._total[rows]
        for columns in spans:
            part = sums[:, :, columns]
            # Where nothing was added the sum is 0, so any divisor will do.
            part /= total[:, columns].clip(min=1 if self._weights is None else _LEAST_WEIGHT)
        return Band(top, self._frame.left, sums, total > 0)

    def _spans(self, top: int, bottom: int) -> list[slice]:
        """The canvas's columns that patches over these rows cover; all others hold 0.

        Where tissue is sparse, most of the canvas need not be touched.
        """
        tops, width = self._grid.tops, self._grid.patch_output.width
        first = np.searchsorted(tops, top - self._grid.patch_output.height, "right")
        end = np.searchsorted(tops, bottom, "left")
        low, high = np.searchsorted(self._patches[:, 0], [first, end])
        lefts = self._grid.lefts[np.unique(self._patches[low:high, 1])] - self._frame.left
        starts = lefts[np.diff(lefts, prepend=-width - 1) > width]
        stops = lefts[np.diff(lefts, append=np.iinfo(lefts.dtype).max) > width] + width
        return [slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]

    def _gap(self, top: int, bottom: int) -> Band:
        """Rows that no patch of this run touches; costs no memory."""
        shape = (bottom - top, self._frame.size.width)
        nothing = np.broadcast_to(np.float32(0), (self._classes, *shape))
        return Band(top, self._frame.left, nothing, np.broadcast_to(np.False_, shape))

    def _ring(self, top: int, bottom: int) -> Iterator[tuple[slice, int]]:
        """The ring's rows that hold canvas rows [top, bottom), with their offset from `top`."""
        row = top
        while row < bottom:
            first = row % self._rows
            height = min(bottom - row, self._rows - first)
            yield slice(first, first + height), row - top
            row += height


def ring_rows(grid: PatchGrid) -> int:
    """Rows of the canvas that a merger holds at once: a patch, and a stored pixel begun."""
    rows = min(grid.patch_output.height, grid.canvas.height) + grid.scale - 1
    return -(-rows // grid.scale) * grid.scale
