"""Outlines as TIAToolbox's AnnotationStore, an SQLite file (format 1.0.1)."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import shapely
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.annotation_store_check import Expected, check, multipolygon_head
from napari_wsiseg.export.outlines import (
    Outlines,
    Polygons,
    SlideGrid,
    outlines,
    simplified,
    tolerance_px,
)
from napari_wsiseg.export.provenance import provenance, slide_of
from napari_wsiseg.export.request import ExportRequest, Step
from napari_wsiseg.export.spool import Spool, connect, database_errors
from napari_wsiseg.validation import raises

# The reader goes by the columns' places, not by their names.
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE metadata (key TEXT UNIQUE, value TEXT);
CREATE VIRTUAL TABLE rtree USING rtree(id, min_x, max_x, min_y, max_y);
CREATE TABLE annotations (id INTEGER PRIMARY KEY, key TEXT UNIQUE, objtype TEXT, cx FLOAT NOT NULL,
  cy FLOAT NOT NULL, geometry BLOB, properties TEXT, area FLOAT NOT NULL);
"""
_ROW = "INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_BOX = "INSERT INTO rtree VALUES (?, ?, ?, ?, ?)"
_ROW_OF_SIZE = "INSERT INTO annotations VALUES (?, ?, ?, ?, ?, zeroblob(?), ?, ?)"
# What the toolbox packs with, and the store says of itself. At 6, outlines are no larger and
# take a quarter of the time; but then a store would not be what it says it is.
_LEVEL = 9
_NAMES = {3: "Polygon", 6: "MultiPolygon"}


@raises(ExportError, "An AnnotationStore export")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AnnotationStoreWriter:
    """Writes outlines for TIAToolbox.

    Parameters
    ----------
    per
        "object": each object is an annotation; "class": all of a class is one.
    simplify_um
        How far outlines may be from the pixels' edges, in µm; 0: exact.

    Raises
    ------
    ExportError
        If a value is out of range.
    """

    per: Literal["object", "class"] = "object"
    simplify_um: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0

    def write(self, request: ExportRequest, partial: Path, target: Path) -> Iterator[Step]:
        """Write to `partial`, then read that back and compare; see `formats.Writer`."""
        tolerance = tolerance_px(request, self.simplify_um)
        grid = SlideGrid(request)
        with database_errors(target):
            with closing(connect(partial)) as database:
                store = _Store(database, request, str(self))
                if self.per == "object":
                    yield from _write_objects(store, request, grid, tolerance)
                else:
                    with closing(Spool.beside(partial, may_overlap=bool(tolerance))) as spool:
                        yield from _write_classes(store, request, grid, tolerance, spool)
                database.execute("COMMIT")
            yield Step("writing", 1.0, _remark(request, target))
            with closing(connect(partial)) as database:
                for part in check(database, store.expected, None if tolerance else grid):
                    yield Step("checking", part)
        yield Step("checking", 1.0)


class _Store:
    """A new store: rows are added, all in one transaction."""

    def __init__(self, database: sqlite3.Connection, request: ExportRequest, options: str) -> None:
        self._database = database
        database.executescript(_TABLES)
        database.execute("BEGIN")
        made = provenance(request)
        values = {
            "version": "1.0.1",
            "compression": "zlib",
            "compression_level": _LEVEL,
            "napari_wsiseg": made,
        }
        metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
        database.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())
        self._namespace = uuid.uuid5(
            uuid.NAMESPACE_OID, f"{json.dumps(made, sort_keys=True)} {options}"
        )
        self._properties = {code: _properties(request, code) for code in request.codes}
        self.expected = Expected(metadata)

    def add(self, some: Outlines, polygons: Polygons) -> None:
        """Add objects, a row each."""
        if not len(polygons):
            return
        codes, first = some.codes.tolist(), self.expected.rows + 1
        blobs = shapely.to_wkb(polygons, output_dimension=2, byte_order=1).tolist()
        rows = zip(
            range(first, first + len(codes)),
            [self._key(number) for number in range(first, first + len(codes))],
            [_NAMES[kind] for kind in shapely.get_type_id(polygons).tolist()],
            *shapely.get_coordinates(shapely.centroid(polygons)).T.tolist(),
            [zlib.compress(wkb, _LEVEL) for wkb in blobs],
            [self._properties[code] for code in codes],
            shapely.area(polygons).tolist(),
            strict=True,
        )
        self._database.executemany(_ROW, rows)
        left, low, right, high = shapely.bounds(polygons).T.tolist()
        boxes = zip(range(first, first + len(codes)), left, right, low, high, strict=True)
        self._database.executemany(_BOX, boxes)
        self.expected.rows += len(codes)
        for code, pixels in zip(codes, some.pixels.tolist(), strict=True):
            self.expected.pixels[self._properties[code]] += pixels

    def add_class(self, code: int, spool: Spool) -> None:
        """Add all of a class as one row; its outlines go through, a few at a time."""
        box = np.array([np.inf, np.inf, -np.inf, -np.inf])
        moment, area = np.zeros(2), 0.0
        packer = zlib.compressobj(_LEVEL)
        number = self.expected.rows + 1
        with tempfile.TemporaryFile(dir=spool.folder) as packed:
            packed.write(packer.compress(multipolygon_head(spool.parts(code))))
            for polygons in spool.batches(code):
                wkb = shapely.to_wkb(polygons, output_dimension=2, byte_order=1)
                packed.write(packer.compress(b"".join(wkb.tolist())))
                areas = shapely.area(polygons)
                moment += areas @ shapely.get_coordinates(shapely.centroid(polygons))
                area += float(areas.sum())
                low, high = box[:2], box[2:]
                bounds = shapely.bounds(polygons)
                box = np.concatenate(
                    [np.minimum(low, bounds.min(0)[:2]), np.maximum(high, bounds.max(0)[2:])]
                )
            packed.write(packer.flush())
            row = (number, self._key(number), "MultiPolygon", *(moment / area).tolist())
            self._database.execute(
                _ROW_OF_SIZE, (*row, packed.tell(), self._properties[code], area)
            )
            packed.seek(0)
            with self._database.blobopen("annotations", "geometry", number) as blob:
                shutil.copyfileobj(packed, blob)
        left, low_y, right, high_y = box.tolist()
        self._database.execute(_BOX, (number, left, right, low_y, high_y))
        self.expected.rows += 1
        self.expected.pixels[self._properties[code]] += spool.tallies[code].pixels

    def _key(self, number: int) -> str:
        return str(uuid.uuid5(self._namespace, str(number)))


def _write_objects(
    store: _Store, request: ExportRequest, grid: SlideGrid, tolerance: float
) -> Iterator[Step]:
    for some in outlines(request):
        store.add(some, simplified(grid.place(some.polygons), tolerance))
        yield Step("writing", some.part)


def _write_classes(
    store: _Store, request: ExportRequest, grid: SlideGrid, tolerance: float, spool: Spool
) -> Iterator[Step]:
    for some in outlines(request):
        spool.add(some, simplified(grid.place(some.polygons), tolerance))
        yield Step("writing", 0.8 * some.part)
    for index, code in enumerate(sorted(spool.tallies)):
        store.add_class(code, spool)
        yield Step("writing", 0.8 + 0.2 * (index + 1) / len(spool.tallies))


def _properties(request: ExportRequest, code: int) -> str:
    values = {
        "type": request.names[code],
        "class": code - 1,
        "color": [part / 255 for part in request.rgb(code)],
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _remark(request: ExportRequest, target: Path) -> str:
    stem = slide_of(request.pm).get("stem")
    if not stem or stem in target.name:
        return ""
    return (
        f"TIAToolbox's viewer offers a store only for the slide whose name it holds; put "
        f"{stem!r} into the name {target.name!r}."
    )
