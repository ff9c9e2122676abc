"""Areas as a table of comma-separated values: a row a class, in a slide or a region of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass as plain
from pathlib import Path

from pydantic import ConfigDict, InstanceOf
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.provenance import provenance, slide_of
from napari_wsiseg.export.request import ExportRequest, Step
from napari_wsiseg.export.table import Cell, Table, check_table, number_cell, text_cell, write_table
from napari_wsiseg.export.target import new_file
from napari_wsiseg.labels import threshold_scale, threshold_unit
from napari_wsiseg.measure import AreaTable, Measuring, table_rows
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.regions import NamedRegion, excluding
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
        regions = self.regions
        if regions is not None:
            regions = excluding(regions, request.pm.slide_size)
        measuring = Measuring(request.labels, regions)
        for part in measuring.steps():
            yield Step("writing", part)
        block = csv_block(request, measuring.tables())
        head, table = table_of([block])
        write_table(partial, head, table)
        yield Step("writing", 1.0)
        check_table(partial, head, table, target)
        yield Step("checking", 1.0)


def write_csv(path: Path, blocks: Sequence[CsvBlock], *, overwrite: bool) -> None:
    """One file of many results.

    Raises
    ------
    ExportError
        If something is at `path` and `overwrite` is False, or the disk refuses.
    """
    head, table = table_of(blocks)
    with new_file(path, overwrite=overwrite) as partial:
        write_table(partial, head, table)
        check_table(partial, head, table, path)


def table_of(blocks: Sequence[CsvBlock]) -> tuple[list[str], Table]:
    """Comments and rows of one table."""
    head = [RESEARCH_USE, *(block.made for block in blocks)]
    return head, [COLUMNS, *(row for block in blocks for row in block.rows)]


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
    return CsvBlock(made, tuple(rows))


def slide_name(pm: ProbabilityMap) -> str:
    """The stem of the slide that a result was made from; where that is not known, its own."""
    if stem := slide_of(pm).get("stem"):
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
        unit = threshold_unit(spec)
        threshold = request.labels.rule.thresholds_for(spec)[code - 1] * threshold_scale(spec)
        name = request.names[code]
    return (
        text_cell(slide_name(pm)),
        text_cell(slide_of(pm).get("fingerprint")),
        text_cell(table.region),
        text_cell(table.region_class),
        text_cell(name),
        row.pixels,
        number_cell(row.area_mm2),
        number_cell(None if row.fraction is None else 100 * row.fraction),
        number_cell(threshold),
        unit,
        text_cell(spec.name),
        # Of pixels that are not square: the side of a square as large.
        number_cell(None if pm.mpp is None else math.sqrt(pm.mpp.y * pm.mpp.x)),
        pm.mpp_source,
        pm.status,
    )
