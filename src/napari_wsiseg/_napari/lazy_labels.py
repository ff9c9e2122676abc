"""Levels of a map as arrays that napari slices: labels and scores, computed when looked at.

Knows how arrays are indexed; knows neither layers nor windows.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from types import EllipsisType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_wsiseg._napari.live_map import LiveMap
from napari_wsiseg.geometry import Region

Index = int | slice | EllipsisType
Index2D = Index | tuple[Index, ...]


class _LazyLevel(ABC):
    """One level of a map as a (height, width) array that is read where it is indexed.

    Parameters
    ----------
    live
        The map.
    level
        Of its pyramid.
    """

    ndim = 2

    def __init__(self, live: LiveMap, level: int) -> None:
        size = live.pm.layout.sizes[level]
        self._live = live
        self._level = level
        self.shape = (size.height, size.width)
        self.size = size.area
        chunk = live.pm.grid.chunk
        self.chunks = (chunk, chunk)

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Of a pixel."""

    @abstractmethod
    def _read(self, region: Region) -> NDArray[Any]:
        """(height, width) pixels of a region inside the level."""

    def __getitem__(self, key: Index2D) -> NDArray[Any]:
        (rows, y), (columns, x) = (
            _span(part, length) for part, length in zip(_pair(key), self.shape, strict=True)
        )
        region = Region.from_bounds(rows.start, columns.start, rows.stop, columns.stop)
        if region.is_empty:
            return np.zeros(_lengths(region), self.dtype)[y, x]
        return self._read(region)[y, x]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The whole level, where it is the coarsest; larger ones never by accident."""
        if max(self.shape) > self.chunks[0]:
            raise ValueError(
                f"Level {self._level} is {self.shape[1]} x {self.shape[0]} px (width x height), "
                "too much to be read at once; take a slice of it, or "
                "napari_wsiseg.label_pyramid(result) for all of it as a dask array."
            )
        if copy is False:
            raise ValueError("The pixels are computed anew: there is nothing to be shared.")
        return self[:, :].astype(dtype or self.dtype, copy=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # napari copies a layer's data to duplicate it; what is read on demand may be shared.
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape} {self.dtype}, level {self._level}>"


class LazyLabels(_LazyLevel):
    """Labels of one level under the map's rule of now: 0 for none, i + 1 for class i.

    Equal to the level of `label_pyramid`, but quicker to look at: a changed rule decides
    again what was looked at last, without reading.
    """

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""
        return np.dtype(np.uint8)

    def _read(self, region: Region) -> NDArray[np.uint8]:
        return self._live.labels(self._level, region)


class LazyScores(_LazyLevel):
    """Stored values of one level, of the class that is looked at now."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As the map is stored."""
        return np.dtype(self._live.pm.layout.dtype)

    def _read(self, region: Region) -> NDArray[Any]:
        return self._live.scores(self._level, region)


def _pair(key: Index2D) -> tuple[int | slice, int | slice]:
    """The index of each axis, in full."""
    given = key if isinstance(key, tuple) else (key,)
    parts: list[int | slice] = []
    for part in given:
        if isinstance(part, EllipsisType):
            parts += [slice(None)] * (3 - len(given))
        else:
            parts.append(part if isinstance(part, slice) else operator.index(part))
    parts += [slice(None)] * (2 - len(parts))
    if len(parts) != 2 or sum(part is ... for part in given) > 1:
        raise IndexError(f"{key!r} has more parts than the level has axes, which are two.")
    return parts[0], parts[1]


def _span(key: int | slice, length: int) -> tuple[range, int | slice]:
    """The pixels to be read along an axis, and what to take of them."""
    if isinstance(key, slice):
        wanted = range(*key.indices(length))
        if not wanted:
            return range(0), slice(None)
        first, last = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        return range(first, last + 1), slice(None, None, key.step)
    if not -length <= key < length:
        raise IndexError(f"Pixel {key} is outside an axis of {length} px.")
    return range(key % length, key % length + 1), 0


def _lengths(region: Region) -> tuple[int, int]:
    return region.size.height, region.size.width
