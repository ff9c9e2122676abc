"""Opens results: their layers, and their slide where it is still beside them.

A result names its slide by stem and fingerprint, never by path. So the slide is looked
for under its name in the result's folder and in the one above, and taken where its
fingerprint is the result's.
"""

from __future__ import annotations

import functools
import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info

from napari_wsiseg._napari.kept_view import kept_hidden, kept_rule
from napari_wsiseg._napari.slide_layer import (
    LayerData,
    Preparation,
    prepare_in_background,
    slide_of,
)
from napari_wsiseg.errors import SlideError
from napari_wsiseg.slides import open_slide

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_wsiseg._napari.result_layers import ResultLayers
    from napari_wsiseg.slides import Slide
    from napari_wsiseg.store import ProbabilityMap


def open_result(viewer: Viewer, path: Path) -> ResultLayers:
    """Add a result's layers at once, and its slide below them, opened in a worker.

    Raises
    ------
    StoreError
        If there is no result, or it is damaged.
    """
    shown = _layers_of(path)
    pm = shown.pm
    shown.add_to(viewer)
    slide_layer = _shown(pm, viewer)
    if slide_layer is not None:
        shown.lie_over(slide_layer)
        return shown
    files = _files(pm, path)
    if not files:
        show_info(
            f"The slide of {path.name} is not beside it; open it too, and it lies below the labels."
        )
        return shown

    def lower(layer: Image) -> None:
        shown.lie_over(layer)
        places = [
            viewer.layers.index(other)
            for other in (shown.scores, shown.labels)
            if other in viewer.layers
        ]
        viewer.layers.move(viewer.layers.index(layer), min(places, default=0))

    preparation = Preparation(functools.partial(_open_its_slide, pm, files), files[0].name)
    prepare_in_background(viewer, preparation, on_done=lower)
    return shown


def result_layer_data(path: Path) -> list[LayerData]:
    """A result's layers where there is no window: its slide if it is there, scores, labels.

    Raises
    ------
    StoreError
        If there is no result, or it is damaged.
    """
    shown = _layers_of(path)
    pm = shown.pm
    files = _files(pm, path)
    layers: list[LayerData] = []
    if files:
        prepared = Preparation(functools.partial(_open_its_slide, pm, files), files[0].name)()
        if prepared.layer is not None:
            layers.append(prepared.layer)
    return [*layers, shown.scores.as_layer_data_tuple(), shown.labels.as_layer_data_tuple()]


@contextmanager
def slide_of_result(pm: ProbabilityMap, viewer: Viewer | None) -> Iterator[Slide]:
    """The slide that a result was made of: the window's, else opened from beside the result.

    Raises
    ------
    SlideError
        If it is at neither place.
    """
    shown = None if viewer is None else _shown(pm, viewer)
    slide = None if shown is None else slide_of(shown)
    if slide is not None:
        yield slide
        return
    files = [] if pm.path is None else _files(pm, pm.path)
    if not files:
        raise SlideError(
            f"The slide {_slide(pm).get('stem')} is needed too, and is not beside its result; "
            "open it first."
        )
    with _open_its_slide(pm, files) as slide:
        yield slide


def _shown(pm: ProbabilityMap, viewer: Viewer) -> Image | None:
    """The layer of the result's slide, where the window shows it."""
    fingerprint = _slide(pm).get("fingerprint")
    for layer in viewer.layers:
        slide = slide_of(layer)
        if slide is not None and slide.info.fingerprint == fingerprint:
            return layer
    return None


def _slide(pm: ProbabilityMap) -> dict[str, Any]:
    """What a result says of its slide."""
    slide = pm.provenance.get("slide")
    return slide if isinstance(slide, dict) else {}


def _layers_of(path: Path) -> ResultLayers:
    """The layers of a result, with the thresholds and colours that were chosen for it last."""
    # Late: napari loads this with its menus, and Zarr with these.
    from napari_wsiseg._napari.result_layers import ResultLayers
    from napari_wsiseg.store import ProbabilityMap

    pm = ProbabilityMap.open(path)
    layers = ResultLayers(pm, _stem(pm, path), kept_rule(pm))
    for index in kept_hidden(pm):
        layers.set_shown(index, False)
    return layers


def _stem(pm: ProbabilityMap, path: Path) -> str:
    return str(_slide(pm).get("stem") or path.name.removesuffix(".zarr").removesuffix(".ome"))


def _files(pm: ProbabilityMap, path: Path) -> list[Path]:
    """Files and folders near the result that are called as its slide was."""
    from napari_wsiseg.store import is_result

    stem = _slide(pm).get("stem")
    if not stem:
        return []
    folder = path.absolute().parent
    near = [
        found
        for place in (folder, folder.parent)
        for found in sorted(place.glob(f"{glob.escape(str(stem))}.*"))
    ]
    return [found for found in near if not is_result(found) and _may_be_slide(found)]


def _may_be_slide(path: Path) -> bool:
    from napari_wsiseg.slides import READERS

    return any(path.suffix.lower() in reader.suffixes for reader in READERS)


def _open_its_slide(pm: ProbabilityMap, files: list[Path]) -> Slide:
    """The slide with the result's fingerprint among these, at the scale that the run had."""
    said = _slide(pm)
    mpp = said.get("mpp") if said.get("mpp_source") == "user" else None
    for file in files:
        try:
            slide = open_slide(file, None if mpp is None else tuple(mpp))
        except SlideError:
            continue
        if slide.info.fingerprint == said.get("fingerprint"):
            return slide
        slide.close()
    raise SlideError(
        f"{files[0]} is not the slide that the result was made of; open the right one, and it "
        "lies below the labels."
    )
