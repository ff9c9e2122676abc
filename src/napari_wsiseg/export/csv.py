"""Areas as a table of comma-separated values: a row a class, in a slide or a region of it."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass as plain
from pathlib import Path

from pydantic import ConfigDict, InstanceOf
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest, Step
from napari_wsiseg.export.target import new_file
from napari_wsiseg.measure import AreaTable, measure_labels, table_rows
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.regions import NamedRegion, excluding
from napari_wsiseg.spec import FULL_DENSITY
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.validation import raises

COLUMNS = (
    "slide",
    "fingerprint",
    "region",
    "region_class",
    "class",
    "pixels",
    "area_mm2",
    "percent_of_analysed_tissue",
    "threshold",
    "threshold_unit",
    "model",
    "mpp",
    "mpp_source",
    "status",
)

Cell = str | int | float | None


@plain(frozen=True, slots=True)
class CsvBlock:
    """What a table says of one result.

    Parameters
    ----------
    made
        How it came to be, as one line of JSON.
    rows
        A cell a column.
    """

    made: str
    rows: tuple[tuple[Cell, ...], ...]


@raises(ExportError, "A table of areas")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CsvWriter:
    """Writes the areas of a result.

    Lines at the top that begin with "#" hold the research-use sentence and, as JSON, the
    provenance; then comes a row of titles, then one a class.

    Parameters
    ----------
    regions
        Measured one by one, without what those of the class "Exclude" cover; None: the
        whole slide.

    Raises
    ------
    ExportError
        If there is another option.
    """

    regions: tuple[InstanceOf[NamedRegion], ...] | None = None

    def write(self, request: ExportRequest, partial: Path, target: Path) -> Iterator[Step]:
        """Measure, write, read back; see `Writer`."""
        for part in request.labels.prepare():
            yield Step("writing", part / 2)
        regions = self.regions
        if regions is not None:
            regions = excluding(regions, request.pm.slide_size)
        block = csv_block(request, measure_labels(request.labels, regions))
        write_blocks(partial, [block])
        yield Step("writing", 1.0)
        check_blocks(partial, [block], target)
        yield Step("checking", 1.0)


def write_csv(path: Path, blocks: Sequence[CsvBlock], *, overwrite: bool) -> None:
    """One file of many results.

    Raises
    ------
    ExportError
        If something is at `path` and `overwrite` is False, or the disk refuses.
    """
    with new_file(path, overwrite=overwrite) as partial:
        write_blocks(partial, blocks)
        check_blocks(partial, blocks, path)


def csv_block(request: ExportRequest, tables: Sequence[AreaTable]) -> CsvBlock:
    """What is written of a result.

    Parameters
    ----------
    request
        The result; its classes that are left out have no row.
    tables
        Its areas, of the slide or of regions.

    Raises
    ------
    ExportError
        If the areas are an estimate.
    """
    if any(table.estimated for table in tables):
        raise ExportError("These areas are an estimate; measure them for a file.")
    made = json.dumps(provenance(request), ensure_ascii=False)
    rows = [
        cells
        for _, table, row in table_rows((slide_name(request.pm), table) for table in tables)
        if (cells := _cells(request, table, row.name)) is not None
    ]
    return CsvBlock(" ".join(made.splitlines()), tuple(rows))


def slide_name(pm: ProbabilityMap) -> str:
    """The stem of the slide that a result was made from; where that is not known, its own."""
    made_from = pm.provenance.get("slide")
    stem = made_from.get("stem") if isinstance(made_from, dict) else None
    if stem:
        return str(stem)
    return "" if pm.path is None else pm.path.name.removesuffix(".zarr").removesuffix(".ome")


def _cells(request: ExportRequest, table: AreaTable, name: str) -> tuple[Cell, ...] | None:
    """A row; None for a class that is left out."""
    pm, spec = request.pm, request.spec
    row, threshold, unit = table[name], None, None
    if name in spec.classes:
        code = spec.classes.index(name) + 1
        if code not in request.codes:
            return None
        full = FULL_DENSITY if spec.activation == "stain" else 1.0
        unit = "optical density" if spec.activation == "stain" else "probability"
        threshold = request.labels.rule.thresholds_for(spec)[code - 1] * full
        name = request.names[code]
    made_from = pm.provenance.get("slide")
    fingerprint = made_from.get("fingerprint") if isinstance(made_from, dict) else None
    return (
        _text(slide_name(pm)),
        _text(fingerprint),
        _text(table.region),
        _text(table.region_class),
        _text(name),
        row.pixels,
        _number(row.area_mm2),
        _number(None if row.fraction is None else 100 * row.fraction),
        _number(threshold),
        unit,
        _text(spec.name),
        # Of pixels that are not square: the side of a square as large.
        _number(None if pm.mpp is None else math.sqrt(pm.mpp.y * pm.mpp.x)),
        pm.mpp_source,
        pm.status,
    )


def _text(value: object) -> str | None:
    """A cell's text: on one line, and no formula to a spreadsheet."""
    if value is None:
        return None
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _number(value: float | None) -> float | None:
    """Without the last digits, which are the arithmetic's."""
    return None if value is None else float(f"{value:.12g}")


def write_blocks(path: Path, blocks: Iterable[CsvBlock]) -> None:
    """Write a file, heads first."""
    blocks = tuple(blocks)
    with path.open("w", encoding="utf-8", newline="") as file:
        for line in (RESEARCH_USE, *(block.made for block in blocks)):
            file.write(f"# {line}\n")
        # Texts in quotes: readers that skip comments would cut a name at its "#".
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(COLUMNS)
        for block in blocks:
            writer.writerows(block.rows)


def check_blocks(path: Path, blocks: Sequence[CsvBlock], target: Path) -> None:
    """Read a file and compare.

    Raises
    ------
    ExportError
        If it does not hold what was written.
    """
    expected = [list(COLUMNS)]
    for block in blocks:
        expected += [["" if cell is None else str(cell) for cell in row] for row in block.rows]
    with path.open(encoding="utf-8", newline="") as file:
        head = [file.readline() for _ in range(1 + len(blocks))]
        found = list(csv.reader(file))
    heads = [f"# {line}\n" for line in (RESEARCH_USE, *(block.made for block in blocks))]
    if found != expected or head != heads:
        raise ExportError(f"{target} did not read back as it was written; check the disk.")
