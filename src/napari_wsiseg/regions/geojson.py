"""Reads regions from GeoJSON, as QuPath and others write it; knows no map."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from napari_wsiseg.documents import UnreadableError, read_bounded
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Polygon
from napari_wsiseg.regions.shapes import CORNER, NamedRegion, distinct, ring_of, valid

_GZIP = b"\x1f\x8b"
# Python takes ten times as much for it.
_LARGEST = 2**28
# Lists and objects: of empty ones it takes 25 times as much, and real files have far fewer.
_MOST_PARTS = 2**25


def read_geojson(path: Path, offset: YX = CORNER) -> tuple[NamedRegion, ...]:
    """The polygons of a GeoJSON file, as QuPath and others write it; also gzipped.

    Each feature with a polygon is a region, and so is a geometry that stands by itself.
    Points and lines are left out. Its name is the feature's, else its class, else
    "Region 1", "Region 2" by its position in the file.

    Parameters
    ----------
    path
        The file.
    offset
        Where the file's (0, 0) lies on the slide; added to all coordinates.

    Raises
    ------
    JobError
        If the file cannot be read as GeoJSON, or holds no polygon.
    """
    drawings = _read(path)
    try:
        found = [(drawn, valid(drawn.polygons, offset)) for drawn in drawings]
    except JobError as error:
        raise JobError(f"The regions of {path} cannot be used: {error}") from error
    regions = [
        NamedRegion(drawn.name or drawn.kind or f"Region {number}", drawn.kind, shape)
        for number, (drawn, shape) in enumerate(
            ((drawn, shape) for drawn, shape in found if not shape.is_empty), 1
        )
    ]
    if not regions:
        raise _no_polygon(path)
    return distinct(regions)


def read_outlines(path: Path) -> tuple[Polygon, ...]:
    """The outer rings of a GeoJSON file's polygons, as they were drawn, from (x, y) to (y, x).

    Raises
    ------
    JobError
        If the file cannot be read as GeoJSON, or holds no polygon.
    """
    polygons = [polygon for drawn in _read(path) for polygon in drawn.polygons]
    outlines: list[Polygon] = [
        tuple((y, x) for x, y in polygon.exterior.coords[:-1]) for polygon in polygons
    ]
    if not outlines:
        raise _no_polygon(path)
    return tuple(outlines)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A feature, as the file has it."""

    name: str | None
    kind: str | None
    polygons: tuple[shapely.Polygon, ...]


def _read(path: Path) -> list[_Drawn]:
    try:
        content = read_bounded(path, _LARGEST)
        if content.startswith(_GZIP):
            content = _unpacked(content)
        _check_parts(content)
        return list(_features(json.loads(content)))
    # What may be wrong with a file of that kind; shapely's own errors are ValueErrors too.
    except (
        OSError, EOFError, zlib.error, ValueError, TypeError, LookupError, AttributeError,
        RecursionError, OverflowError, shapely.errors.ShapelyError,
    ) as error:  # fmt: skip
        what = " ".join(str(error).split())[:200]
        raise JobError(
            f"{path} cannot be read as GeoJSON ({type(error).__name__}: {what}); export it again."
        ) from error


def _check_parts(content: bytes) -> None:
    if content.count(b"[") + content.count(b"{") > _MOST_PARTS:
        raise UnreadableError(f"it holds more than {_MOST_PARTS} points, rings and objects")


def _unpacked(content: bytes) -> bytes:
    with gzip.open(io.BytesIO(content)) as file:
        unpacked = file.read(_LARGEST + 1)
    if len(unpacked) > _LARGEST:
        raise UnreadableError(f"unpacked it is larger than {_LARGEST / 1e6:.0f} MB")
    return unpacked


def _features(value: Any) -> Iterator[_Drawn]:
    match value:
        case list() | {"type": "FeatureCollection"}:
            for member in value if isinstance(value, list) else value["features"]:
                yield from _features(member)
        case {"type": "Feature"}:
            polygons = tuple(_polygons(value.get("geometry")))
            if polygons:
                properties = value.get("properties") or {}
                kind = _text((properties.get("classification") or {}).get("name"))
                yield _Drawn(_text(properties.get("name")), kind, polygons)
        case _:
            polygons = tuple(_polygons(value))
            if polygons:
                yield _Drawn(None, None, polygons)


def _polygons(geometry: Any) -> Iterator[shapely.Polygon]:
    match geometry:
        case {"type": "GeometryCollection"}:
            for member in geometry["geometries"]:
                yield from _polygons(member)
        case {"type": "Polygon"}:
            yield from _polygon(geometry["coordinates"])
        case {"type": "MultiPolygon"}:
            for rings in geometry["coordinates"]:
                yield from _polygon(rings)


def _polygon(rings: list[list[list[float]]]) -> Iterator[shapely.Polygon]:
    if rings:
        outer, *holes = (ring_of(ring) for ring in rings)
        yield shapely.Polygon(outer, holes)


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _no_polygon(path: Path) -> JobError:
    return JobError(f"{path} holds no Polygon; draw the regions as polygons in level-0 pixels.")
