"""Reads a GeoJSON export back, line by line, and compares it with what it should hold."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import shapely

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.outlines import SlideGrid, invalid

_AT_ONCE = 4096
_GEOMETRY = '"geometry":'
_OPENS_MANY = '{"type":"MultiPolygon","coordinates":['
_CLOSES_MANY = "]}}"
_FOOT = "]}"


@dataclass
class Expected:
    """What a file should hold.

    Parameters
    ----------
    provenance
        What stands before the features.
    features, parts
        How many features, and how many polygons they have together.
    pixels
        By class name: of how many map pixels its polygons are.
    """

    provenance: dict[str, Any]
    features: int = 0
    parts: int = 0
    pixels: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, pixels: int, parts: int) -> None:
        """Count a feature."""
        self.features += 1
        self.parts += parts
        self.pixels[name] += pixels


def check(lines: Iterable[bytes], expected: Expected, grid: SlideGrid | None) -> Iterator[float]:
    """Compare; yields what part is done, 0..1.

    Every line has to be JSON, every polygon closed and valid when snapped to 0.01 px, and
    what is counted as expected. With a grid, the polygons of each class have to have the
    area of its pixels, exactly.

    Raises
    ------
    ExportError
        If something differs.
    """
    reading = _Reading(expected, grid)
    try:
        for line in lines:
            reading.take(line.decode())
            if len(reading.waiting) >= _AT_ONCE:
                reading.judge()
                yield min(reading.parts / max(expected.parts, 1), 1.0)
        reading.end()
    except (ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        raise _differs(f"it is not the GeoJSON that was written: {error}") from error
    except shapely.errors.GEOSException as error:
        raise _differs(f"an outline cannot be read: {error}") from error


class _Reading:
    """Where the reader is, and what it has counted."""

    def __init__(self, expected: Expected, grid: SlideGrid | None) -> None:
        self._expected, self._grid = expected, grid
        # Of the class whose polygons stand on the lines that follow.
        self._name: str | None = None
        # How the line before ended: a list opened, another item announced, or neither.
        self._before: Literal["start", "opened", "comma", "item", "end"] = "start"
        self.waiting: list[tuple[str, str]] = []
        self.features = self.parts = 0
        self.pixels: Counter[str] = Counter()

    def take(self, line: str) -> None:
        """The next line."""
        text = line.removesuffix("\n")
        item = text.removesuffix(",")
        closes = _FOOT if self._name is None else _CLOSES_MANY
        if self._before == "start":
            self._head(text)
            self._before = "opened"
        elif item == closes:
            self._expect("item" if self._expected.features else "opened")
            self._before = "comma" if item != text else "item"
            if self._name is None:
                self._before = "end"
            self._name = None
        else:
            self._expect("opened", "comma")
            self._before = "comma" if item != text else "item"
            self._item(item)

    def _expect(self, *before: str) -> None:
        if self._before not in before:
            raise _differs("a comma, or a line, is where none should be")

    def _head(self, text: str) -> None:
        head = _parsed(text + _FOOT)
        made = json.loads(json.dumps(self._expected.provenance))
        if head["type"] != "FeatureCollection" or head["napari_wsiseg"] != made:
            raise _differs("its head is another")

    def _item(self, text: str) -> None:
        """A feature, the beginning of one, or a polygon of one."""
        if self._name is not None:
            self.waiting.append((self._name, f'{{"type":"Polygon","coordinates":{text}}}'))
            return
        start = text.index(_GEOMETRY) + len(_GEOMETRY)
        feature = _parsed(text[:start] + "null}")
        name = str(feature["properties"]["classification"]["name"])
        self.features += 1
        if text[start:] == _OPENS_MANY:
            self._name, self._before = name, "opened"
        else:
            self.waiting.append((name, text[start:-1]))

    def judge(self) -> None:
        """Look at the outlines that were read since."""
        if not self.waiting:
            return
        names = np.array([name for name, _ in self.waiting], object)
        found = shapely.from_geojson([text for _, text in self.waiting])
        self.waiting.clear()
        self.parts += int(shapely.get_num_geometries(found).sum())
        problem = invalid(found)
        if problem:
            raise _differs(problem)
        if self._grid is not None:
            pixels = self._grid.pixels(found)
            for name in dict.fromkeys(names):
                self.pixels[name] += int(pixels[names == name].sum())

    def end(self) -> None:
        """After the last line."""
        self.judge()
        wanted = self._expected
        if self._before != "end":
            raise _differs("it is cut off")
        if (self.features, self.parts) != (wanted.features, wanted.parts):
            raise _differs(
                f"it has {self.features} features with {self.parts} outlines, not "
                f"{wanted.features} with {wanted.parts}"
            )
        if self._grid is not None and self.pixels != wanted.pixels:
            raise _differs("the outlines of a class have another area than its pixels")


def _parsed(text: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(text, parse_constant=_no_number)
    return values


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _differs(what: str) -> ExportError:
    return ExportError(
        f"The GeoJSON did not read back as written: {what}; check the disk and export again."
    )
