"""The verbs that take results, and their options; what they do is loaded when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_wsiseg.cli.options import AsJson, Verbose, flag, option

_LABELS = "What gets a label"
_CLEANUP = "Clean-up of labels"
_WRITING = "What is written"
_FORMAT = "Options of one format"

Results = Annotated[
    list[str],
    typer.Argument(metavar="RESULT...", help="Results of `segment`, or quoted patterns of them."),
]
Threshold = Annotated[
    list[str] | None,
    option(
        _LABELS,
        "--threshold",
        "-t",
        metavar="CLASS=NUMBER",
        text="From which probability (for stains: optical density) on; may be repeated.",
    ),
]
DefaultThreshold = Annotated[
    float | None,
    option(
        _LABELS, "--default-threshold", metavar="NUMBER", text="For classes that are not named."
    ),
]
Preset = Annotated[
    Path | None,
    option(_LABELS, "--preset", metavar="FILE", text="Thresholds that were saved as a preset."),
]
MinArea = Annotated[
    float,
    option(_CLEANUP, "--min-area", metavar="UM2", text="Smaller objects go, in µm².", least=0),
]
FillHoles = Annotated[
    float,
    option(
        _CLEANUP,
        "--fill-holes",
        metavar="UM2",
        text="Holes up to this are filled, in µm².",
        least=0,
    ),
]
Smooth = Annotated[
    float,
    option(_CLEANUP, "--smooth", metavar="UM", text="Radius of the smoothing, in µm.", least=0),
]
Corrected = Annotated[
    bool,
    flag(_LABELS, "--corrected", "The labels that were corrected by hand in the window."),
]
Overwrite = Annotated[bool, flag(_WRITING, "--overwrite", "Replace what an earlier export wrote.")]


def export(
    results: Results,
    format_name: Annotated[
        str,
        option(
            _WRITING,
            "--format",
            "-f",
            metavar="NAME",
            text="geojson, ome-tiff, ome-zarr, annotation-store, csv or png.",
        ),
    ] = "geojson",
    output: Annotated[
        Path | None,
        option(
            _WRITING,
            "--output",
            "-o",
            metavar="PATH",
            text="The file, or a folder for the exports of several; default: beside the result "
            "(ome-zarr: inside it).",
        ),
    ] = None,
    overwrite: Overwrite = False,
    classes: Annotated[
        list[str] | None,
        option(_WRITING, "--classes", metavar="CLASS", text="Only these; may be repeated."),
    ] = None,
    alias: Annotated[
        list[str] | None,
        option(
            _WRITING,
            "--alias",
            metavar="CLASS=NAME",
            text="Another name for a class; may be repeated. 'qupath': the names QuPath knows.",
        ),
    ] = None,
    origin: Annotated[
        str | None,
        option(
            _WRITING,
            "--origin",
            metavar="WHICH",
            text="slide, or bounds (the scanned part, as QuPath has it; default of geojson); not "
            "of ome-tiff, csv and png.",
        ),
    ] = None,
    with_paths: Annotated[
        bool, flag(_WRITING, "--with-paths", "Let the provenance name paths.")
    ] = False,
    threshold: Threshold = None,
    default_threshold: DefaultThreshold = None,
    preset: Preset = None,
    corrected: Corrected = False,
    min_area: MinArea = 0,
    fill_holes: FillHoles = 0,
    smooth: Smooth = 0,
    per: Annotated[
        str | None,
        option(
            _FORMAT,
            "--per",
            metavar="WHAT",
            text="object or class: what an outline is (geojson, annotation-store).",
        ),
    ] = None,
    object_type: Annotated[
        str | None,
        option(_FORMAT, "--object-type", metavar="TYPE", text="annotation or detection (geojson)."),
    ] = None,
    simplify: Annotated[
        float | None,
        option(
            _FORMAT,
            "--simplify",
            metavar="UM",
            text="Fewer points, at most this far off, in µm (geojson, annotation-store).",
            least=0,
        ),
    ] = None,
    content: Annotated[
        str | None,
        option(_FORMAT, "--content", metavar="WHAT", text="labels or probabilities (ome-tiff)."),
    ] = None,
    not_analysed: Annotated[
        int | None,
        option(
            _FORMAT,
            "--not-analysed",
            metavar="255",
            text="The value of pixels that were not analysed (ome-tiff, ome-zarr).",
        ),
    ] = None,
    slide: Annotated[
        Path | None,
        option(_FORMAT, "--slide", metavar="FILE", text="The slide of the result (png)."),
    ] = None,
    size: Annotated[
        int | None,
        option(_FORMAT, "--size", metavar="PX", text="The picture's longer side (png)."),
    ] = None,
    verbose: Verbose = False,
) -> int:
    """Write results as files that other programs open.

    Exit status: 0 done, 1 a result failed (the others were exported), 2 bad usage or input, 130
    interrupted.
    """
    from napari_wsiseg.cli.decisions import Thresholds, export_aliases
    from napari_wsiseg.cli.export import ExportSettings, export_results
    from napari_wsiseg.labels import Cleanup

    own: dict[str, Any] = {
        "per": per,
        "object_type": object_type,
        "simplify_um": simplify,
        "content": content,
        "not_analysed": not_analysed,
        "slide": slide,
        "size": size,
    }
    shared = {
        "classes": classes or None,
        "aliases": export_aliases(alias or []),
        "origin": origin,
        "with_paths": with_paths,
        "overwrite": overwrite,
        "corrected": corrected,
    }
    settings = ExportSettings(
        format_name,
        Thresholds(threshold or [], default_threshold, preset, decided=corrected),
        Cleanup(min_object_um2=min_area, fill_hole_um2=fill_holes, smooth_um=smooth),
        shared | {name: value for name, value in own.items() if value is not None},
        output,
        verbose=verbose,
    )
    return export_results(results, settings)


def measure(
    results: Results,
    regions: Annotated[
        Path | None,
        option(
            _WRITING,
            "--regions",
            metavar="PATH",
            text="GeoJSON of regions (QuPath), or a folder of <slide>.geojson for several results.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        option(_WRITING, "--csv", metavar="FILE", text="Write the table of all results here."),
    ] = None,
    overwrite: Overwrite = False,
    threshold: Threshold = None,
    default_threshold: DefaultThreshold = None,
    preset: Preset = None,
    corrected: Corrected = False,
    min_area: MinArea = 0,
    fill_holes: FillHoles = 0,
    smooth: Smooth = 0,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Measure the area of each class: pixels, mm² and % of the analysed tissue."""
    from napari_wsiseg.cli.decisions import Thresholds
    from napari_wsiseg.cli.measure import measure_results
    from napari_wsiseg.cli.results import find_results
    from napari_wsiseg.labels import Cleanup

    return measure_results(
        find_results(results),
        Thresholds(threshold or [], default_threshold, preset, decided=corrected).rule_for,
        Cleanup(min_object_um2=min_area, fill_hole_um2=fill_holes, smooth_um=smooth),
        regions=regions,
        csv=csv,
        corrected=corrected,
        overwrite=overwrite,
        as_json=as_json,
        verbose=verbose,
    )


def compare(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result of `segment`.")],
    annotations: Annotated[
        Path, typer.Argument(metavar="GEOJSON", help="Annotations to compare with (QuPath).")
    ],
    output: Annotated[
        Path | None,
        option(
            _WRITING,
            "--output",
            "-o",
            metavar="DIR",
            text="Where tables (CSV) and the plot of the thresholds (PNG) go.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    alias: Annotated[
        list[str] | None,
        option(
            _WRITING,
            "--alias",
            metavar="ANNOTATED=CLASS",
            text="What an annotated class is called in the model; may be repeated.",
        ),
    ] = None,
    threshold: Threshold = None,
    default_threshold: DefaultThreshold = None,
    preset: Preset = None,
    as_json: AsJson = False,
    _verbose: Verbose = False,
) -> int:
    """Compare a result with annotations: Dice, confusion, areas, and what other thresholds give."""
    from napari_wsiseg.cli.compare import compare_result
    from napari_wsiseg.cli.decisions import Thresholds, aliases_of

    return compare_result(
        result,
        annotations,
        Thresholds(threshold or [], default_threshold, preset).rule_for,
        aliases_of(alias or []),
        output=output,
        overwrite=overwrite,
        as_json=as_json,
    )
