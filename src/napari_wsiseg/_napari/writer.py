"""napari's way out: File > Save for the labels of a result, in every format of `export`.

What is written is the result at full size, under the layer's present rule or as it was
corrected by hand, not the pixels of the layer. The window stays usable only so far as its
progress bar goes on: the panel's Export works beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari import current_viewer
from napari.utils import progress
from napari.utils.notifications import show_warning

from napari_wsiseg._napari.open_result import slide_of_result
from napari_wsiseg._napari.slide_layer import METADATA

if TYPE_CHECKING:
    from napari_wsiseg.export.request import Step

_PARTS = 100

Writer = Callable[[str, Any, Mapping[str, Any]], list[str]]


def _writer(name: str) -> Writer:
    """The function that npe2 calls to write a labels layer in a format."""

    def write(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:  # noqa: ARG001
        return _write(name, path, attributes)

    write.__doc__ = f"Write a result's labels layer in the format {name!r}; the paths written."
    return write


write_geojson = _writer("geojson")
write_ome_tiff = _writer("ome-tiff")
write_ome_zarr = _writer("ome-zarr")
write_annotation_store = _writer("annotation-store")
write_csv = _writer("csv")
write_png = _writer("png")


def _write(name: str, path: str, attributes: Mapping[str, Any]) -> list[str]:
    from napari_wsiseg._napari.result_layers import ResultSource
    from napari_wsiseg.export import export_steps

    source = (attributes.get("metadata") or {}).get(METADATA)
    if not isinstance(source, ResultSource):
        # A warning, not an error: napari shows it in place of its own, and saves other layers.
        warnings.warn(
            f"{attributes.get('name', 'The layer')!r} is no labels layer of a result of this "
            "plugin, so it was not saved; choose one of napari's own formats for it.",
            stacklevel=2,
        )
        return []
    target = _target(name, path)
    with ExitStack() as opened:
        options: dict[str, Any] = {}
        if source.layers.is_corrected:
            options["corrected"] = True
        if name == "png":
            options["slide"] = opened.enter_context(slide_of_result(source.pm, current_viewer()))
        _follow(
            target.name,
            export_steps(
                source.pm,
                target,
                name,
                source.layers.rule,
                # Whoever named this very path was asked; one that we made up was never seen.
                overwrite=str(target) == path,
                **options,
            ),
        )
    return [str(target)]


def _follow(what: str, steps: Iterable[Step]) -> None:
    """Go through the steps, with a bar that starts anew at each stage."""
    stage = ""
    with progress(total=_PARTS, desc=f"Saving {what}") as bar:
        for step in steps:
            if step.stage != stage:
                stage = step.stage
                bar.reset()
                bar.set_description(f"Saving {what}: {stage}")
            part = round(step.part * _PARTS)
            if part > bar.n:
                bar.update(part - bar.n)
            if step.remark:
                show_warning(step.remark)


def _target(name: str, path: str) -> Path:
    """The path with the format's suffix: napari's dialog adds none, and .tif is not .ome.tif."""
    from napari_wsiseg.export.formats import FORMATS

    suffixes = FORMATS[name].suffixes
    if path.lower().endswith(suffixes):
        return Path(path)
    for suffix in suffixes:
        last = f".{suffix.rpartition('.')[2]}"
        if path.lower().endswith(last):
            return Path(path[: -len(last)] + suffix)
    return Path(path + suffixes[0])
