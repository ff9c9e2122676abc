"""Reads OME-Zarr 0.4 and 0.5 folders that hold one picture in colour or grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr

from napari_wsiseg.errors import SlideError, reason
from napari_wsiseg.geometry import YX, Size
from napari_wsiseg.slides import fingerprint
from napari_wsiseg.slides.array import LazySlide, Picture, checked
from napari_wsiseg.slides.scale import choose_scale, describe, micrometres, positive
from napari_wsiseg.slides.zarr_chunks import bounded
from napari_wsiseg.slides.zarr_files import PlainFiles

_MARKERS = ("zarr.json", ".zgroup", ".zattrs")
_VERSIONS = ("0.4", "0.5")
_FEWEST_PIXELS = 16 * 16
"""Of a chunk: each takes as long to find as to unpack a hundred times so many."""


def open_file(path: Path, mpp: YX | None, alias: str | None = None) -> LazySlide:
    """Open an OME-Zarr folder.

    Raises
    ------
    SlideError
        With the reason alone, for what is none, holds no picture, or is damaged.
    """
    if not any((path / marker).is_file() for marker in _MARKERS):
        raise SlideError("it is no Zarr folder")
    try:
        group = zarr.open_group(PlainFiles(path), mode="r")
        group, multiscale = _multiscale(group)
        axes = _axes(multiscale)
        pictures = [_picture(group, entry, axes) for entry in multiscale["datasets"]]
        levels, kept = checked(_in_large_chunks(pictures))
        scale = choose_scale(mpp, _scale(multiscale, axes), None)
        digest = fingerprint.of_pixels(
            [p.array for p in kept], [p.size for p in kept], [p.read for p in kept]
        )
    except SlideError:
        raise
    # zarr and codecs raise what they like, and metadata of any shape breaks in any way.
    except Exception as error:
        raise SlideError(f"it is damaged or incomplete ({reason(error)})") from error
    return LazySlide(describe(path, "ome-zarr", digest, levels, scale, alias=alias), kept)


def _multiscale(group: zarr.Group) -> tuple[zarr.Group, Mapping[str, Any]]:
    """The first picture's metadata, and the group that its paths start from."""
    attributes: dict[str, Any] = dict(group.attrs)
    if "napari_wsiseg" in attributes:
        raise SlideError("it is a result of napari-wsiseg; open it with ProbabilityMap.open")
    ome = attributes.get("ome", attributes)
    if "multiscales" not in ome:
        if "bioformats2raw.layout" in ome:
            first = group["0"]
            if isinstance(first, zarr.Group):
                return _multiscale(first)
        kind = "a plate" if "plate" in ome else "no picture"
        raise SlideError(f"it holds {kind} (there are no 'multiscales' in its metadata)")
    multiscale = ome["multiscales"][0]
    version = str(ome.get("version") or multiscale.get("version") or "0.4")
    if version not in _VERSIONS:
        raise SlideError(f"it is OME-Zarr {version}, where 0.4 and 0.5 can be read")
    return group, multiscale


def _axes(multiscale: Mapping[str, Any]) -> list[Mapping[str, str]]:
    axes = list(multiscale["axes"])
    names = [axis["name"] for axis in axes]
    if not {"y", "x"} <= set(names) or not set(names) <= set("tczyx"):
        raise SlideError(f"its axes are {names}, where y and x are needed, c, t and z allowed")
    return axes


def _picture(
    group: zarr.Group, entry: Mapping[str, Any], axes: Sequence[Mapping[str, str]]
) -> Picture:
    array = group[entry["path"]]
    names = [axis["name"] for axis in axes]
    if not isinstance(array, zarr.Array) or len(array.shape) != len(names):
        raise SlideError(f"its level {entry['path']!r} is no array with the axes {names}")
    array = bounded(array)
    stacked = [n for n, length in zip(names, array.shape, strict=True) if n in "tz" and length > 1]
    if stacked:
        raise SlideError(f"it holds a stack over {' and '.join(stacked)}, not one picture")
    channel = names.index("c") if "c" in names else None
    if channel is not None and array.shape[channel] not in (1, 3):
        raise SlideError(f"it has {array.shape[channel]} channels, where 1 or 3 (RGB) are needed")
    y, x = names.index("y"), names.index("x")
    return Picture(array, y, x, channel, Size(array.chunks[y], array.chunks[x]))


def _in_large_chunks(pictures: Sequence[Picture]) -> list[Picture]:
    """The levels that can be read in a sensible time, of which the first has to be one.

    Where chunks are halved with the levels, as by dask, those of the last are a few pixels.
    """
    are_large = [p.tile.area >= min(_FEWEST_PIXELS, p.size.area) for p in pictures]
    if not all(are_large[:1]):
        raise SlideError(
            f"its chunks of {pictures[0].tile} are too small to read; save it in larger ones"
        )
    return [picture for picture, is_large in zip(pictures, are_large, strict=True) if is_large]


def _scale(multiscale: Mapping[str, Any], axes: Sequence[Mapping[str, str]]) -> YX | None:
    """µm per level-0 pixel, where the axes' units are lengths."""
    names = [axis["name"] for axis in axes]
    y, x = names.index("y"), names.index("x")
    per_unit = [micrometres(str(axes[axis].get("unit", ""))) for axis in (y, x)]
    factor = positive(*per_unit)
    if factor is None:
        return None
    for transforms in (
        multiscale["datasets"][0].get("coordinateTransformations", []),
        multiscale.get("coordinateTransformations", []),
    ):
        for transform in transforms:
            if transform.get("type") == "scale":
                scale = transform["scale"]
                factor = YX(factor.y * float(scale[y]), factor.x * float(scale[x]))
    return positive(*factor)
