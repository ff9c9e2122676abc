"""The chunk row that a run is filling: bands in, pixels as they are stored out.

Knows no file and no other level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band
from napari_wsiseg.reduce import covered_mean
from napari_wsiseg.store.layout import MapLayout
from napari_wsiseg.store.pyramid import Window

# Rows that are quantised at once: the float32 between stays in the processor's cache.
_QUANTISED_ROWS = 32


@dataclass(frozen=True, eq=False)
class RunRow:
    """The part of a chunk row that a run computes.

    Parameters
    ----------
    row
        Which.
    columns
        The chunks of the run, left to right.
    window
        Their pixels, and what lies between them.
    """

    row: int
    columns: tuple[int, ...]
    window: Window

    @classmethod
    def begun(
        cls, row: int, columns: tuple[int, ...], layout: MapLayout, workspace: Workspace
    ) -> Self:
        """An empty one, of a map's layout; the workspace gives the window's buffers."""
        region = _stored(layout.grid, row, columns[0], columns[-1] + 1)
        return cls(row, columns, Window.take(workspace, region, layout.classes, layout.dtype))

    def covered(self, grid: PatchGrid) -> list[Region]:
        """Map pixels of those of its chunks in which anything is covered."""
        regions = [_stored(grid, self.row, column, column + 1) for column in self.columns]
        return [region for region in regions if self.window.cut(region)[1].any()]

    def fill(self, band: Band, grid: PatchGrid) -> None:
        """Copy a band's part, chunk by chunk; what lies in no chunk of the run is left."""
        scale = grid.scale
        width = band.coverage.shape[1]
        given = Region.from_bounds(band.top, band.left, band.bottom, band.left + width * band.scale)
        for column in self.columns:
            canvas = grid.chunk_region(self.row, column).intersection(given)
            if canvas.is_empty:
                continue
            y, x = _coarser(canvas.shifted(-band.top, -band.left), band.scale).slices
            coverage = band.coverage[y, x]
            if not coverage.any():
                continue
            probabilities = band.probabilities[:, y, x]
            if scale > band.scale:
                probabilities, coverage = covered_mean(probabilities, coverage, scale)
            values, covered = self.window.cut(_coarser(canvas, scale))
            covered[...] = coverage
            _store(probabilities, values)


def _stored(grid: PatchGrid, row: int, first: int, end: int) -> Region:
    """Map pixels of the chunks [first, end) of a chunk row."""
    chunk = grid.chunk
    region = Region.from_bounds(row * chunk, first * chunk, (row + 1) * chunk, end * chunk)
    return region.clipped(grid.map_size)


def _coarser(region: Region, scale: int) -> Region:
    return Region.from_bounds(
        region.top // scale,
        region.left // scale,
        -(-region.bottom // scale),
        -(-region.right // scale),
    )


def _store(
    probabilities: NDArray[np.float32] | NDArray[np.uint8], values: NDArray[np.generic]
) -> None:
    """Copy (classes, height, width) probabilities as they are stored."""
    if values.dtype != np.uint8 or probabilities.dtype == np.uint8:
        values[...] = probabilities
        return
    height, blocks = values.shape[1], np.empty_like(probabilities[:, :_QUANTISED_ROWS], order="C")
    for top in range(0, height, _QUANTISED_ROWS):
        rows = slice(top, min(top + _QUANTISED_ROWS, height))
        block = np.multiply(
            probabilities[:, rows], np.float32(255), out=blocks[:, : rows.stop - top]
        )
        values[:, rows] = np.rint(block, out=block)
