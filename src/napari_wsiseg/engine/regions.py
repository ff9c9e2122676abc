"""Which chunks of a map a region or an outline on the slide meets."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Polygon, Region
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.regions.shapes import made_valid


def chunks_meeting(
    grid: PatchGrid, downsample: YX, shapes: tuple[Region | Polygon, ...] | None
) -> NDArray[np.bool_]:
    """The chunks that share pixels with any of the shapes.

    Parameters
    ----------
    grid
        The run's grid.
    downsample
        Level-0 pixels per canvas pixel.
    shapes
        In level-0 pixels; None: the whole slide.

    Raises
    ------
    JobError
        If the shapes hold no pixel of the slide, or one crosses itself thousands of times.
    """
    if shapes is None:
        return np.ones(grid.chunk_shape, bool)
    rows, columns = grid.chunk_shape
    y = np.minimum(np.arange(rows + 1) * grid.chunk_side, grid.canvas.height) * downsample.y
    x = np.minimum(np.arange(columns + 1) * grid.chunk_side, grid.canvas.width) * downsample.x
    boxes = shapely.box(x[None, :-1], y[:-1, None], x[None, 1:], y[1:, None])
    met = np.zeros(grid.chunk_shape, bool)
    for shape in shapes:
        met |= shapely.area(shapely.intersection(boxes, _outline(shape))) > 0
    if not met.any():
        raise JobError("The region holds no pixel of the slide; give it in level-0 pixels.")
    return met


def _outline(shape: Region | Polygon) -> shapely.Geometry:
    if isinstance(shape, Region):
        if min(shape.size.height, shape.size.width) < 1:
            raise JobError(f"A region of {shape.size} holds no pixel; give at least 1 x 1.")
        return shapely.box(shape.left, shape.top, shape.right, shape.bottom)
    if len(shape) < 3:
        raise JobError(f"A polygon of {len(shape)} points holds no pixel; give at least 3.")
    return made_valid(shapely.Polygon([(x, y) for y, x in shape]))
