"""Objects of a label map, as polygons, and where they lie on the slide; knows no format."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.export.tracing import Traced, Tracer
from napari_wsiseg.labels import threshold_scale

Polygons = NDArray[np.object_]

PRECISION = 0.01
"""Of coordinates, in level-0 pixels: what readers snap to."""

_POLYGON, _MULTIPOLYGON = 3, 6
# Rows looked up at once: what lies between stays in the processor's cache.
_STRIP = 32


@dataclass(frozen=True, slots=True)
class Outlines:
    """Some objects of a label map, in the order in which they end.

    Parameters
    ----------
    part
        What part of the map is done, 0..1.
    codes
        (n,) uint8: their labels.
    polygons
        (n,) polygons with holes, along pixel edges, (x, y) in map pixels.
    pixels
        (n,) int64.
    means
        (n,) float64: the mean probability of its class over an object's pixels; of stain
        models the mean optical density.
    """

    part: float
    codes: NDArray[np.uint8]
    polygons: Polygons
    pixels: NDArray[np.int64]
    means: NDArray[np.float64]


def outlines(request: ExportRequest) -> Iterator[Outlines]:
    """The exported objects: pixels of one label that touch by their sides are one.

    Some thousands at once, at least one batch (which may be empty) a strip. What is kept
    is what reaches into the next strip.

    Raises
    ------
    ExportError
        If labels have to be cleaned, and the disk refuses.
    StoreError
        If the map cannot be read.
    """
    size = request.labels.size
    tracers = [Tracer(size.width) if layer else None for layer in request.layers]
    full = threshold_scale(request.spec)
    for strip in request.labels.strips():
        found = request.labels.read(strip)
        part = strip.bottom / size.height
        layers = zip(request.exported(found.labels), request.layers, tracers, strict=True)
        for labels, codes, tracer in layers:
            if tracer is None:
                continue
            values = _of_its_class(found.block.values, labels, codes)
            for traced in tracer.add(labels, values, last=strip.bottom == size.height):
                step = full / 255 if found.block.values.dtype == np.uint8 else full
                yield _outlines(traced, part, step)
        yield _outlines(_NONE, part, full)


_NONE = Traced(
    np.zeros(0, np.uint8), np.zeros(0, object), np.zeros(0, np.int64), np.zeros(0, np.float64)
)


def _outlines(traced: Traced, part: float, step: float) -> Outlines:
    means = traced.sums / traced.pixels * step
    return Outlines(part, traced.codes, traced.polygons, traced.pixels, means)


def _of_its_class(
    values: NDArray[np.number], labels: NDArray[np.uint8], codes: tuple[int, ...]
) -> NDArray[np.number]:
    """(height, width): what is stored for the class of each pixel's label; 0 without one."""
    chosen = np.zeros(labels.shape, values.dtype)
    for top in range(0, len(labels), _STRIP):
        rows = slice(top, top + _STRIP)
        for code in codes:
            chosen[rows] += values[code - 1, rows] * (labels[rows] == code)
    return chosen


class SlideGrid:
    """Where the edges of a map's pixels lie in the export's level-0 pixels.

    Rounded to 0.01 px, and never beyond the slide's edge: the last pixel of a map may
    reach over it. Both keep the edges' order, so that valid polygons stay so.

    Parameters
    ----------
    request
        What is exported.
    """

    def __init__(self, request: ExportRequest) -> None:
        pm, size = request.pm, request.labels.size
        self._edges = (
            _edges(size.width, pm.downsample.x, pm.slide_size.width, request.offset.x),
            _edges(size.height, pm.downsample.y, pm.slide_size.height, request.offset.y),
        )
        self.pixel_px2 = pm.downsample.x * pm.downsample.y
        """Area of a map pixel in level-0 pixels."""
        self.pixel_um2 = None if pm.mpp is None else pm.mpp.x * pm.mpp.y
        """Area of a map pixel in µm², or None without a scale."""

    def place(self, polygons: Polygons) -> Polygons:
        """Polygons in map pixels, in the export's coordinates."""
        corners = shapely.get_coordinates(polygons).astype(np.int64)
        placed = [edges[corners[:, axis]] for axis, edges in enumerate(self._edges)]
        return shapely.set_coordinates(polygons.copy(), np.stack(placed, axis=1))

    def pixels(self, polygons: Polygons) -> NDArray[np.int64]:
        """Of how many map pixels each polygon is, exactly.

        Raises
        ------
        ExportError
            If a corner is not one of the map's pixels.
        """
        corners = shapely.get_coordinates(polygons)
        found = np.empty(corners.shape)
        for axis, edges in enumerate(self._edges):
            index = np.minimum(np.searchsorted(edges, corners[:, axis]), len(edges) - 1)
            if (edges[index] != corners[:, axis]).any():
                raise ExportError(
                    "An outline that was read back leaves the edges of the map's pixels; "
                    "export again, and report this if it happens twice."
                )
            found[:, axis] = index
        areas = shapely.area(shapely.set_coordinates(polygons.copy(), found))
        exact: NDArray[np.int64] = np.rint(areas).astype(np.int64)
        return exact


def _edges(count: int, downsample: float, slide: int, offset: float) -> NDArray[np.float64]:
    edges = np.minimum(np.arange(count + 1) * downsample, slide) - offset
    # Nothing is lost by + 0.0 but the sign of -0.0.
    placed: NDArray[np.float64] = np.round(edges, 2) + 0.0
    return placed


def tolerance_px(request: ExportRequest, simplify_um: float) -> float:
    """How far simplified outlines may lie from the true ones, in level-0 pixels.

    Raises
    ------
    ExportError
        If the slide has no scale, and outlines are to be simplified.
    """
    mpp, downsample = request.pm.mpp, request.pm.downsample
    if not simplify_um:
        return 0.0
    if mpp is None:
        raise ExportError(
            f"simplify_um is {simplify_um:g} µm, and the slide has no scale; leave outlines as "
            "they are, or run the slide again with its µm per pixel (--mpp)."
        )
    return simplify_um / math.sqrt(mpp.y / downsample.y * mpp.x / downsample.x)


def simplified(polygons: Polygons, tolerance: float) -> Polygons:
    """Polygons with fewer corners, each valid by itself when its coordinates are rounded.

    Holes stay holes (Douglas and Peucker 1973, as GEOS keeps topology); neighbours may
    overlap or part by as much as the tolerance. One that falls apart becomes a MultiPolygon;
    one of which nothing would be left stays as it is.

    Parameters
    ----------
    polygons
        Valid polygons.
    tolerance
        In the polygons' pixels; 0: unchanged.
    """
    if not tolerance or not len(polygons):
        return polygons
    simple = shapely.simplify(polygons, tolerance, preserve_topology=True)
    simple = shapely.set_precision(shapely.make_valid(simple), PRECISION)
    kinds = shapely.get_type_id(simple)
    for index in np.flatnonzero((kinds != _POLYGON) & (kinds != _MULTIPOLYGON)):
        simple[index] = _areas_of(simple[index])
    # What remembers its precision would round its centroid too.
    simple = shapely.set_precision(simple, 0, mode="pointwise")
    lost = shapely.is_empty(simple) | ~shapely.is_valid(simple)
    kept: Polygons = np.where(lost, polygons, simple)
    return kept


def invalid(polygons: Polygons) -> str:
    """What is wrong with polygons once their coordinates are snapped; empty: nothing."""
    if not np.isin(shapely.get_type_id(polygons), (_POLYGON, _MULTIPOLYGON)).all():
        return "an outline is no polygon"
    snapped = shapely.set_precision(polygons, PRECISION, mode="pointwise")
    found, corners = shapely.get_coordinates(polygons), shapely.get_coordinates(snapped)
    # Snapped to where they were, polygons are as valid as they were.
    is_moved = not np.array_equal(found, corners)
    for geometries in (polygons, snapped) if is_moved else (polygons,):
        bad = np.flatnonzero(~shapely.is_valid(geometries) | shapely.is_empty(geometries))
        if len(bad):
            return f"an outline is not valid ({shapely.is_valid_reason(geometries[bad[0]])})"
    return ""


def _areas_of(geometry: shapely.Geometry) -> shapely.Geometry:
    """What of a geometry has an area: collections may hold MultiPolygons."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.union_all(parts[shapely.get_type_id(parts) == _POLYGON])
