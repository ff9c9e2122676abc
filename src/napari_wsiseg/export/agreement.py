"""Writes an agreement: two tables and a picture of the sweep; counts nothing itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.csv import slide_name
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.export.sweep_plot import sweep_figure
from napari_wsiseg.export.table import Cell, check_table, number_cell, text_cell, write_table
from napari_wsiseg.export.target import check_free, new_file
from napari_wsiseg.labels import LabelMap
from napari_wsiseg.measure.agreement import OTHER_SLIDES
from napari_wsiseg.measure.overlap import NONE, Agreement, ClassAgreement, SweepRow
from napari_wsiseg.notice import RESEARCH_USE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_wsiseg.store import ProbabilityMap

Table = list[list[Cell]]


def agreement_paths(folder: Path, stem: str) -> tuple[Path, Path, Path]:
    """The files that `write_agreement` writes: classes, sweep, picture of the sweep."""
    return (
        folder / f"{stem}-agreement.csv",
        folder / f"{stem}-sweep.csv",
        folder / f"{stem}-sweep.png",
    )


def check_agreement(folder: Path, stem: str, *, overwrite: bool) -> None:
    """Raise ExportError if `write_agreement` may not write: asked before any work is done."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder} is a file; give a folder for the tables and the plot.")
    for path in agreement_paths(folder, stem) if folder.exists() else ():
        check_free(path, is_folder=False, overwrite=overwrite)


def write_agreement(
    found: Agreement,
    pm: ProbabilityMap,
    folder: Path,
    stem: str,
    *,
    annotations: str | None = None,
    overwrite: bool = False,
) -> tuple[Path, Path, Path]:
    """Write an agreement as two tables (CSV) and a picture (PNG), all or none.

    `STEM-agreement.csv` has a row a class, and for exclusive classes the confusion table
    in its last columns; `STEM-sweep.csv` a row a class and threshold. Both begin with lines
    of comment, behind "#": the research-use sentence, what to know, the provenance as JSON.
    The picture has a panel for each class with a reference, and the provenance inside.

    Parameters
    ----------
    found
        What `napari_wsiseg.measure.agreement` found.
    pm
        The map that it was found on.
    folder
        Made where it is not there.
    stem
        What the files' names begin with.
    annotations
        What the annotations are called, for the provenance; no path. Not kept where the slide has
        an alias: such files are called as their slides are.
    overwrite
        Whether files that are there are replaced.

    Returns
    -------
    What was written, as `agreement_paths` gives it.

    Raises
    ------
    ExportError
        If a file is there already, cannot be written or does not read back as written.
    """
    check_agreement(folder, stem, overwrite=overwrite)
    paths = agreement_paths(folder, stem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(
            f"The folder {folder} cannot be made ({error.strerror}); choose another."
        ) from error
    made = _provenance(found, pm, annotations)
    head = [RESEARCH_USE, *found.remarks, OTHER_SLIDES, json.dumps(made, ensure_ascii=False)]
    slide = slide_name(pm) or stem
    title = f"{slide} - model {pm.spec.name}"
    tables = (class_table(found, slide), sweep_table(found, slide))
    with ExitStack() as files:
        partials = [files.enter_context(new_file(path, overwrite=overwrite)) for path in paths]
        for table, partial, path in zip(tables, partials, paths, strict=False):
            write_table(partial, head, table)
            check_table(partial, head, table, path)
        _write_picture(partials[-1], sweep_figure(found, title), made)
    return paths


def class_table(found: Agreement, slide: str) -> Table:
    """A row a class under a row of titles; of exclusive classes also a row for none of them.

    Cells are empty where a figure has no value, and those of mm² where the slide has no scale.
    """
    titles: list[Cell] = ["slide", "class", "threshold", "threshold_unit"]
    titles += ["dice", "precision", "recall"]
    titles += ["reference_pixels", "predicted_pixels", "both_pixels", "neither_pixels"]
    titles += ["reference_mm2", "predicted_mm2", "difference_mm2"]
    titles += ["reference_percent", "predicted_percent", "difference_percentage_points"]
    rows = [[text_cell(slide), *_class_cells(found, row)] for row in found.classes]
    if found.confusion is None:
        return [titles, *rows]
    none: list[Cell] = [text_cell(slide), NONE]
    rows.append([*none, *([None] * (len(titles) - len(none)))])
    titles += [f"predicted {row.name}" for row in found.classes] + [f"predicted {NONE}"]
    pairs = zip(rows, found.confusion, strict=True)
    return [titles, *([*row, *counts] for row, counts in pairs)]


def sweep_table(found: Agreement, slide: str) -> Table:
    """A row a class and threshold, under a row of titles."""
    titles: list[Cell] = ["slide", "class", "threshold", "threshold_unit"]
    titles += ["dice", "precision", "recall"]
    titles += ["predicted_pixels", "predicted_mm2", "in_use", "best_dice"]
    rows = (cells for row in found.classes for cells in _sweep_cells(found, row))
    return [titles, *([text_cell(slide), *cells] for cells in rows)]


def _class_cells(found: Agreement, row: ClassAgreement) -> list[Cell]:
    overlap = row.overlap
    reference, predicted, both = overlap.reference, overlap.predicted, overlap.both
    areas = (reference, predicted, predicted - reference)
    return [
        *_figures(found, row, row.in_use),
        *(reference, predicted, both, found.evaluated - reference - predicted + both),
        *(number_cell(found.mm2(area)) for area in areas),
        *(number_cell(100 * area / found.evaluated) for area in areas),
    ]


def _sweep_cells(found: Agreement, row: ClassAgreement) -> Iterator[list[Cell]]:
    for step in row.sweep:
        yield [
            *_figures(found, row, step),
            step.overlap.predicted,
            number_cell(found.mm2(step.overlap.predicted)),
            "yes" if step is row.in_use else "no",
            "yes" if step is row.best else "no",
        ]


def _figures(found: Agreement, row: ClassAgreement, step: SweepRow) -> list[Cell]:
    overlap = step.overlap
    figures = (overlap.dice, overlap.precision, overlap.recall)
    return [text_cell(row.name), step.threshold, found.threshold_unit, *map(number_cell, figures)]


def _provenance(found: Agreement, pm: ProbabilityMap, annotations: str | None) -> dict[str, Any]:
    labels = LabelMap(pm, found.rule)
    codes = tuple(code for layer in labels.layers for code in layer)
    names = {code: pm.classes[code - 1] for code in codes}
    # Programs that show the scanned part alone draw from its corner.
    made = provenance(ExportRequest(labels, codes, names, "bounds"))
    compared = {
        "annotations": annotations if pm.job.get("alias") is None else None,
        "classes": dict(found.used),
        "regions": found.regions,
        "left_out": dict(found.left_out),
        "area_pixels": found.area,
        "evaluated_pixels": found.evaluated,
        "pixel_agreement": found.accuracy,
        "kappa": found.kappa,
    }
    return {**made, "compared": compared}


def _write_picture(path: Path, figure: Figure, made: dict[str, Any]) -> None:
    # Matplotlib has types for some of its functions only.
    canvas: Any = FigureCanvasAgg(figure)
    text = {"Description": RESEARCH_USE, "napari_wsiseg": json.dumps(made)}
    with path.open("wb") as file:
        canvas.print_png(file, metadata=text)
    width, height = canvas.get_width_height()
    with Image.open(path) as image:
        image.load()
        if image.size != (width, height):
            raise ExportError(f"{path.name} does not read back as written; check the disk.")
