"""`PatchGrid`: where patches and chunks lie, in which order, and who owes what to whom.

All order and overlap arithmetic of a run is here; no other module computes a
position. Knows no pixel, no slide, no model and no file.

Three lattices lie over the *canvas* (the slide at the read resolution): output
boxes of patches, input boxes around them, and the store's level-0 chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Region, Size

CHUNK = 512
"""Side of a stored chunk, in pixels of the stored map, unless a grid says otherwise."""

MOST_PATCHES = 10**8
"""Patches of the largest grid: some GB of bookkeeping; beyond that a job is a mistake."""

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


def _ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _no_mask() -> Mask:
    return np.empty((0, 0), bool)


@dataclass(frozen=True)
class _Axis:
    """The patches and chunks along one axis."""

    length: int
    output: int
    stride: int
    chunk: int

    @property
    def starts(self) -> Indices:
        """First output pixel of each patch: 0, s, 2s, ... below ceil(length / s) * s."""
        return np.arange(_ceil_div(self.length, self.stride), dtype=np.intp) * self.stride

    @property
    def chunks(self) -> int:
        return _ceil_div(self.length, self.chunk)

    def meetings(self) -> Mask:
        """(patches, chunks): whether the clipped output of a patch meets a chunk."""
        starts = self.starts[:, None]
        stops = np.minimum(starts + self.output, self.length)
        edges = np.arange(self.chunks)[None, :] * self.chunk
        return (starts < edges + self.chunk) & (stops > edges)


@dataclass(frozen=True)
class PatchGrid:
    """Where the patches of a run lie.

    Output tops are 0, s, 2s, ... below ceil(H / s) * s (lefts likewise); the input
    box lies (input - output) // 2 above and left of the output box. Grid order is
    row by row, left to right.

    Parameters
    ----------
    canvas
        The slide's size at the read resolution.
    patch_input, patch_output, stride
        In pixels of the canvas.
    scale
        Canvas pixels per pixel of the stored map, along each axis.
    keep
        (rows, columns) bool: the patches that are computed; not given: all.
    chunk
        Side of the store's level-0 chunks, in pixels of the stored map; even, so that
        no coarser pixel lies on two chunk rows of a level.

    Raises
    ------
    JobError
        If the output is larger than the input, the stride larger than the output
        (which would leave gaps), the chunk's side odd or anything below one pixel; if
        there are more than `MOST_PATCHES`.
    """

    canvas: Size
    patch_input: Size
    patch_output: Size
    stride: Size
    scale: int = 1
    keep: Mask = field(default_factory=_no_mask, compare=False)
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        for name, size in (("patch_input", self.patch_input), ("stride", self.stride)):
            if min(size.height, size.width) < 1:
                raise JobError(f"{name} is {size}; it must be at least 1 px.")
        for axis in ("height", "width"):
            sizes = (getattr(s, axis) for s in (self.patch_input, self.patch_output, self.stride))
            given, output, stride = sizes
            if output > given:
                raise JobError(
                    f"The patch output {axis} {output} is larger than its input {axis} {given}; "
                    "the output lies inside the input."
                )
            if stride > output:
                raise JobError(
                    f"The stride {axis} {stride} is larger than the patch output {axis} {output} "
                    f"and would leave gaps; give at most {output}."
                )
        if self.scale < 1 or self.chunk < 2 or self.chunk % 2:
            raise JobError(
                f"The scale is {self.scale} and the chunk {self.chunk}; "
                "give a scale of at least 1 and an even chunk."
            )
        rows, columns = self.shape
        if rows * columns > MOST_PATCHES:
            raise JobError(
                f"{rows} x {columns} patches would lie on {self.canvas}, more than {MOST_PATCHES}; "
                f"choose a stride above {self.stride} or a coarser resolution."
            )
        if self.keep.size == 0:
            object.__setattr__(self, "keep", np.ones(self.shape, bool))
        elif self.keep.shape != self.shape:
            raise JobError(f"The mask of kept patches is {self.keep.shape}, the grid {self.shape}.")

    @cached_property
    def _y(self) -> _Axis:
        return _Axis(
            self.canvas.height, self.patch_output.height, self.stride.height, self.chunk_side
        )

    @cached_property
    def _x(self) -> _Axis:
        return _Axis(self.canvas.width, self.patch_output.width, self.stride.width, self.chunk_side)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return (
            _ceil_div(self.canvas.height, self.stride.height),
            _ceil_div(self.canvas.width, self.stride.width),
        )

    @cached_property
    def tops(self) -> Indices:
        """First output row of each grid row, in canvas pixels."""
        return self._y.starts

    @cached_property
    def lefts(self) -> Indices:
        """First output column of each grid column, in canvas pixels."""
        return self._x.starts

    @property
    def margin(self) -> tuple[int, int]:
        """Rows above and columns left of the output that belong to the input only."""
        return (
            (self.patch_input.height - self.patch_output.height) // 2,
            (self.patch_input.width - self.patch_output.width) // 2,
        )

    @property
    def chunk_side(self) -> int:
        """Side of a stored chunk, in canvas pixels."""
        return self.chunk * self.scale

    @property
    def map_size(self) -> Size:
        """Size of the stored map."""
        return Size(
            _ceil_div(self.canvas.height, self.scale), _ceil_div(self.canvas.width, self.scale)
        )

    def output_region(self, row: int, column: int) -> Region:
        """Where the patch's answer lies, cut at the canvas's edge."""
        box = Region(int(self.tops[row]), int(self.lefts[column]), self.patch_output)
        return box.clipped(self.canvas)

    def input_region(self, row: int, column: int) -> Region:
        """What the patch reads; may lie partly outside the canvas."""
        rows, columns = self.margin
        return Region(
            int(self.tops[row]) - rows, int(self.lefts[column]) - columns, self.patch_input
        )

    def masked(self, mask: Mask | TissueTable, min_mask_ratio: float = 0.0) -> Self:
        """The grid that keeps the patches whose input holds enough tissue.

        Parameters
        ----------
        mask
            (h, w) bool over the whole canvas, at any resolution.
        min_mask_ratio
            A patch is kept when more than this part of its input's mask pixels is
            set; a mask pixel that the input touches counts whole.
        """
        table = mask if isinstance(mask, TissueTable) else TissueTable(mask)
        rows, columns = self.margin
        height, width = table.shape
        y = _scaled(self.tops - rows, self.patch_input.height, height, self.canvas.height)
        x = _scaled(self.lefts - columns, self.patch_input.width, width, self.canvas.width)
        area = (y[1] - y[0])[:, None] * (x[1] - x[0])[None, :]
        return replace(self, keep=self.keep & (table.counts(y, x) > min_mask_ratio * area))

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """Rows and columns of the store's level-0 chunks."""
        return self._y.chunks, self._x.chunks

    @cached_property
    def owed(self) -> Indices:
        """(chunk rows, chunk columns): how many kept patches each chunk waits for."""
        by_rows = self._y.meetings().T.astype(np.intp)
        by_columns = self._x.meetings().astype(np.intp)
        return by_rows @ self.keep.astype(np.intp) @ by_columns

    def patches_for(self, chunks: Mask) -> Indices:
        """(n, 2) grid rows and columns of the patches that these chunks are owed, in grid order."""
        by_rows = self._y.meetings().astype(np.intp)
        by_columns = self._x.meetings().T.astype(np.intp)
        wanted = by_rows @ chunks.astype(np.intp) @ by_columns > 0
        return np.argwhere(wanted & self.keep)

    def chunk_region(self, row: int, column: int) -> Region:
        """The canvas pixels of a chunk, cut at the canvas's edge."""
        side = self.chunk_side
        return Region(row * side, column * side, Size(side, side)).clipped(self.canvas)

    def frame(self, patches: Indices) -> Region:
        """The smallest box of whole stored pixels that holds the outputs of these patches."""
        if len(patches) == 0:
            return Region(0, 0, Size(0, 0))
        low, high = patches.min(0), patches.max(0)
        first = self.output_region(int(low[0]), int(low[1]))
        last = self.output_region(int(high[0]), int(high[1]))
        scale = self.scale
        return Region.from_bounds(
            first.top // scale * scale,
            first.left // scale * scale,
            _ceil_div(last.bottom, scale) * scale,
            _ceil_div(last.right, scale) * scale,
        ).clipped(self.canvas)


class TissueTable:
    """Counts the tissue in any box of a mask at once (a summed-area table).

    Crow 1984, "Summed-area tables for texture mapping", SIGGRAPH 18, 207.
    """

    def __init__(self, mask: Mask) -> None:
        self.shape = mask.shape
        self._sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
        self._sums[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)

    def counts(self, rows: tuple[Indices, Indices], columns: tuple[Indices, Indices]) -> Indices:
        """Set pixels in each box, for (firsts, ends) along both axes."""
        (y0, y1), (x0, x1) = rows, columns
        sums = self._sums
        lower = sums[np.ix_(y1, x1)] - sums[np.ix_(y1, x0)]
        upper = sums[np.ix_(y0, x1)] - sums[np.ix_(y0, x0)]
        inside: Indices = lower - upper
        return inside


def _scaled(starts: Indices, length: int, pixels: int, canvas: int) -> tuple[Indices, Indices]:
    """Mask pixels touched by [start, start + length): firsts and ends, clipped."""
    first = np.clip(starts * pixels // canvas, 0, pixels)
    end = np.clip(-(-(starts + length) * pixels // canvas), 0, pixels)
    return first, end
