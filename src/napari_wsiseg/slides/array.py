"""Reads slides that are arrays: numpy, dask, lists of levels, napari layers, OME-Zarr's.

Knows napari only by the attributes `.data`, `.scale`, `.units` and `.rgb`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import SlideError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides import fingerprint
from napari_wsiseg.slides.base import Level, SlideInfo
from napari_wsiseg.slides.levels import LevelSlide, TiledSlide
from napari_wsiseg.slides.pixels import as_rgb, check_pixels
from napari_wsiseg.slides.scale import choose_scale, describe, make_levels, micrometres, positive

_TILE = 512
_CHANNEL_COUNTS = (1, 2, 3, 4)
_MOST = 2.0


@dataclass(frozen=True, slots=True)
class Picture:
    """One level: an array, which of its axes are rows, columns and channels, and its tile.

    Parameters
    ----------
    array
        Anything with `shape`, `dtype` and slicing.
    y, x, channel
        Axes; `channel` is None for grey. Of any other axis index 0 is read.
    tile
        What the array makes at once.
    """

    array: Any
    y: int
    x: int
    channel: int | None
    tile: Size

    @classmethod
    def of(cls, array: Any) -> Picture:
        """An array (height, width), or (height, width, channels)."""
        shape = tuple(array.shape)
        if not all(isinstance(length, Integral) for length in shape):
            raise SlideError(
                f"its shape {shape} is not known; for a dask array call compute_chunk_sizes() first"
            )
        grey = len(shape) == 2
        if not grey and not (len(shape) == 3 and shape[2] in _CHANNEL_COUNTS):
            raise SlideError(
                f"the shape {shape} is no picture's; give (height, width, 3), or (height, width)"
            )
        chunks = getattr(array, "chunksize", None) or getattr(array, "chunks", None)
        tile = Size(int(chunks[0]), int(chunks[1])) if chunks else Size(_TILE, _TILE)
        return cls(array, 0, 1, None if grey else 2, tile)

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(int(self.array.shape[self.y]), int(self.array.shape[self.x]))

    def check(self) -> None:
        """Raise SlideError for pixels that make no picture."""
        channels = 1 if self.channel is None else int(self.array.shape[self.channel])
        check_pixels(np.dtype(self.array.dtype), channels)

    def read(self, region: Region) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 of a region inside the picture, never a view of it."""
        index: list[int | slice] = [0] * len(self.array.shape)
        index[self.y], index[self.x] = region.slices
        if self.channel is not None:
            index[self.channel] = slice(None)
        part = self.array[tuple(index)]
        if hasattr(part, "compute"):
            # In this thread: readers are threads already, and never on somebody's cluster.
            part = part.compute(scheduler="synchronous")
        kept = [axis for axis in range(len(index)) if not isinstance(index[axis], int)]
        wanted = [self.y, self.x] + ([] if self.channel is None else [self.channel])
        pixels = np.transpose(np.asarray(part), [kept.index(axis) for axis in wanted])
        rgb = as_rgb(pixels)
        return rgb.copy() if np.shares_memory(rgb, pixels) else rgb


class MemorySlide(LevelSlide):
    """Levels that are in memory: cut straight out."""

    def __init__(self, info: SlideInfo, pictures: Sequence[Picture]) -> None:
        super().__init__(info)
        self._pictures = pictures

    def _read_level(self, level: int, region: Region) -> NDArray[np.uint8]:
        return self._pictures[level].read(region)


class LazySlide(TiledSlide):
    """Levels that are made or fetched chunk by chunk."""

    def __init__(self, info: SlideInfo, pictures: Sequence[Picture]) -> None:
        super().__init__(info)
        self._pictures = pictures

    def _decode(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        return self._pictures[level].read(self._tile_region(level, row, column))


def open_array(source: Any, mpp: YX | None, alias: str | None = None) -> LevelSlide:
    """A slide from an array, a list of levels (large to small), or a napari image layer.

    Raises
    ------
    SlideError
        If these are no RGB or grey pictures.
    """
    scale: YX | None = None
    data = source
    if hasattr(source, "data") and hasattr(source, "scale"):
        # Layers of labels and points hold arrays too, but no picture.
        if not hasattr(source, "rgb"):
            raise SlideError(f"The layer {source.name!r} is no image layer; give one.")
        if not source.rgb and source.ndim != 2:
            raise SlideError(
                f"The layer {source.name!r} has {source.ndim} axes; give an RGB image layer."
            )
        scale, data = _layer_scale(source), source.data
    # napari's MultiScaleData has a shape of its own: levels are told by what they hold.
    several = not isinstance(data, np.ndarray) and _is_levels(data)
    arrays = list(data) if several else [data]
    if not arrays or not all(hasattr(a, "shape") and hasattr(a, "dtype") for a in arrays):
        raise SlideError(
            f"A {type(source).__name__} is no slide; give a path, an array, a list of arrays "
            "or an image layer."
        )
    try:
        pictures = [Picture.of(array) for array in arrays]
        return from_pictures(pictures, mpp, scale, alias)
    except SlideError as error:
        raise SlideError(
            f"The array cannot be read as a slide: {str(error).rstrip('.')}."
        ) from error


def from_pictures(
    pictures: Sequence[Picture], mpp: YX | None, metadata: YX | None, alias: str | None
) -> LevelSlide:
    """A slide from the levels of an array, large to small."""
    levels, kept = checked(pictures)
    if len(kept) < len(pictures):
        raise SlideError(
            f"it is a list of {', '.join(str(p.size) for p in pictures)}, where each level must be "
            "smaller than the one before; open single pictures one by one"
        )
    in_memory = all(isinstance(picture.array, np.ndarray) for picture in kept)
    if in_memory:
        _check_floats(kept[0].array)
    arrays = [picture.array for picture in kept]
    digest = (
        fingerprint.of_memory(arrays)
        if in_memory
        else fingerprint.of_pixels(arrays, [p.size for p in kept], [p.read for p in kept])
    )
    scale = choose_scale(mpp, metadata, None)
    info = describe(None, "array", digest, levels, scale, alias=alias)
    return MemorySlide(info, kept) if in_memory else LazySlide(info, kept)


def _check_floats(array: NDArray[Any]) -> None:
    """Raise SlideError for floats on another scale than 0..1: all would be white."""
    # Interpolation overshoots 1 by a little; NaN is black.
    most = float(np.fmax.reduce(array, axis=None, initial=0)) if array.dtype.kind == "f" else 0.0
    if most > _MOST:
        raise SlideError(f"its pixels reach {most:.6g}, where floats in 0..1 are needed; scale it")


def checked(pictures: Sequence[Picture]) -> tuple[tuple[Level, ...], list[Picture]]:
    """The levels that these pictures make, and the pictures of the levels kept."""
    for picture in pictures:
        picture.check()
    levels = make_levels([p.size for p in pictures], [p.tile for p in pictures])
    return levels, [next(p for p in pictures if p.size == level.size) for level in levels]


def _is_levels(data: Any) -> bool:
    """Whether this is a sequence of arrays: a list, a tuple, or napari's multiscale data."""
    return isinstance(data, Sequence) or type(data).__name__ == "MultiScaleData"


def _layer_scale(layer: Any) -> YX | None:
    """µm per pixel of a layer whose units are lengths."""
    units = getattr(layer, "units", None)
    if units is None:
        return None
    per_unit = [micrometres(str(unit)) for unit in tuple(units)[-2:]]
    if len(per_unit) != 2 or None in per_unit:
        return None
    scale = positive(*tuple(layer.scale)[-2:])
    factors = positive(*per_unit)
    return YX(scale.y * factors.y, scale.x * factors.x) if scale and factors else None
