"""Finds scale and objective in a TIFF's tags and descriptions; reads no pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import tifffile

from napari_wsiseg.geometry import YX
from napari_wsiseg.slides.scale import micrometres, positive

# A TIFF's resolution is a scale only where it is one of a microscope: 72, 96 or 300 dpi
# (85 to 353 µm per pixel) are placeholders of programs that know no better.
_FINEST, _COARSEST = 0.01, 20.0
_MICROMETRES_PER_UNIT = {2: 25_400.0, 3: 10_000.0}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a TIFF says of itself: its kind, µm per pixel, objective."""

    vendor: str
    mpp: YX | None
    objective_power: float | None


def read_metadata(tif: tifffile.TiffFile) -> Metadata:
    """The scale of the largest picture in the file."""
    page = tif.pages[0].aspage()
    if tif.is_svs:
        fields = _svs_fields(page.description)
        mpp = fields.get("MPP")
        power = positive(fields.get("AppMag"), 1)
        return Metadata("aperio", positive(mpp, mpp), power.y if power else None)
    if tif.is_ome and tif.ome_metadata:
        scale, magnification = _ome_scale(tif.ome_metadata)
        return Metadata("ome-tiff", scale or _from_unit(page), magnification)
    if tif.is_imagej and tif.imagej_metadata:
        unit = micrometres(str(tif.imagej_metadata.get("unit", "")))
        if unit is not None:
            return Metadata("imagej", _from_tags(page, unit), None)
    return Metadata("tiff", _from_unit(page), None)


def _svs_fields(description: str) -> dict[str, str]:
    """Aperio's `key = value` pairs between bars."""
    pairs = (part.partition("=") for part in description.split("|")[1:])
    return {key.strip(): value.strip() for key, _, value in pairs}


def _from_unit(page: tifffile.TiffPage) -> YX | None:
    """The scale by the resolution's own unit, centimetres or inches."""
    tag = page.tags.get("ResolutionUnit")
    return _from_tags(page, _MICROMETRES_PER_UNIT.get(int(tag.value)) if tag is not None else None)


def _from_tags(page: tifffile.TiffPage, micrometres_per_unit: float | None) -> YX | None:
    if micrometres_per_unit is None:
        return None
    y, x = (_per_unit(page, name) for name in ("YResolution", "XResolution"))
    density = positive(y, x)
    if density is None:
        return None
    scale = YX(micrometres_per_unit / density.y, micrometres_per_unit / density.x)
    return scale if all(_FINEST <= v <= _COARSEST for v in scale) else None


def _per_unit(page: tifffile.TiffPage, name: str) -> float:
    tag = page.tags.get(name)
    if tag is None or not isinstance(tag.value, tuple) or len(tag.value) != 2:
        return 0.0
    top, bottom = tag.value
    return top / bottom if bottom else 0.0


def _ome_scale(xml: str) -> tuple[YX | None, float | None]:
    """PhysicalSize of the largest image, and the magnification of the objective it names."""
    try:
        # Safe: expat from 2.4.1 on stops entities that multiply, and loads no outer ones.
        root = ET.fromstring(xml)  # noqa: S314
    except ET.ParseError:
        return None, None
    images = [(image, pixels) for image in _all(root, "Image") for pixels in _all(image, "Pixels")]
    if not images:
        return None, None
    image, pixels = max(images, key=lambda pair: _area(pair[1]))
    lengths = []
    for axis in "YX":
        unit = micrometres(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        size = positive(pixels.get(f"PhysicalSize{axis}"), 1)
        lengths.append(size.y * unit if size is not None and unit is not None else None)
    powers = {
        objective.get("ID"): positive(objective.get("NominalMagnification"), 1)
        for objective in _all(root, "Objective")
    }
    named = next((setting.get("ID") for setting in _all(image, "ObjectiveSettings")), None)
    power = powers.get(named) or (next(iter(powers.values())) if len(powers) == 1 else None)
    return positive(*lengths), power.y if power else None


def _all(element: ET.Element, name: str) -> Iterator[ET.Element]:
    """All descendants of this name, whatever the schema's version."""
    return (one for one in element.iter() if one.tag.rpartition("}")[2] == name)


def _area(pixels: ET.Element) -> float:
    size = positive(pixels.get("SizeY"), pixels.get("SizeX"))
    return size.y * size.x if size else 0.0
