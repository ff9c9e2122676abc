"""Reads any region at any resolution from a slide's levels; knows no file format.

A reader gives `SlideInfo` and the pixels of a level; all else is here.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import SlideError, reason
from napari_wsiseg.geometry import YX, Region, Resolution, Size
from napari_wsiseg.slides.base import SlideInfo
from napari_wsiseg.slides.resample import resample
from napari_wsiseg.slides.tiles import TileCache

if TYPE_CHECKING:
    import dask.array as da


class LevelSlide(ABC):
    """A slide made of levels; a reader gives `_read_level`, and `_release` where it must."""

    def __init__(self, info: SlideInfo) -> None:
        self._info = info
        self._lock = threading.Lock()
        self._pyramid_lock = threading.Lock()
        self._pyramid: list[da.Array] | None = None
        self._readers = 0
        self._closed = False

    @property
    def info(self) -> SlideInfo:
        """What is known of the slide."""
        return self._info

    def read(self, region: Region, resolution: Resolution) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 pixels of `region`, given in pixels at `resolution`.

        Raises
        ------
        SlideError
            If the file cannot be read there, or is closed.
        JobError
            If the slide lacks the scale or level that `resolution` speaks of.
        """
        return self.read_at(region, self.info.downsample(resolution))

    def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
        """`read` for a resolution that is known as level-0 pixels per pixel."""
        level = self.info.level_for(downsample)
        source = self.info.levels[level]
        factor = YX(downsample.y / source.downsample.y, downsample.x / source.downsample.x)
        return resample(lambda part: self.read_level(level, part), source.size, region, factor)

    def read_level(self, level: int, region: Region) -> NDArray[np.uint8]:
        """The file's own pixels of a region that lies inside a level, in its own pixels.

        Raises
        ------
        SlideError
            If the file cannot be read there, or is closed.
        """
        with self._reading():
            try:
                return self._read_level(level, region)
            except MemoryError:
                raise
            # Decoders raise what they like; whatever it is, it costs this region only.
            except Exception as error:
                failure = SlideError(
                    f"{self.info.stem} cannot be read in rows {region.top} to {region.bottom}, "
                    f"columns {region.left} to {region.right} of level {level}: "
                    f"{self.info.without_path(reason(error))}."
                )
                if self.info.alias is not None:
                    # Not chained: a traceback shows all of what lies below.
                    raise failure from None
                raise failure from error

    def pyramid(self) -> list[da.Array]:
        """Lazy levels (height, width, 3) for display, large to small, the last at most 512 px.

        Levels that the file lacks are averaged once, into a cache file; the first call
        may take as long as reading the slide.

        Raises
        ------
        SlideError
            If the slide is closed, or averaged levels can be kept nowhere.
        """
        from napari_wsiseg.slides.pyramid import display_levels  # dask and zarr load slowly

        with self._pyramid_lock:
            if self._pyramid is None:
                self._pyramid = display_levels(self)
            return list(self._pyramid)

    def close(self) -> None:
        """Let go of the file once nobody reads; later reads raise; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle = self._readers == 0
        if idle:
            self._release()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _read_level(self, level: int, region: Region) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 of a region inside the level; called from many threads."""

    def _release(self) -> None:  # noqa: B027  a reader without a handle has nothing to release
        """Give back handles and memory; called once, while nobody reads."""

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Keep the handles while somebody reads: the last reader of a closed slide releases."""
        with self._lock:
            if self._closed:
                raise SlideError(f"{self.info.stem} is closed; open it again to read from it.")
            self._readers += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._readers -= 1
            last = self._closed and self._readers == 0
        if last:
            self._release()


class TiledSlide(LevelSlide):
    """A slide whose levels are decoded in fixed tiles, each kept for a while."""

    def __init__(self, info: SlideInfo) -> None:
        super().__init__(info)
        self._tiles = TileCache()

    @abstractmethod
    def _decode(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        """The tile's (height, width, 3) pixels; may reach over the level's edge, or stop at it."""

    def _read_level(self, level: int, region: Region) -> NDArray[np.uint8]:
        tile = self.info.levels[level].tile
        out = np.empty((region.size.height, region.size.width, 3), np.uint8)
        for row in range(region.top // tile.height, -(-region.bottom // tile.height)):
            for column in range(region.left // tile.width, -(-region.right // tile.width)):
                box = Region(row * tile.height, column * tile.width, tile)
                part = box.intersection(region)
                pixels = self._tiles.get(
                    (level, row, column),
                    lambda: self._decode(level, row, column),  # noqa: B023
                )
                out[part.shifted(-region.top, -region.left).slices] = pixels[
                    part.shifted(-box.top, -box.left).slices
                ]
        return out

    def _tile_region(self, level: int, row: int, column: int) -> Region:
        """The part of the level that a tile covers."""
        shape = self.info.levels[level]
        box = Region(row * shape.tile.height, column * shape.tile.width, shape.tile)
        return box.clipped(shape.size)

    def _release(self) -> None:
        self._tiles.clear()


def whole(size: Size) -> Region:
    """The region of all pixels of an image of this size."""
    return Region(0, 0, size)
