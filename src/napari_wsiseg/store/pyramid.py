"""Coarser levels, kept in step with level 0 while it is written, and mended on resume.

Knows how levels follow from each other; knows neither runs nor patches nor files' names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import Mask
from napari_wsiseg.memory import Workspace
from napari_wsiseg.reduce import covered_mean
from napari_wsiseg.store.arrays import LevelArrays
from napari_wsiseg.store.chunks import ChunkWriter

# Coarse rows that are made at once: what lies between stays in the processor's cache. Fewer
# would make other threads of the interpreter wait more often.
_COARSENED_ROWS = 64


@dataclass(frozen=True, eq=False)
class Window:
    """A part of one chunk row of a level, in memory.

    Parameters
    ----------
    region
        Where it lies, in pixels of its level; whole chunks, cut at the level's edge.
    values
        (classes, height, width), as stored; 0 where not covered.
    coverage
        (height, width) bool.
    """

    region: Region
    values: NDArray[np.generic]
    coverage: NDArray[np.bool_]

    @classmethod
    def take(cls, workspace: Workspace, region: Region, classes: int, dtype: str) -> Window:
        """An empty window whose arrays come from the workspace."""
        shape = (region.size.height, region.size.width)
        values: NDArray[np.generic] = workspace.take((classes, *shape), np.dtype(dtype))
        return cls(region, values, workspace.take(shape, np.bool_))

    def release(self, workspace: Workspace) -> None:
        """Give the arrays back."""
        workspace.release(self.values)
        workspace.release(self.coverage)

    def cut(self, region: Region) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Views of the values and coverage in `region`, given in pixels of the level."""
        y, x = region.shifted(-self.region.top, -self.region.left).slices
        return self.values[:, y, x], self.coverage[y, x]


def coarser_masks(chunks: Mask, levels: int) -> list[Mask]:
    """For each level's chunks, whether any of the level-0 chunks below is set."""
    masks = [chunks]
    for _ in range(1, levels):
        finer = masks[-1]
        rows, columns = (-(-n // 2) for n in finer.shape)
        padded = np.zeros((2 * rows, 2 * columns), bool)
        padded[: finer.shape[0], : finer.shape[1]] = finer
        blocks = padded.reshape(rows, 2, columns, 2)
        masks.append(np.asarray(blocks.any((1, 3)), bool))
    return masks


def coarsen(
    values: NDArray[np.generic], coverage: NDArray[np.bool_]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """One level coarser: means of the covered stored values, rounded half to even for integers."""
    classes, height, width = values.shape
    shape = -(-height // 2), -(-width // 2)
    coarse, covered = np.empty((classes, *shape), values.dtype), np.empty(shape, bool)
    for top in range(0, shape[0], _COARSENED_ROWS):
        fine, rows = slice(2 * top, 2 * (top + _COARSENED_ROWS)), slice(top, top + _COARSENED_ROWS)
        coarse[:, rows], covered[rows] = _coarsen(values[:, fine], coverage[fine])
    return coarse, covered


def _coarsen(
    values: NDArray[np.generic], coverage: NDArray[np.bool_]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    height, width = coverage.shape
    whole = height % 2 == width % 2 == 0 and bool(coverage.all())
    if whole and values.dtype == np.uint8 and values.strides[-1] == 1:
        return _coarsen_bytes(values), coverage[::2, ::2]
    means, covered = covered_mean(values, coverage)
    if np.issubdtype(values.dtype, np.integer):
        np.rint(means, out=means)
    return means.astype(values.dtype), covered


def _coarsen_bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The same where all is covered, in whole numbers: in a third of the time."""
    pairs = values.view(np.uint16)
    sums = pairs & 0xFF
    sums += pairs >> 8
    sums = sums[:, ::2] + sums[:, 1::2]
    # (s + 1) // 4 rounds a quarter with halves down, (s + 2) // 4 with halves up: to even is up
    # where the whole part is odd.
    odd = sums >> 2
    odd &= 1
    sums += odd
    sums += 1
    sums >>= 2
    return sums.astype(np.uint8)


class Pyramid:
    """Levels above 0 of a map that is being written.

    Parameters
    ----------
    levels
        Of the map, large to small; read for what other runs have stored.
    chunks
        Writes them.
    workspace
        Gives the buffers: part of one chunk row a level.
    """

    def __init__(
        self, levels: tuple[LevelArrays, ...], chunks: ChunkWriter, workspace: Workspace
    ) -> None:
        self._levels = levels
        self._chunks = chunks
        self._sizes = [Size(*level.coverage.shape) for level in levels]
        self._chunk: int = levels[0].coverage.chunks[-1]
        self._workspace = workspace
        self._windows: list[Window | None] = [None] * len(levels)
        self._wanted: list[Mask] = []
        self._present: list[Mask] = []

    def begin(self, chunks: Mask, present: Mask) -> None:
        """Expect updates of these level-0 chunks, beside those that are there already."""
        self.release()
        self._wanted = coarser_masks(chunks, len(self._levels))
        self._present = coarser_masks(present, len(self._levels))

    def update(self, base: Window, changed: list[Region]) -> None:
        """Bring all coarser levels in step with a window of level 0, and begin to write them.

        What was begun before must have ended.

        Parameters
        ----------
        base
            Level-0 pixels; only those of `changed` are looked at.
        changed
            Level-0 regions of whole chunks in one chunk row, left to right.
        """
        below = base
        for level in range(1, len(self._levels)):
            changed = _halved(changed, self._sizes[level])
            window = self._window(level, changed[0].top // self._chunk)
            for region in changed:
                for block in _columns(region, self._chunk):
                    source = doubled(block, self._sizes[level - 1])
                    values, coverage = window.cut(block)
                    values[...], coverage[...] = coarsen(*below.cut(source))
            for region in _whole_chunks(changed, self._chunk, self._sizes[level]):
                self._chunks.write(level, region, *window.cut(region))
            below = window

    def release(self) -> None:
        """Give the buffers back."""
        for window in self._windows:
            if window is not None:
                window.release(self._workspace)
        self._windows = [None] * len(self._levels)

    def _window(self, level: int, row: int) -> Window:
        """The window on this chunk row; what other runs have stored there is loaded."""
        window = self._windows[level]
        if window is not None and window.region.top == row * self._chunk:
            return window
        if window is not None:
            self._windows[level] = None
            window.release(self._workspace)
        wanted = np.flatnonzero(self._wanted[level][row])
        region = self._region(level, row, int(wanted[0]), int(wanted[-1]) + 1)
        values = self._levels[level].values
        window = Window.take(self._workspace, region, values.shape[0], str(values.dtype))
        self._windows[level] = window
        self._load(level, row, window)
        return window

    def _load(self, level: int, row: int, window: Window) -> None:
        arrays = self._levels[level]
        for column in np.flatnonzero(self._present[level][row]):
            region = self._region(level, row, int(column), int(column) + 1)
            region = region.intersection(window.region)
            if not region.is_empty:
                y, x = region.slices
                values, coverage = window.cut(region)
                values[...] = arrays.values[:, y, x]
                coverage[...] = arrays.coverage[y, x]

    def _region(self, level: int, row: int, first: int, end: int) -> Region:
        chunk = self._chunk
        region = Region.from_bounds(row * chunk, first * chunk, (row + 1) * chunk, end * chunk)
        return region.clipped(self._sizes[level])


def _halved(regions: list[Region], size: Size) -> list[Region]:
    """The coarser pixels above these regions; what meets or overlaps is joined."""
    halves: list[Region] = []
    for region in regions:
        half = Region.from_bounds(
            region.top // 2, region.left // 2, -(-region.bottom // 2), -(-region.right // 2)
        ).clipped(size)
        if halves and half.left <= halves[-1].right:
            last = halves.pop()
            half = Region.from_bounds(last.top, last.left, last.bottom, half.right)
        halves.append(half)
    return halves


def doubled(region: Region, size: Size) -> Region:
    """The pixels of the finer level, of this size, below `region`."""
    return Region.from_bounds(
        2 * region.top, 2 * region.left, 2 * region.bottom, 2 * region.right
    ).clipped(size)


def _columns(region: Region, width: int) -> Iterator[Region]:
    """The region in pieces, so that means of a long row need little memory."""
    for left in range(region.left, region.right, width):
        yield Region.from_bounds(region.top, left, region.bottom, min(left + width, region.right))


def _whole_chunks(regions: list[Region], chunk: int, size: Size) -> list[Region]:
    """The chunks that these regions of one chunk row touch, adjoining ones together."""
    wholes: list[Region] = []
    for region in regions:
        top = region.top // chunk * chunk
        left = region.left // chunk * chunk
        right = -(-region.right // chunk) * chunk
        if wholes and left <= wholes[-1].right:
            left = wholes.pop().left
        wholes.append(Region.from_bounds(top, left, top + chunk, right).clipped(size))
    return wholes
