"""Outlines as GeoJSON that QuPath imports.

A polygon a line: QuPath reads it as any other, and what was written is read back without
holding it.
"""

from __future__ import annotations

import gzip
import json
import math
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, cast

import shapely
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.geojson_check import Expected, check
from napari_wsiseg.export.outlines import (
    Outlines,
    Polygons,
    SlideGrid,
    outlines,
    simplified,
    tolerance_px,
)
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest, Step
from napari_wsiseg.export.spool import Spool, Tally, database_errors
from napari_wsiseg.validation import raises

# QuPath becomes slow with more annotations than this; detections it draws by the million.
MANY_ANNOTATIONS = 5000


@raises(ExportError, "A GeoJSON export")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GeoJsonWriter:
    """Writes outlines for QuPath.

    Parameters
    ----------
    per
        "class": all of a class is one feature; "object": each object is one.
    object_type
        What QuPath makes of a feature. Detections are quicker than annotations, and cannot
        be edited there.
    simplify_um
        How far outlines may be from the pixels' edges, in µm; 0: exact.

    Raises
    ------
    ExportError
        If a value is out of range.
    """

    per: Literal["class", "object"] = "class"
    object_type: Literal["annotation", "detection"] = "annotation"
    simplify_um: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0

    def write(self, request: ExportRequest, partial: Path, target: Path) -> Iterator[Step]:
        """Write to `partial`, then read that back and compare; see `formats.Writer`."""
        tolerance = tolerance_px(request, self.simplify_um)
        grid = SlideGrid(request)
        features = _Features(self, request, grid)
        zipped = target.name.lower().endswith(".gz")
        with _written(partial, zipped=zipped) as file:
            file.write(_head(features.provenance))
            if self.per == "object":
                yield from _write_objects(features, file, tolerance)
            else:
                with (
                    database_errors(target),
                    closing(Spool.beside(partial, may_overlap=bool(tolerance))) as spool,
                ):
                    yield from _write_classes(features, file, spool, tolerance)
            file.write(b"\n]}\n")
        yield Step("writing", 1.0, self._remark(features.expected.features))
        with gzip.open(partial) if zipped else partial.open("rb") as lines:
            for done in check(lines, features.expected, None if tolerance else grid):
                yield Step("checking", done)
        yield Step("checking", 1.0)

    def _remark(self, count: int) -> str:
        if count <= MANY_ANNOTATIONS or self.object_type == "detection":
            return ""
        return (
            f"The file has {count:,} annotations, which makes QuPath slow; give the object type "
            "'detection', or a smallest area of objects."
        )


class _Features:
    """Makes features, and remembers what the file should hold."""

    def __init__(self, writer: GeoJsonWriter, request: ExportRequest, grid: SlideGrid) -> None:
        self.request, self.grid = request, grid
        self.provenance = provenance(request)
        self.made = "corrected" if request.labels.corrections else "predicted"
        self.expected = Expected(provenance=self.provenance)
        self._writer = writer
        text = json.dumps(self.provenance, sort_keys=True, default=str)
        self._namespace = uuid.uuid5(uuid.NAMESPACE_OID, f"{text} {writer}")
        self._head = {code: self._properties(code) for code in request.codes}

    def start(self, code: int, measurements: dict[str, float], pixels: int, parts: int) -> str:
        """A feature up to its geometry."""
        name = self.request.names[code]
        self.expected.add(name, pixels, parts)
        identity = uuid.uuid5(self._namespace, str(self.expected.features))
        numbers = ",".join(
            f"{json.dumps(what, ensure_ascii=False)}:{_number(value)}"
            for what, value in measurements.items()
        )
        return (
            f'{{"type":"Feature","id":"{identity}","properties":{self._head[code]}'
            f'"measurements":{{{numbers}}}}},"geometry":'
        )

    def measurements(self, pixels: int, mean: float) -> dict[str, float]:
        """Of pixels of one class; areas are exact whatever the outlines."""
        um2 = self.grid.pixel_um2
        area = pixels * (self.grid.pixel_px2 if um2 is None else um2)
        is_stain = self.request.spec.activation == "stain"
        return {
            f"Area {'px' if um2 is None else 'µm'}^2 ({self.made})": area,
            f"Mean {'OD' if is_stain else 'probability'} ({self.made})": mean,
        }

    def place(self, some: Outlines, tolerance: float) -> Polygons:
        """Outlines on the slide."""
        return simplified(self.grid.place(some.polygons), tolerance)

    def _properties(self, code: int) -> str:
        values = {
            "objectType": self._writer.object_type,
            "classification": {
                "name": self.request.names[code],
                "color": list(self.request.rgb(code)),
            },
        }
        return _compact(values)[:-1] + ","


def _write_objects(features: _Features, file: BinaryIO, tolerance: float) -> Iterator[Step]:
    between = ""
    for some in outlines(features.request):
        lines = []
        polygons = features.place(some, tolerance)
        facts = zip(
            some.codes.tolist(),
            some.pixels.tolist(),
            some.means.tolist(),
            shapely.get_num_geometries(polygons).tolist(),
            _texts(polygons),
            strict=True,
        )
        for code, pixels, mean, parts, text in facts:
            measured = features.measurements(pixels, mean)
            lines.append(f"{between}\n{features.start(code, measured, pixels, parts)}{text}}}")
            between = ","
        file.write("".join(lines).encode())
        yield Step("writing", some.part)


def _write_classes(
    features: _Features, file: BinaryIO, spool: Spool, tolerance: float
) -> Iterator[Step]:
    for some in outlines(features.request):
        spool.add(some, features.place(some, tolerance))
        yield Step("writing", 0.8 * some.part)
    for index, code in enumerate(sorted(spool.tallies)):
        start = _class_start(features, code, spool.tallies[code], spool.parts(code))
        file.write(f"{',' if index else ''}\n{start}".encode())
        between = "\n"
        for polygons in spool.batches(code):
            texts = [text[_POLYGON_HEAD:-1] for text in _texts(polygons)]
            file.write((between + ",\n".join(texts)).encode())
            between = ",\n"
            yield Step("writing", 0.8 + 0.2 * index / len(spool.tallies))
        file.write(b"\n]}}")


def _class_start(features: _Features, code: int, tally: Tally, parts: int) -> str:
    measured = features.measurements(tally.pixels, tally.mean)
    measured[f"Objects ({features.made})"] = tally.objects
    start = features.start(code, measured, tally.pixels, parts)
    return start + '{"type":"MultiPolygon","coordinates":['


_POLYGON_HEAD = len('{"type":"Polygon","coordinates":')


def _texts(polygons: Polygons) -> list[str]:
    """Each geometry as GeoJSON; whole numbers without their decimals."""
    texts = shapely.to_geojson(polygons).tolist()
    return [text.replace(".0,", ",").replace(".0]", "]") for text in texts]


def _head(made: dict[str, Any]) -> bytes:
    text = f'{{"type":"FeatureCollection","napari_wsiseg":{_compact(made)},"features":['
    return text.encode()


def _compact(values: object) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _number(value: float) -> str:
    """A number as QuPath reads it: JSON has none that are not finite."""
    if math.isnan(value):
        return '"NaN"'
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    return repr(value)


@contextmanager
def _written(path: Path, *, zipped: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        if not zipped:
            yield file
            return
        # Without name and time, equal exports are equal files.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            yield cast("BinaryIO", packed)
