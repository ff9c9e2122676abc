"""`export`: any result to any format, and nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.formats import format_named
from napari_wsiseg.export.provenance import encodable
from napari_wsiseg.export.request import ExportRequest, Origin, Step
from napari_wsiseg.export.target import check_free, is_label_image, new_target
from napari_wsiseg.labels import MODELS_OWN, Cleanup, DecisionRule, LabelMap, label_of
from napari_wsiseg.regions import QUPATH_CLASSES
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import ProbabilityMap, left_out_words
from napari_wsiseg.store.label_images import LABELS, list_label
from napari_wsiseg.store.lock import WriterLock

TISSUE_CLASSES = "tissue-classes"
"""What labels inside a result are called, unless the user says."""


def export(
    pm: ProbabilityMap,
    path: str | os.PathLike[str] | None = None,
    format: str = "geojson",  # noqa: A002 - that is what users call it
    rule: DecisionRule = MODELS_OWN,
    cleanup: Cleanup | None = None,
    **options: Any,
) -> Path:
    """Write a result in a format that other programs open; to the end.

    Parameters and errors as for `export_steps`.

    Returns
    -------
    The file or folder that was written.
    """
    target = export_path(pm, path, format)
    for _ in export_steps(pm, target, format, rule, cleanup, **options):
        pass
    return target


def export_steps(
    pm: ProbabilityMap,
    path: str | os.PathLike[str] | None = None,
    format: str = "geojson",  # noqa: A002 - as above
    rule: DecisionRule = MODELS_OWN,
    cleanup: Cleanup | None = None,
    *,
    classes: Sequence[str] | None = None,
    aliases: Mapping[str, str] | Literal["qupath"] | None = None,
    origin: Origin | None = None,
    overwrite: bool = False,
    with_paths: bool = False,
    corrected: bool = False,
    **options: Any,
) -> Generator[Step, None, None]:
    """Write a result in a format that other programs open, step by step.

    It is streamed to a temporary name, read back and checked, and then renamed: what
    stands there afterwards is whole, or what stood there before.

    Parameters
    ----------
    pm
        The map. Of one that still grows, what is there is exported, and its provenance
        says so.
    path
        The file (for "ome-zarr" the folder) to write. None: beside the result; for
        "ome-zarr" inside it, in `labels/tissue-classes`.
    format
        "geojson", "ome-tiff", "ome-zarr", "annotation-store", "csv" or "png".
    rule
        What makes a label.
    cleanup
        What is done to labels then.
    classes
        The classes that are exported; None: all but the background.
    aliases
        Other names for classes, by the model's names; "qupath": those that QuPath knows.
    origin
        Whether (0, 0) is the corner of the slide or of its scanned part ("bounds"), where
        QuPath has it; None: "bounds" for "geojson", else "slide". Of "ome-tiff", "csv" and
        "png" it is the slide's.
    overwrite
        Whether an earlier export is replaced.
    with_paths
        Whether the provenance may name paths.
    corrected
        Whether the labels that were corrected by hand are exported (see `correct`), in place
        of those of `rule`.
    options
        The format's own: see the class that writes it, such as `GeoJsonWriter`.

    Yields
    ------
    Step
        After each strip, with remarks where the user should know of something.

    Raises
    ------
    ExportError
        If something is in the way, an option is not the format's, the disk refuses, or
        what was written does not read back as it should.
    JobError
        If the model has no such class, or the slide no scale where one is needed.
    StoreError
        If the map cannot be read, nothing was corrected, or labels are ready for a result that
        a run now writes or whose list of labels cannot be read.
    """
    chosen = format_named(format)
    writer = chosen.load(options)
    target = export_path(pm, path, format)
    is_label = chosen.is_folder and is_label_image(target, pm)
    if not is_label and not target.name.lower().endswith(chosen.suffixes):
        suffixes = " or ".join(chosen.suffixes)
        raise ExportError(f"{target.name} is no name for {chosen.name}; let it end in {suffixes}.")
    place = chosen.origin(origin)
    codes = _codes(classes, pm.spec)
    names = _names(aliases, codes, pm.spec)
    with LabelMap(pm, rule, cleanup, corrected=corrected) as labels:
        request = ExportRequest(labels, codes, names, place, with_paths)
        parts = [(request, target)]
        if is_label and not labels.exclusive:
            parts = _one_a_class(request, target)
        for _, where in parts:
            check_free(where, is_folder=chosen.is_folder, overwrite=overwrite)
        if pm.status != "complete":
            finished = f"{pm.finished.sum()} of {pm.finished.size} chunks are finished"
            yield Step("reading", 0.0, f"The result is {pm.status}: {finished}.")
        if lacks := left_out_words(pm):
            yield Step("reading", 0.0, lacks)
        for part in labels.prepare():
            yield Step("cleaning up", part)
        for part_request, where in parts:
            with ExitStack() as held:
                with new_target(where, is_folder=chosen.is_folder, overwrite=overwrite) as partial:
                    yield from writer.write(part_request, partial, where)
                    if is_label:
                        # A run may have begun meanwhile: from here on none can.
                        held.callback(WriterLock.acquire(_home_of(where)).release)
                if is_label:
                    list_label(_home_of(where), where.name)
    yield Step("done", 1.0)


def export_path(
    pm: ProbabilityMap,
    path: str | os.PathLike[str] | None,
    format: str,  # noqa: A002 - as above
) -> Path:
    """Where an export goes when `path` is given, or not.

    Raises
    ------
    ExportError
        If there is no such format, or no path and the map is not on disk.
    """
    chosen = format_named(format)
    if path is not None:
        return Path(path)
    if pm.path is None:
        raise ExportError("The map is in memory and has no place of its own; give a path.")
    if chosen.is_folder:
        return pm.path / LABELS / TISSUE_CLASSES
    stem = pm.path.name.removesuffix(".zarr").removesuffix(".ome")
    return pm.path.with_name(stem + chosen.suffixes[0])


def _home_of(label: Path) -> Path:
    """The result of a label image."""
    return label.absolute().parent.parent


def _one_a_class(request: ExportRequest, target: Path) -> list[tuple[ExportRequest, Path]]:
    """Classes that may overlap have a label image each."""
    from napari_wsiseg.export.omezarr import folder_names

    folders = folder_names(list(request.names.values()))
    return [
        (
            replace(request, codes=(code,), names={code: name}),
            target.with_name(f"{target.name}-{folder}"),
        )
        for (code, name), folder in zip(request.names.items(), folders, strict=True)
    ]


def _codes(classes: Sequence[str] | None, spec: ModelSpec) -> tuple[int, ...]:
    if classes is None:
        return tuple(i + 1 for i in range(len(spec.classes)) if i != spec.background)
    if not classes or isinstance(classes, str):
        raise ExportError(f"classes is {classes!r}; give a list of at least one class.")
    return tuple(sorted({label_of(name, spec) for name in classes}))


def _names(
    aliases: Mapping[str, str] | Literal["qupath"] | None, codes: tuple[int, ...], spec: ModelSpec
) -> dict[int, str]:
    if aliases == "qupath":
        aliases = {own: theirs for own, theirs in QUPATH_CLASSES.items() if own in spec.classes}
    renamed = {label_of(own, spec): shown for own, shown in (aliases or {}).items()}
    if "" in renamed.values():
        raise ExportError("A class cannot be called ''; give it a name.")
    return {code: encodable(renamed.get(code, spec.classes[code - 1])) for code in codes}
