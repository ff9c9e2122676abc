"""Shapes -> masks: which pixels of a map lie inside."""

from __future__ import annotations

import math

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.regions.shapes import Shape

Mask = NDArray[np.bool_]


def extent_of(shape: Shape, downsample: YX) -> Region:
    """The least region of a map that holds the shape; not clipped to the map.

    Parameters
    ----------
    shape
        In level-0 pixels.
    downsample
        Level-0 pixels per pixel of the map.
    """
    if shape.is_empty:
        return Region(0, 0, Size(0, 0))
    left, top, right, bottom = shapely.bounds(shape).tolist()
    return Region.from_bounds(
        math.floor(top / downsample.y),
        math.floor(left / downsample.x),
        math.ceil(bottom / downsample.y),
        math.ceil(right / downsample.x),
    )


def mask_of(shape: Shape, region: Region, downsample: YX) -> Mask:
    """Which pixels of a region of a map have their centre inside the shape.

    Parameters
    ----------
    shape
        Polygon or MultiPolygon, in level-0 pixels.
    region
        In pixels of the map.
    downsample
        Level-0 pixels per pixel of the map.

    Returns
    -------
    (height, width) bool.
    """
    crossed = np.zeros((region.size.height, region.size.width + 1), np.uint8)
    if not extent_of(shape, downsample).intersection(region).is_empty:
        low, high = _edges(shape, downsample)
        # Rows whose middle an edge crosses, half open: a vertex between two edges counts once.
        ends = np.clip(np.ceil(np.stack([low[:, 1], high[:, 1]]) - 0.5), region.top, region.bottom)
        first, last = ends.astype(np.int64)
        met = first < last
        low, high, first, rows = low[met], high[met], first[met], (last - first)[met]
        edge = np.repeat(np.arange(len(rows)), rows)
        row = np.arange(len(edge)) - (np.cumsum(rows) - rows - first)[edge]
        slope = (high[:, 0] - low[:, 0]) / (high[:, 1] - low[:, 1])
        x = low[edge, 0] + (row + 0.5 - low[edge, 1]) * slope[edge]
        column = np.clip(np.ceil(x - 0.5), region.left, region.right).astype(np.int64)
        np.add.at(crossed, (row - region.top, column - region.left), 1)
    # Inside is what lies to the right of an odd number of edges.
    return (np.cumsum(crossed[:, :-1], axis=1, dtype=np.uint8) & 1).astype(bool)


def _edges(shape: Shape, downsample: YX) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 2) x and y of the ends of all edges, in pixels of the map; the one with less y first.

    So neighbours that share an edge find the same crossings, and no pixel is in both or none.
    """
    rings = shapely.get_rings(shapely.get_parts(shape))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    points /= (downsample.x, downsample.y)
    joined = ring[:-1] == ring[1:]
    start, end = points[:-1][joined], points[1:][joined]
    falls = (start[:, 1] > end[:, 1])[:, None]
    return np.where(falls, end, start), np.where(falls, start, end)
