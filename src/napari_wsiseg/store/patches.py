"""The patches of a result as a table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from napari_wsiseg.geometry import Region
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.messages import FailedPatch

_EDGES = ("top", "left", "bottom", "right")
_DTYPE = np.dtype(
    [
        ("row", np.int64),
        ("column", np.int64),
        *((f"{box}_{edge}", np.int64) for box in ("output", "input") for edge in _EDGES),
        ("state", "U7"),
    ]
)

PatchTable = np.recarray[tuple[int], np.dtype[np.void]]
"""A record a patch, in grid order.

`row`, `column` in the grid; `output_top`, `output_left`, `output_bottom`, `output_right`
and `input_...` in pixels of the slide at the run's resolution; `state`: "kept",
"skipped" (no tissue) or "failed".
"""


def patch_table(grid: PatchGrid, failed: Iterable[FailedPatch]) -> PatchTable:
    """All patches of a grid; boxes of the output are cut at the slide's edge."""
    rows, columns = grid.shape
    table: PatchTable = np.recarray((rows * columns,), _DTYPE)
    view = table.reshape(rows, columns)
    view["row"], view["column"] = np.indices(grid.shape)
    for name, box in (("output", grid.output_region), ("input", grid.input_region)):
        # Edges depend on the row alone, or on the column alone.
        by_row: list[Region] = [box(row, 0) for row in range(rows)]
        by_column: list[Region] = [box(0, column) for column in range(columns)]
        view[f"{name}_top"] = np.array([r.top for r in by_row])[:, None]
        view[f"{name}_bottom"] = np.array([r.bottom for r in by_row])[:, None]
        view[f"{name}_left"] = np.array([r.left for r in by_column])[None, :]
        view[f"{name}_right"] = np.array([r.right for r in by_column])[None, :]
    view["state"] = np.where(grid.keep, "kept", "skipped")
    for patch in failed:
        view["state"][patch.row, patch.column] = "failed"
    return table
