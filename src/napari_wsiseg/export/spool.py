"""Keeps polygons by class on disk, until all that make up one geometry are known."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.outlines import PRECISION, Outlines, Polygons

_AT_ONCE = 4096

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE part (code INTEGER, id INTEGER, wkb BLOB, PRIMARY KEY (code, id)) WITHOUT ROWID;
CREATE VIRTUAL TABLE box USING rtree(id, min_x, max_x, min_y, max_y, code, to_code);
"""
# CROSS: the boxes first. Left to itself, SQLite goes through all parts of the class.
_NEAR = """
SELECT part.id, part.wkb FROM box CROSS JOIN part ON part.code = ? AND part.id = box.id
WHERE min_x <= ? AND max_x >= ? AND min_y <= ? AND max_y >= ? AND box.code = ? ORDER BY part.id
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open a database; transactions are the caller's.

    An export that is given up may be closed by another thread than the one that began it.
    """
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@contextmanager
def database_errors(target: Path) -> Iterator[None]:
    """Turn what SQLite complains of, such as a full disk, into an ExportError."""
    try:
        yield
    except (sqlite3.Error, OverflowError) as error:
        raise ExportError(
            f"{target} cannot be written ({error}); check the folder and its space."
        ) from error


@dataclass(slots=True)
class Tally:
    """What is known of a class.

    Parameters
    ----------
    objects, pixels
        How many.
    total
        The sum of the objects' means, each weighed with its pixels.
    """

    objects: int = 0
    pixels: int = 0
    total: float = 0.0

    def add(self, pixels: NDArray[np.int64], means: NDArray[np.float64]) -> None:
        """Count some objects."""
        self.objects += len(pixels)
        self.pixels += int(pixels.sum())
        self.total += float(pixels @ means)

    @property
    def mean(self) -> float:
        """Over all pixels; NaN where there is none."""
        return self.total / self.pixels if self.pixels else float("nan")


class Spool:
    """Polygons by class, in a temporary file until it is closed.

    Parameters
    ----------
    path
        Of the file.
    may_overlap
        Whether polygons of a class may overlap: those that do become one.
    """

    def __init__(self, path: Path, *, may_overlap: bool) -> None:
        self._path, self._may_overlap = path, may_overlap
        self._database = connect(path)
        try:
            self._database.executescript(_TABLES)
            self._database.execute("BEGIN")
        except sqlite3.Error:
            self.close()
            raise
        self._count = 0
        self.tallies: dict[int, Tally] = {}

    @classmethod
    def beside(cls, partial: Path, *, may_overlap: bool) -> Self:
        """One that goes with an unfinished file."""
        return cls(partial.with_name(f"{partial.name}.spool"), may_overlap=may_overlap)

    def add(self, some: Outlines, polygons: Polygons) -> None:
        """Keep objects of one batch; `polygons` (or MultiPolygons) is what is kept of them."""
        for code in np.unique(some.codes).tolist():
            those = some.codes == code
            self.tallies.setdefault(code, Tally()).add(some.pixels[those], some.means[those])
            if self._may_overlap:
                for polygon in polygons[those]:
                    self._merge(code, polygon)
            else:
                self._insert(code, polygons[those])

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._path.parent

    def parts(self, code: int) -> int:
        """How many polygons a class has."""
        (count,) = self._database.execute(
            "SELECT count(*) FROM part WHERE code = ?", (code,)
        ).fetchone()
        return int(count)

    def batches(self, code: int) -> Iterator[Polygons]:
        """The polygons of a class, some thousands at once."""
        cursor = self._database.execute("SELECT wkb FROM part WHERE code = ? ORDER BY id", (code,))
        while rows := cursor.fetchmany(_AT_ONCE):
            yield shapely.from_wkb([wkb for (wkb,) in rows])

    def _insert(self, code: int, polygons: Polygons) -> NDArray[np.int64]:
        ids = np.arange(len(polygons)) + self._count
        self._count += len(polygons)
        rows = zip([code] * len(ids), ids.tolist(), shapely.to_wkb(polygons), strict=True)
        self._database.executemany("INSERT INTO part VALUES (?, ?, ?)", rows)
        return ids

    def _merge(self, code: int, polygon: shapely.Geometry) -> None:
        """Keep a polygon, joined with those of its class that it shares more than points with."""
        waiting = list(shapely.get_parts(polygon))
        while waiting:
            part = waiting.pop()
            ids, others = self._conflicts(code, part)
            if ids:
                known = [(code, number) for number in ids]
                self._database.executemany("DELETE FROM part WHERE code = ? AND id = ?", known)
                self._database.executemany("DELETE FROM box WHERE id = ?", [(i,) for i in ids])
                # Rounding may move a corner into another neighbour: those are asked again.
                whole = shapely.union_all([part, *others], grid_size=PRECISION)
                whole = shapely.set_precision(whole, 0, mode="pointwise")
                waiting += list(shapely.get_parts(whole))
                continue
            (number,) = self._insert(code, np.array([part], object)).tolist()
            left, bottom, right, top = shapely.bounds(part).tolist()
            box = (number, left, right, bottom, top, code, code)
            self._database.execute("INSERT INTO box VALUES (?, ?, ?, ?, ?, ?, ?)", box)

    def _conflicts(
        self, code: int, polygon: shapely.Geometry
    ) -> tuple[list[int], list[shapely.Geometry]]:
        left, bottom, right, top = shapely.bounds(polygon).tolist()
        cursor = self._database.execute(_NEAR, (code, right, left, top, bottom, code))
        shapely.prepare(polygon)
        ids: list[int] = []
        found: list[shapely.Geometry] = []
        while rows := cursor.fetchmany(_AT_ONCE):
            near = shapely.from_wkb([wkb for _, wkb in rows])
            met = np.flatnonzero(shapely.intersects(polygon, near))
            if not len(met):
                continue
            # Those of a class share points at most: together they are one valid geometry.
            shared = shapely.get_parts(
                shapely.intersection(polygon, shapely.multipolygons(near[met]))
            )
            wide = shared[shapely.get_dimensions(shared) > 0]
            hit = shapely.STRtree(near[met]).query(wide, predicate="intersects")[1]
            for index in met[np.unique(hit)].tolist():
                ids.append(rows[index][0])
                found.append(near[index])
        return ids, found

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
        self._path.unlink(missing_ok=True)
