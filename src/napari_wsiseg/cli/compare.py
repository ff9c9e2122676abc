"""`compare RESULT GEOJSON`: how well a result agrees with annotations, and at which thresholds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_wsiseg.cli.terminal import out, print_table
from napari_wsiseg.export.request import bounds_corner
from napari_wsiseg.geometry import YX
from napari_wsiseg.labels import DecisionRule
from napari_wsiseg.measure.agreement import OTHER_SLIDES, agreement
from napari_wsiseg.measure.overlap import NONE, Agreement, ClassAgreement, Overlap, SweepRow
from napari_wsiseg.measure.words import in_digits
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.regions import read_geojson
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.words import SCALE_SOURCES, in_mpp, several

if TYPE_CHECKING:
    from collections.abc import Sequence


def compare_result(
    result: Path,
    annotations: Path,
    rule_of: Callable[[ModelSpec], DecisionRule],
    aliases: Mapping[str, str],
    output: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Compare a result with annotations, and print what came out; the exit status.

    Parameters
    ----------
    result
        A result's folder.
    annotations
        A GeoJSON file as QuPath writes it: in pixels from the corner of the scanned part.
    rule_of
        The rule for a model.
    aliases
        By class of an annotation, the class of the model that is meant.
    output
        A folder for the tables and the plot; None: they are not written.
    overwrite
        Whether files that are there are replaced.
    as_json
        Print JSON in place of tables.

    Raises
    ------
    ExportError
        If a file cannot be written.
    JobError
        If rule or aliases name a class that the model does not have, if the annotations
        cannot be read, or if none can be compared.
    StoreError
        If the result cannot be read.
    """
    with ProbabilityMap.open(result) as pm:
        rule = rule_of(pm.spec)
        stem = result.absolute().name.removesuffix(".zarr").removesuffix(".ome")
        if output is not None:
            # Matplotlib takes a while to load: only for who wants the plot.
            from napari_wsiseg.export.agreement import check_agreement

            check_agreement(output, stem, overwrite=overwrite)
        offset = bounds_corner(pm)
        found = agreement(pm, read_geojson(annotations, offset), rule, aliases)
        written: Sequence[Path] = ()
        if output is not None:
            from napari_wsiseg.export.agreement import write_agreement

            written = write_agreement(
                found, pm, output, stem, annotations=annotations.name, overwrite=overwrite
            )
        if as_json:
            files = [str(path) for path in written]
            own = {"result": str(result), "annotations": str(annotations), "model": pm.spec.name}
            out(json.dumps(own | agreement_values(found, offset) | {"files": files}, indent=2))
            return 0
    _print(found, offset)
    for path in written:
        out(f"Written: {path}")
    out(RESEARCH_USE)
    return 0


def agreement_values(found: Agreement, offset: YX) -> dict[str, Any]:
    """An agreement as plain JSON."""
    names = [*(row.name for row in found.classes), NONE]
    return {
        "threshold_unit": found.threshold_unit,
        "classes": [
            {
                "name": row.name,
                "annotations": found.used.get(row.name, 0),
                "threshold": row.in_use.threshold,
                "best_threshold": None if row.best is None else row.best.threshold,
                **_overlap_values(found, row.overlap),
                "sweep": [
                    {"threshold": step.threshold, **_overlap_values(found, step.overlap)}
                    for step in row.sweep
                ],
            }
            for row in found.classes
        ],
        "confusion": None
        if found.confusion is None
        else {
            name: dict(zip(names, row, strict=True))
            for name, row in zip(names, found.confusion, strict=True)
        },
        "pixel_agreement": found.accuracy,
        "kappa": found.kappa,
        "area_pixels": found.area,
        "evaluated_pixels": found.evaluated,
        "regions": found.regions,
        "left_out": dict(found.left_out),
        "offset": list(offset),
        "mpp": None if found.mpp is None else list(found.mpp),
        "mpp_source": found.mpp_source,
        "remarks": [*found.remarks, OTHER_SLIDES],
        "notice": RESEARCH_USE,
    }


def _overlap_values(found: Agreement, overlap: Overlap) -> dict[str, Any]:
    return {
        "dice": overlap.dice,
        "precision": overlap.precision,
        "recall": overlap.recall,
        "reference_pixels": overlap.reference,
        "predicted_pixels": overlap.predicted,
        "both_pixels": overlap.both,
        "reference_mm2": found.mm2(overlap.reference),
        "predicted_mm2": found.mm2(overlap.predicted),
    }


def _print(found: Agreement, offset: YX) -> None:
    used = ", ".join(f"{name} {count}" for name, count in found.used.items())
    regions = f", in {several(found.regions, 'region')}" if found.regions else ""
    out(f"Annotations: {used}{regions}; {_area(found, found.evaluated)} compared.")
    for text in found.remarks:
        out(text)
    if any(offset):
        out(
            "The slide's scanned part begins inside it: "
            f"x {offset.x:g}, y {offset.y:g} were added to the annotations' coordinates."
        )
    out()
    _print_classes(found)
    out()
    if found.confusion is None:
        _print_pairs(found)
    else:
        _print_confusion(found)
    out()
    _print_sweep(found)
    out(OTHER_SLIDES)


def _print_classes(found: Agreement) -> None:
    unit = "px" if found.mpp is None else "mm²"
    titles = ["Class", "Threshold", "Dice", "Precision", "Recall"]
    titles += [f"Annotated {unit}", f"Predicted {unit}", f"Difference {unit}", "% points"]
    print_table(titles, (_class_cells(found, row) for row in found.classes), numbers_from=1)
    if found.mpp is None or found.mpp_source is None:
        out("Scale unknown: areas are in pixels and % of what was compared.")
    else:
        out(
            f"mm² at {in_mpp(found.mpp)}; the slide's scale is {SCALE_SOURCES[found.mpp_source]}. "
            "% of what was compared."
        )


def _class_cells(found: Agreement, row: ClassAgreement) -> list[str]:
    overlap = row.overlap
    more = overlap.predicted - overlap.reference
    sign = "+" if more > 0 else "-" if more < 0 else ""
    return [
        row.name,
        f"{row.in_use.threshold:.2f}",
        *map(_figure, (overlap.dice, overlap.precision, overlap.recall)),
        _number(found, overlap.reference),
        _number(found, overlap.predicted),
        f"{sign}{_number(found, abs(more))}",
        f"{100 * more / found.evaluated:+.1f}",
    ]


def _print_confusion(found: Agreement) -> None:
    names = [*(row.name for row in found.classes), NONE]
    rows = zip(names, found.confusion or (), strict=True)
    print_table(
        ["Annotated, in pixels", *(f"predicted {name}" for name in names)],
        ([name, *(f"{count:,}" for count in counts)] for name, counts in rows),
        numbers_from=1,
    )
    kappa = "" if found.kappa is None else f"; Cohen's kappa {found.kappa:.3f}"
    out(f"Same label: {100 * (found.accuracy or 0):.1f} % of the compared pixels{kappa}.")


def _print_pairs(found: Agreement) -> None:
    print_table(
        ["Class, in pixels", "both", "annotated alone", "predicted alone", "neither"],
        (_pair_cells(row, found.evaluated) for row in found.classes),
        numbers_from=1,
    )


def _pair_cells(row: ClassAgreement, evaluated: int) -> list[str]:
    reference, predicted, both = row.overlap.reference, row.overlap.predicted, row.overlap.both
    neither = evaluated - reference - predicted + both
    counts = (both, reference - both, predicted - both, neither)
    return [row.name, *(f"{count:,}" for count in counts)]


def _print_sweep(found: Agreement) -> None:
    unit = " (OD)" if found.threshold_unit != "probability" else ""
    shown = [row for row in found.classes if row.overlap.reference]
    titles = [f"Threshold{unit}", *(f"Dice {row.name}" for row in shown)]
    print_table(titles, _sweep_rows(shown), numbers_from=0)
    out("Each class's threshold is varied alone.")


def _sweep_rows(shown: Sequence[ClassAgreement]) -> Iterator[list[str]]:
    """A row a threshold of any class."""
    steps = [{step.threshold: step for step in row.sweep} for row in shown]
    for threshold in sorted({threshold for found in steps for threshold in found}):
        cells = []
        for row, found in zip(shown, steps, strict=True):
            step = found.get(threshold)
            cells.append("" if step is None else _marked(row, step))
        yield [f"{threshold:g}" if round(threshold, 2) != threshold else f"{threshold:.2f}", *cells]


def _marked(row: ClassAgreement, step: SweepRow) -> str:
    marks = ["in use"] if step is row.in_use else []
    marks += ["best"] if step is row.best else []
    return " ".join([", ".join(marks), _figure(step.overlap.dice)]).strip()


def _area(found: Agreement, pixels: int) -> str:
    mm2 = found.mm2(pixels)
    return f"{pixels:,} px" if mm2 is None else f"{in_digits(mm2)} mm² ({pixels:,} px)"


def _number(found: Agreement, pixels: int) -> str:
    mm2 = found.mm2(pixels)
    return f"{pixels:,}" if mm2 is None else in_digits(mm2)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
