"""Reads around damage: what can be read of a region, and which parts of it cannot.

Knows no file format. A tile is damaged where reading it alone fails, and costs the
pixels that are made of it, no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import SlideError, reason
from napari_wsiseg.geometry import YX, Region
from napari_wsiseg.slides.base import Level, Slide
from napari_wsiseg.slides.resample import ReadPixels, reach, white


@dataclass(frozen=True, slots=True)
class Gap:
    """A part that cannot be read.

    Parameters
    ----------
    region
        In pixels at the resolution that was asked for.
    reason
        What the reader says. Not its error, which would keep the reader's arrays alive.
    """

    region: Region
    reason: str


def read_with_gaps(
    slide: Slide, region: Region, downsample: YX
) -> tuple[NDArray[np.uint8], list[Gap]]:
    """`slide.read_at`, where damage costs its own pixels only: (height, width, 3) and the gaps.

    As quick as `read_at` where nothing is damaged. Gaps are white, and may overlap.
    """
    try:
        return slide.read_at(region, downsample), []
    except (SlideError, OSError):
        level = slide.info.levels[slide.info.level_for(downsample)]
    factor = YX(downsample.y / level.downsample.y, downsample.x / level.downsample.x)
    return read_around(
        lambda part: slide.read_at(part, downsample),
        lambda part: slide.read_at(part, level.downsample),
        level,
        region,
        factor,
    )


def read_around(
    read: ReadPixels, read_level: ReadPixels, level: Level, region: Region, factor: YX
) -> tuple[NDArray[np.uint8], list[Gap]]:
    """Read a region that is known to hold damage: each tile is tried once, then the rest read.

    Parameters
    ----------
    read
        Gives output pixels.
    read_level
        Gives the level's own pixels, of which the output is made.
    level
        The level that `read` reads from.
    region
        In output pixels; not empty.
    factor
        Level pixels per output pixel.

    Returns
    -------
    (height, width, 3) uint8, white in the gaps, and the gaps in output pixels.
    """
    rows = _Axis.of(region.top, region.bottom, factor.y, level.size.height, level.tile.height)
    columns = _Axis.of(region.left, region.right, factor.x, level.size.width, level.tile.width)
    out = white(region.size)
    unread = np.zeros(out.shape[:2], bool)
    gaps = []
    for row in rows.tiles:
        for column in columns.tiles:
            tile = Region(row * level.tile.height, column * level.tile.width, level.tile)
            problem = _failure(read_level, tile.clipped(level.size))
            if problem is not None:
                (top, bottom), (left, right) = rows.outputs(row), columns.outputs(column)
                unread[top:bottom, left:right] = True
                box = Region.from_bounds(top, left, bottom, right)
                gaps.append(Gap(box.shifted(region.top, region.left), problem))
    for part in _rest(unread):
        piece = part.shifted(region.top, region.left)
        try:
            out[part.slices] = read(piece)
        except (SlideError, OSError) as error:
            gaps.append(Gap(piece, reason(error)))
    return out, gaps


@dataclass(frozen=True, slots=True)
class _Axis:
    """Along one axis: the first and the last tile that each output pixel is made of."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, start: int, stop: int, factor: float, length: int, tile: int) -> _Axis:
        """Of the outputs [start, stop); what is made of white alone counts as at the edge."""
        first, last = reach(start, stop, factor)
        return cls(np.clip(first, 0, length - 1) // tile, np.clip(last, 0, length - 1) // tile)

    @property
    def tiles(self) -> range:
        """The numbers of all the tiles."""
        return range(int(self.first[0]), int(self.last[-1]) + 1)

    def outputs(self, tile: int) -> tuple[int, int]:
        """The outputs that a tile is part of, counted from the first one here."""
        # Both ascend.
        begin = np.searchsorted(self.last, tile, "left")
        end = np.searchsorted(self.first, tile, "right")
        return int(begin), int(end)


def _failure(read: ReadPixels, region: Region) -> str | None:
    """Why a region cannot be read, or None where it can."""
    try:
        read(region)
    except (SlideError, OSError) as error:
        return reason(error)
    return None


def _rest(unread: NDArray[np.bool_]) -> Iterator[Region]:
    """Boxes that cover all that is not unread, each pixel once."""
    changes = np.flatnonzero((unread[1:] != unread[:-1]).any(axis=1)) + 1
    for top, bottom in pairwise([0, *changes.tolist(), len(unread)]):
        edges = np.flatnonzero(np.diff(unread[top], prepend=True, append=True)).tolist()
        for left, right in zip(edges[::2], edges[1::2], strict=True):
            yield Region.from_bounds(top, left, bottom, right)
