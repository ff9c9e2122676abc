"""Reads an AnnotationStore back, a piece at a time, and compares it with what it should hold."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import shapely

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.outlines import SlideGrid, invalid

_MULTIPOLYGON = 6
_POINT_BYTES = 16
# Polygons judged at once, and the compressed bytes from which an outline is read in pieces.
_AT_ONCE = 1024
_LARGE = 1 << 20

_ROWS = """
SELECT id, properties, objtype, CASE WHEN length(geometry) < ? THEN geometry END
FROM annotations ORDER BY id
"""
_Found = tuple[int, str, bytes]


@dataclass
class Expected:
    """What a store should hold.

    Parameters
    ----------
    metadata
        Its texts by their keys.
    rows
        How many annotations.
    pixels
        By an annotation's properties: of how many map pixels they are together.
    """

    metadata: dict[str, str]
    rows: int = 0
    pixels: Counter[str] = field(default_factory=Counter)


def multipolygon_head(parts: int) -> bytes:
    """What stands before the polygons of a MultiPolygon in little-endian WKB."""
    return struct.pack("<BII", 1, _MULTIPOLYGON, parts)


def check(
    database: sqlite3.Connection, expected: Expected, grid: SlideGrid | None
) -> Iterator[float]:
    """Compare; yields what part is done, 0..1.

    With a grid, the polygons of each class have to have the area of its pixels, exactly.

    Raises
    ------
    ExportError
        If something differs.
    """
    if dict(database.execute("SELECT key, value FROM metadata")) != expected.metadata:
        raise _differs("its metadata are others")
    for table in ("annotations", "rtree"):
        (rows,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        if rows != expected.rows:
            raise _differs(f"{table} has {rows} rows, not {expected.rows}")
    pixels: Counter[str] = Counter()
    try:
        for some in _batches(_polygons(database)):
            outlines = shapely.from_wkb([wkb for _, _, wkb in some])
            problem = invalid(outlines)
            if problem:
                raise _differs(problem)
            if grid is not None:
                areas = grid.pixels(outlines).tolist()
                for (_, properties, _), area in zip(some, areas, strict=True):
                    pixels[properties] += area
            yield some[-1][0] / max(expected.rows, 1)
    except (zlib.error, struct.error, shapely.errors.GEOSException) as error:
        raise _differs(f"an outline cannot be read: {error}") from error
    if grid is not None and pixels != expected.pixels:
        raise _differs("the outlines of a class have another area than its pixels")


def _batches(polygons: Iterator[_Found]) -> Iterator[list[_Found]]:
    while some := list(islice(polygons, _AT_ONCE)):
        yield some


def _polygons(database: sqlite3.Connection) -> Iterator[_Found]:
    """The outlines: number and properties of their row, and WKB of one of its polygons."""
    for number, properties, kind, blob in database.execute(_ROWS, (_LARGE,)):
        if blob is not None:
            yield number, properties, zlib.decompress(blob)
            continue
        with database.blobopen("annotations", "geometry", number, readonly=True) as large:
            if kind == "MultiPolygon":
                for wkb in _parts(_Unpacked(large)):
                    yield number, properties, wkb
            else:
                yield number, properties, zlib.decompress(large.read())


class _Unpacked:
    """Reads from what is compressed in a blob."""

    def __init__(self, blob: sqlite3.Blob) -> None:
        self._blob, self._unpacker = blob, zlib.decompressobj()
        self._ready = bytearray()

    def read(self, count: int) -> bytes:
        while len(self._ready) < count:
            piece = self._blob.read(_LARGE)
            if not piece:
                raise _differs("an outline is cut off")
            self._ready += self._unpacker.decompress(piece)
        found = bytes(self._ready[:count])
        del self._ready[:count]
        return found

    def end(self) -> None:
        while piece := self._blob.read(_LARGE):
            self._ready += self._unpacker.decompress(piece)
        if self._ready or self._unpacker.unused_data or not self._unpacker.eof:
            raise _differs("an outline is longer than it says")


def _parts(wkb: _Unpacked) -> Iterator[bytes]:
    """WKB of each polygon of a MultiPolygon."""
    head = wkb.read(len(multipolygon_head(0)))
    (parts,) = struct.unpack("<I", head[-4:])
    if head != multipolygon_head(parts):
        raise _differs("an outline is of another kind")
    for _ in range(parts):
        polygon = [wkb.read(9)]
        for _ in range(struct.unpack("<BII", polygon[0])[2]):
            length = wkb.read(4)
            points = struct.unpack("<I", length)[0]
            polygon += [length, wkb.read(_POINT_BYTES * points)]
        yield b"".join(polygon)
    wkb.end()


def _differs(what: str) -> ExportError:
    return ExportError(
        f"The AnnotationStore did not read back as written: {what}; check the disk and export "
        "again."
    )
