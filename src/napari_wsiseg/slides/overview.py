"""A coarse reading of a whole slide, and how bright the glass on it is.

Read block by block: memory follows the size of the reading (8 million pixels at most), not
that of the slide. Knows neither tissue nor stains.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_wsiseg.errors import SlideError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides.base import Slide, SlideInfo
from napari_wsiseg.slides.damage import Gap, read_with_gaps

ASSUMED_MPP = 0.5
"""µm per pixel that a slide without a scale is taken to have: a 20x scan."""

# A reading larger than this is made coarser: 25 x 50 mm at 8 µm/px would be 20 million.
_LARGEST_READING = 8_000_000
# Sides of what is decoded at once, in pixels of the level that is read from.
_BLOCK_SIDE = 2048

# Glass is bright, grey and smooth; tissue at 8 µm/px seldom is all three.
_DARKEST_GLASS = 160
_GLASS_CHROMA = 16
_GLASS_ROUGHNESS = 3.0
_GLASS_SPREAD = 2
_LEAST_GLASS = 0.01
# Of what is not pure white, a peak this large is the glass, and pure white is filling.
_LARGE_PEAK = 0.25


@dataclass(frozen=True, eq=False)
class Overview:
    """A coarse reading of a whole slide; it ends exactly where the slide does.

    Parameters
    ----------
    rgb
        (h, w, 3) uint8; white where nothing could be read.
    downsample
        Level-0 pixels per pixel of it.
    mpp
        µm per pixel of it; at `ASSUMED_MPP` where the slide has no scale.
    valid
        (h, w) bool: what was scanned and could be read.
    unread
        (h, w) bool: what could not be read.
    reason
        Why not, of the first such part; None where all could.
    """

    rgb: NDArray[np.uint8]
    downsample: YX
    mpp: YX
    valid: NDArray[np.bool_]
    unread: NDArray[np.bool_]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Glass:
    """How bright the glass of a slide is.

    Parameters
    ----------
    level
        Its grey level; 255 where there is none.
    rgb
        Its median red, green and blue; 255 where there is none.
    fraction
        The part of the scanned slide that is that bright; 0 where there is none.
    """

    level: int
    rgb: tuple[float, float, float]
    fraction: float

    @property
    def is_scarce(self) -> bool:
        """Whether less than 1 % of the slide is glass."""
        return self.fraction < _LEAST_GLASS


def read_overview(slide: Slide, mpp: float = 8.0) -> Overview:
    """Read a whole slide near `mpp` µm per pixel, never enlarged.

    Raises
    ------
    SlideError
        If no part of the slide can be read.
    """
    info = slide.info
    scale = info.mpp or YX(ASSUMED_MPP, ASSUMED_MPP)
    size = _reading_size(info.size, scale, mpp)
    downsample = YX(info.size.height / size.height, info.size.width / size.width)
    rgb, gaps = _read(slide, size, downsample)
    unread = np.zeros((size.height, size.width), bool)
    for gap in gaps:
        unread[gap.region.slices] = True
    if unread.all():
        raise SlideError(gaps[0].reason)
    valid = ~unread
    if info.bounds is not None:
        valid &= _box(size, info.bounds, downsample)
    reading_mpp = YX(scale.y * downsample.y, scale.x * downsample.x)
    reason = gaps[0].reason if gaps else None
    return Overview(rgb, downsample, reading_mpp, valid, unread, reason)


def find_glass(look: Overview) -> Glass:
    """The glass of a slide, from its overview.

    The mode of the brightest peak among smooth, bright, grey pixels that holds 1 % of
    the slide.
    """
    grey = look.rgb.mean(axis=2, dtype=np.float32)
    levels = np.rint(grey).astype(np.uint8)
    mean = ndi.uniform_filter(grey, 3)
    roughness = ndi.uniform_filter(np.square(grey, out=grey), 3) - np.square(mean, out=mean)
    smooth = (roughness < _GLASS_ROUGHNESS**2) & (np.ptp(look.rgb, axis=2) < _GLASS_CHROMA)
    smooth &= look.valid
    total = max(int(look.valid.sum()), 1)
    white = int((levels[look.valid] == 255).sum())
    counts = np.bincount(levels[smooth], minlength=256).astype(np.float64)
    # Unscanned parts are often filled with pure white, brighter than any glass beside it.
    scanned = counts.copy()
    scanned[255] = 0
    level = _brightest_peak(scanned, max(_LARGE_PEAK * (total - white), _LEAST_GLASS * total))
    if level is None:
        level = _brightest_peak(counts, _LEAST_GLASS * total)
    if level is None:
        return Glass(255, (255.0, 255.0, 255.0), 0.0)
    fraction = float(counts[max(level - _GLASS_SPREAD, 0) :].sum() / total)
    near = smooth & (np.abs(levels.astype(np.int16) - level) <= _GLASS_SPREAD)
    red, green, blue = (float(value) for value in np.median(look.rgb[near], axis=0))
    return Glass(level, (red, green, blue), fraction)


def _reading_size(slide: Size, mpp: YX, target: float) -> Size:
    height, width = slide.height * mpp.y / target, slide.width * mpp.x / target
    shrink = min(1.0, math.sqrt(_LARGEST_READING / (height * width)))
    return Size(
        min(max(round(height * shrink), 1), slide.height),
        min(max(round(width * shrink), 1), slide.width),
    )


def _read(slide: Slide, size: Size, downsample: YX) -> tuple[NDArray[np.uint8], list[Gap]]:
    """The pixels, white where they could not be read, and where that was."""
    rgb = np.empty((size.height, size.width, 3), np.uint8)

    def read(block: Region) -> list[Gap]:
        rgb[block.slices], gaps = read_with_gaps(slide, block, downsample)
        return gaps

    blocks = _blocks(slide.info, size, downsample)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return rgb, [gap for gaps in pool.map(read, blocks) for gap in gaps]


def _blocks(info: SlideInfo, size: Size, downsample: YX) -> Iterator[Region]:
    """The reading in blocks that are larger than the file's tiles: few are decoded twice."""
    level = info.levels[info.level_for(downsample)]
    height = max(1, int(max(_BLOCK_SIDE, level.tile.height) * level.downsample.y / downsample.y))
    width = max(1, int(max(_BLOCK_SIDE, level.tile.width) * level.downsample.x / downsample.x))
    for top in range(0, size.height, height):
        for left in range(0, size.width, width):
            yield Region(top, left, Size(height, width)).clipped(size)


def _box(size: Size, bounds: Region, downsample: YX) -> NDArray[np.bool_]:
    """(h, w) bool: inside the part that was scanned."""
    inside = np.zeros((size.height, size.width), bool)
    top, left = int(bounds.top / downsample.y), int(bounds.left / downsample.x)
    bottom, right = math.ceil(bounds.bottom / downsample.y), math.ceil(bounds.right / downsample.x)
    inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return inside


def _brightest_peak(counts: NDArray[np.float64], least: float) -> int | None:
    """The brightest level that is a maximum and has `least` pixels within 2 levels of it."""
    width = 2 * _GLASS_SPREAD + 1
    near = np.convolve(counts, np.ones(width), "same")
    highest = ndi.maximum_filter1d(counts, width, mode="constant")
    peaks = np.flatnonzero((counts > 0) & (counts == highest) & (near >= least))
    peaks = peaks[peaks >= _DARKEST_GLASS]
    return int(peaks[-1]) if len(peaks) else None
