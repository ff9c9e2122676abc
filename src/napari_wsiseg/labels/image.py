"""What a label image says of itself: OME-Zarr 0.5's attributes; knows no file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsiseg.geometry import YX
    from napari_wsiseg.store.layout import Json


@dataclass(frozen=True, slots=True)
class LabelEntry:
    """A label of an image.

    Parameters
    ----------
    code
        Its value.
    name
        What it is called.
    rgba
        Its colour, 0..255.
    pixels
        How many pixels of level 0 have it.
    """

    code: int
    name: str
    rgba: tuple[int, int, int, int]
    pixels: int


def label_image(multiscale: Json, entries: Iterable[LabelEntry], mpp: YX | None) -> Json:
    """The `ome` attribute of a label image, two groups below the image it belongs to.

    Parameters
    ----------
    multiscale
        Its entry of `multiscales`.
    entries
        Its labels.
    mpp
        µm per pixel, or None: no area is given.
    """
    colors, properties = [], []
    for entry in entries:
        told: Json = {"label-value": entry.code, "name": entry.name, "pixels": entry.pixels}
        if mpp is not None:
            told["area_mm2"] = entry.pixels * mpp.y * mpp.x / 1e6
        colors.append({"label-value": entry.code, "rgba": list(entry.rgba)})
        properties.append(told)
    described = {
        "version": "0.5",
        "colors": colors,
        "properties": properties,
        "source": {"image": "../../"},
    }
    pyramid = multiscale | {"type": "mode"}
    return {"version": "0.5", "multiscales": [pyramid], "image-label": described}


def rgb(color: str) -> tuple[int, int, int]:
    """A colour such as "#1B9E77" as numbers, 0..255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
