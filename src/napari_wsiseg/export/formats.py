"""The formats of exports: a table, so that a format is loaded when it is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.request import ExportRequest, Origin, Step


class Writer(Protocol):
    """An exporter with its own options, checked when it is made."""

    def write(self, request: ExportRequest, partial: Path, target: Path) -> Iterator[Step]:
        """Write to `partial`, then read that back and compare.

        Parameters
        ----------
        request
            What is exported.
        partial
            Where to write. Nothing is there yet; it is renamed to `target` afterwards.
        target
            What the file will be called.

        Raises
        ------
        ExportError
            If what was written does not read back as it should.
        """


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format that results can be exported to.

    Parameters
    ----------
    name
        As the user gives it.
    text
        What it is for, in a few words.
    suffixes
        What its files may end in; the first is the usual.
    module, writer
        Where its `Writer` is.
    origins
        Where (0, 0) may lie; the first unless the user says.
    is_folder
        Whether it is a folder, not a file.
    """

    name: str
    text: str
    suffixes: tuple[str, ...]
    module: str
    writer: str
    origins: tuple[Origin, ...] = ("slide",)
    is_folder: bool = False

    def origin(self, wanted: str | None) -> Origin:
        """Where (0, 0) lies when this is asked for, or nothing.

        Raises
        ------
        ExportError
            If it cannot lie there.
        """
        for known in self.origins:
            if wanted in (None, known):
                return known
        if wanted in ("slide", "bounds"):
            raise ExportError(
                f"The origin of {self.name} cannot be {wanted!r}: it begins at the slide's corner; "
                "leave the origin out."
            )
        raise ExportError(f"origin cannot be {wanted!r}; give 'slide' or 'bounds'.")

    @property
    def options(self) -> frozenset[str]:
        """What its writer takes beside what every export does."""
        return frozenset(inspect.signature(self._writer).parameters)

    def load(self, options: dict[str, Any]) -> Writer:
        """Its writer with these options.

        Raises
        ------
        ExportError
            If an option is not this format's, or out of range.
        """
        writer: Writer = self._writer(**options)
        return writer

    @property
    def _writer(self) -> Any:
        return getattr(import_module(self.module), self.writer)


FORMATS = {
    entry.name: entry
    for entry in (
        ExportFormat(
            "geojson",
            "outlines for QuPath",
            (".geojson", ".geojson.gz", ".json", ".json.gz"),
            "napari_wsiseg.export.geojson",
            "GeoJsonWriter",
            origins=("bounds", "slide"),
        ),
        ExportFormat(
            "ome-tiff",
            "pyramidal labels or probabilities, with a script that imports them into QuPath",
            (".ome.tif", ".ome.tiff"),
            "napari_wsiseg.export.tiff",
            "TiffWriter",
        ),
        ExportFormat(
            "ome-zarr",
            "pyramidal labels, inside the result or as a copy of their own",
            (".ome.zarr", ".zarr"),
            "napari_wsiseg.export.omezarr",
            "OmeZarrWriter",
            origins=("slide", "bounds"),
            is_folder=True,
        ),
        ExportFormat(
            "annotation-store",
            "outlines for TIAToolbox",
            (".db",),
            "napari_wsiseg.export.annotation_store",
            "AnnotationStoreWriter",
            origins=("slide", "bounds"),
        ),
        ExportFormat(
            "csv",
            "a table of areas",
            (".csv",),
            "napari_wsiseg.export.csv",
            "CsvWriter",
        ),
        ExportFormat(
            "png",
            "a picture of the slide with its labels, a legend and a scale bar",
            (".png",),
            "napari_wsiseg.export.png",
            "PngWriter",
        ),
    )
}


def format_named(name: str) -> ExportFormat:
    """The format of this name.

    Raises
    ------
    ExportError
        If there is none.
    """
    if name not in FORMATS:
        raise ExportError(f"There is no export format {name!r}; there are {', '.join(FORMATS)}.")
    return FORMATS[name]
