"""`measure RESULT...`: areas of one result after the other; a bad one does not stop the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsiseg.cli import report
from napari_wsiseg.cli.results import status_after
from napari_wsiseg.cli.terminal import fail, out, say
from napari_wsiseg.errors import JobError
from napari_wsiseg.export.csv import CsvBlock, csv_block, slide_name, write_csv
from napari_wsiseg.export.request import ExportRequest, bounds_corner
from napari_wsiseg.export.target import check_free
from napari_wsiseg.labels import LabelMap
from napari_wsiseg.measure import AreaTable, measure_labels, stain_readout
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.regions import NamedRegion, excluding, read_geojson
from napari_wsiseg.store import ProbabilityMap, left_out_words
from napari_wsiseg.words import several

if TYPE_CHECKING:
    from napari_wsiseg.labels import Cleanup, DecisionRule
    from napari_wsiseg.spec import ModelSpec

_SUFFIXES = (".geojson", ".geojson.gz", ".json")


def measure_results(
    results: Sequence[Path],
    rule_of: Callable[[ModelSpec], DecisionRule],
    cleanup: Cleanup,
    regions: Path | None = None,
    csv: Path | None = None,
    *,
    corrected: bool = False,
    overwrite: bool = False,
    as_json: bool = False,
    verbose: bool = False,
) -> int:
    """Measure results, and print what came out; the exit status.

    Parameters
    ----------
    results
        Their folders.
    rule_of
        The rule for a model.
    cleanup
        What is done to labels before they are measured.
    regions
        A GeoJSON file as QuPath writes it, in pixels from the corner of the scanned part,
        or a folder with one a slide, by the slides' names. None: the whole slides.
    csv
        A file for the one table of all; None: it is not written.
    corrected
        Whether the labels that were corrected by hand are measured.
    overwrite
        Whether a file that is there is replaced.
    as_json
        A line of JSON a result, in place of tables.
    verbose
        Whether errors come with their tracebacks.

    Raises
    ------
    ExportError
        If the table cannot be written.
    """
    if csv is not None:
        check_free(csv, is_folder=False, overwrite=overwrite)
    work = _Work(rule_of, cleanup, regions, corrected=corrected, as_json=as_json)
    failed: list[tuple[Path, Exception]] = []
    for number, result in enumerate(results, 1):
        if len(results) > 1:
            say(f"{result} ({number} of {len(results)})")
        try:
            work.measure(result)
        except BrokenPipeError:
            raise
        # Libraries fail in ways that nobody lists; the other results are not to blame.
        except Exception as error:  # noqa: BLE001
            failed.append((result, error))
            fail(error, verbose=verbose)
    if csv is not None and work.blocks:
        write_csv(csv, work.blocks, overwrite=overwrite)
        say(f"Table: {csv}")
    if work.blocks and not as_json:
        out(RESEARCH_USE)
    return status_after(failed, len(results))


@dataclass
class _Work:
    """What is done with each result, and what is kept of it for the table."""

    rule_of: Callable[[ModelSpec], DecisionRule]
    cleanup: Cleanup
    regions: Path | None
    corrected: bool
    as_json: bool
    blocks: list[CsvBlock] = field(default_factory=list)

    def measure(self, result: Path) -> None:
        """Measure one, and print it."""
        with (
            ProbabilityMap.open(result) as pm,
            LabelMap(pm, self.rule_of(pm.spec), self.cleanup, corrected=self.corrected) as labels,
        ):
            regions = None if self.regions is None else _regions(pm, self.regions)
            tables = measure_labels(labels, regions)
            codes = tuple(code for layer in labels.layers for code in layer)
            names = {code: pm.spec.classes[code - 1] for code in codes}
            block = csv_block(ExportRequest(labels, codes, names, "slide"), tables)
            if self.as_json:
                values = _values(pm, tables, with_regions=regions is not None)
                values["corrections"] = [done.json() for done in labels.corrections]
                out(json.dumps(values))
            else:
                _print(labels, tables, self.regions)
            self.blocks.append(block)


def _regions(pm: ProbabilityMap, path: Path) -> tuple[NamedRegion, ...]:
    """The regions of a result's slide, in pixels of the slide."""
    file = path
    if path.is_dir():
        stem = slide_name(pm)
        files = [path / f"{stem}{suffix}" for suffix in _SUFFIXES]
        found = [file for file in files if file.is_file()]
        if not found:
            raise JobError(f"There is no {files[0].name} in {path}; name it after the slide.")
        file = found[0]
    return excluding(read_geojson(file, bounds_corner(pm)), pm.slide_size)


def _print(labels: LabelMap, tables: Sequence[AreaTable], regions: Path | None) -> None:
    pm = labels.pm
    out(f"Result: {pm.path}")
    if done := labels.corrections:
        pixels = several(sum(correction.pixels for correction in done), "pixel")
        out(f"Labels corrected by hand: {pixels}, last on {done[-1].time:%Y-%m-%d %H:%M} UTC.")
    for line in _remarks(pm, regions):
        out(line)
    for table in tables:
        out()
        if table.region is not None:
            kind = "" if table.region_class is None else f" ({table.region_class})"
            out(f"{table.region}{kind}")
        report.print_table_of(table)
        for text in stain_readout(table):
            out(text)
    out(report.scale_words(tables[0]))
    out()


def _remarks(pm: ProbabilityMap, regions: Path | None) -> Iterator[str]:
    """What has to be known of the numbers."""
    if pm.status != "complete":
        finished = pm.finished
        yield f"It is {pm.status}: {finished.sum()} of {finished.size} chunks are finished."
    if lacks := left_out_words(pm):
        yield lacks
    if regions is not None:
        corner = bounds_corner(pm)
        where = "slide's corner"
        if corner != (0, 0):
            where = f"corner of the scanned part, x {corner.x:.0f}, y {corner.y:.0f} on the slide"
        yield f"Regions: {regions}, in pixels from the {where}, as in QuPath."


def _values(
    pm: ProbabilityMap, tables: Sequence[AreaTable], *, with_regions: bool
) -> dict[str, object]:
    """A result as plain JSON; areas of regions in place of the slide's where there are any."""
    values = {"slide": slide_name(pm), **report.result_values(pm, tables[0])}
    if with_regions:
        del values["areas"]
        values["regions"] = [
            {
                "name": table.region,
                "class": table.region_class,
                "areas": report.area_values(table),
            }
            for table in tables
        ]
        values["origin"] = list(bounds_corner(pm))
    return values | {"notice": RESEARCH_USE}
