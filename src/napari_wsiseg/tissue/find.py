"""Tells tissue from glass on a coarse reading of a slide.

Knows no patch, no model and no file format. Light is judged by optical density
(Beer-Lambert), as stains are; what separates tissue from glass is Otsu's threshold
(N. Otsu, IEEE Trans. SMC 9(1), 1979, p. 62), clamped to what glass and tissue can be.
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

from napari_wsiseg.config import TissueOptions
from napari_wsiseg.errors import SlideError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides.base import Slide, SlideInfo
from napari_wsiseg.slides.damage import Gap, read_with_gaps
from napari_wsiseg.tissue.ink import find_ink
from napari_wsiseg.tissue.mask import TissueMask
from napari_wsiseg.tissue.shapes import Mask, filled, grown, without_small

# What a slide without a scale is taken to have: a 20x scan.
ASSUMED_MPP = 0.5
# A reading larger than this is made coarser: 25 x 50 mm at 8 µm/px would be 20 million.
_LARGEST_READING = 8_000_000
# Sides of what is decoded at once, in pixels of the level that is read from.
_BLOCK_SIDE = 2048

# Glass is bright, grey and smooth; tissue at 8 µm/px seldom is all three.
_DARKEST_GLASS = 160
_GLASS_CHROMA = 16
_GLASS_ROUGHNESS = 3.0
_LEAST_GLASS = 0.01
# Of what is not pure white, a peak this large is the glass, and pure white is filling.
_LARGE_PEAK = 0.25
# No object is too small that is this part of the slide.
_SMALL_PART = 0.01


def find_tissue(slide: Slide, options: TissueOptions | None = None) -> TissueMask:
    """Find the tissue of a slide.

    Parameters
    ----------
    slide
        Any slide. It is read block by block: memory follows the size of the coarse
        reading (8 million pixels at most), not that of the slide.
    options
        How; None: `TissueOptions()`.

    Returns
    -------
    TissueMask
        Its `parameters` hold the glass level, the threshold found, and the µm per pixel
        of the reading. A slide without a scale is taken to have 0.5 µm/px (a 20x scan),
        and `warnings` say so; they also say when no glass or no tissue was found.

    Raises
    ------
    SlideError
        If no part of the slide can be read.
    """
    options = options or TissueOptions()
    look = _look(slide, options)
    warnings = list(look.warnings)
    glass, glass_fraction = _glass_level(look.rgb, look.valid)
    density = _density(look.rgb, glass)
    ink = find_ink(look.rgb, glass, look.mpp) & look.valid if options.leave_out_ink else None
    judged = look.valid if ink is None else look.valid & ~ink
    otsu = _otsu(density[judged])
    threshold = min(max(otsu, options.min_density), options.max_density)
    if glass_fraction < _LEAST_GLASS:
        mask = judged.copy()
        warnings.append(
            "Less than 1 % of the slide is glass, so all of it is taken as tissue; "
            "give a mask where that is wrong."
        )
    else:
        mask = _cleaned((density > threshold) & judged, look.mpp, options) & judged
    mask |= look.unread
    if not mask.any():
        warnings.append(
            "No tissue was found on the slide; give a mask, lower max_density, or choose "
            "tissue 'none' where that is wrong."
        )
    parameters = {
        "method": "optical density",
        "options": options.model_dump(mode="json"),
        "mpp": [look.mpp.y, look.mpp.x],
        "mpp_assumed": slide.info.mpp is None,
        "glass_level": glass,
        "glass_fraction": round(glass_fraction, 6),
        "otsu": round(otsu, 6),
        "threshold": round(threshold, 6),
        "ink_fraction": 0.0 if ink is None else round(float(ink.mean()), 6),
    }
    return TissueMask(mask, parameters, tuple(warnings))


@dataclass(frozen=True)
class _Look:
    """A coarse reading of a whole slide.

    Parameters
    ----------
    rgb
        (h, w, 3) uint8; white where nothing could be read.
    mpp
        µm per pixel of it.
    valid
        (h, w) bool: what was scanned and could be read.
    unread
        (h, w) bool: what could not be read.
    warnings
        What the user should know of it.
    """

    rgb: NDArray[np.uint8]
    mpp: YX
    valid: Mask
    unread: Mask
    warnings: tuple[str, ...]


def _look(slide: Slide, options: TissueOptions) -> _Look:
    info = slide.info
    warnings = []
    mpp = info.mpp
    if mpp is None:
        mpp = YX(ASSUMED_MPP, ASSUMED_MPP)
        warnings.append(
            f"The slide has no scale; to find its tissue, {ASSUMED_MPP} µm per pixel was assumed."
        )
    size = _reading_size(info.size, mpp, options.mpp)
    # Chosen so that the reading ends exactly where the slide does.
    downsample = YX(info.size.height / size.height, info.size.width / size.width)
    rgb, gaps = _read(slide, size, downsample)
    unread = np.zeros((size.height, size.width), bool)
    for gap in gaps:
        unread[gap.region.slices] = True
    if unread.all():
        raise SlideError(gaps[0].reason)
    if gaps:
        share = float(unread.mean())
        part = f"{share:.1%}" if share >= 0.001 else "Less than 0.1%"
        warnings.append(
            f"{part} of the slide could not be read while its tissue was looked for, and is "
            f"taken as tissue ({gaps[0].reason.rstrip('.')})."
        )
    valid = ~unread
    if info.bounds is not None:
        valid &= _box(size, info.bounds, downsample)
    reading_mpp = YX(mpp.y * downsample.y, mpp.x * downsample.x)
    return _Look(rgb, reading_mpp, valid, unread, tuple(warnings))


def _reading_size(slide: Size, mpp: YX, target: float) -> Size:
    """Size of the reading: near `target` µm per pixel, never enlarged, never huge."""
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


def _box(size: Size, bounds: Region, downsample: YX) -> Mask:
    """(h, w) bool: inside the part that was scanned."""
    inside = np.zeros((size.height, size.width), bool)
    top, left = int(bounds.top / downsample.y), int(bounds.left / downsample.x)
    bottom, right = math.ceil(bounds.bottom / downsample.y), math.ceil(bounds.right / downsample.x)
    inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return inside


def _glass_level(rgb: NDArray[np.uint8], valid: Mask) -> tuple[int, float]:
    """The grey level of glass, and the part of the scanned slide that is that bright.

    The mode of the brightest peak among smooth, bright, grey pixels that holds 1 % of
    the slide; 255 and 0 where there is none.
    """
    grey = rgb.mean(axis=2, dtype=np.float32)
    levels = np.rint(grey).astype(np.uint8)
    mean = ndi.uniform_filter(grey, 3)
    roughness = ndi.uniform_filter(np.square(grey, out=grey), 3) - np.square(mean, out=mean)
    smooth = (roughness < _GLASS_ROUGHNESS**2) & (np.ptp(rgb, axis=2) < _GLASS_CHROMA) & valid
    total = max(int(valid.sum()), 1)
    white = int((levels[valid] == 255).sum())
    counts = np.bincount(levels[smooth], minlength=256).astype(np.float64)
    # Unscanned parts are often filled with pure white, brighter than any glass beside it.
    scanned = counts.copy()
    scanned[255] = 0
    level = _brightest_peak(scanned, max(_LARGE_PEAK * (total - white), _LEAST_GLASS * total))
    if level is None:
        level = _brightest_peak(counts, _LEAST_GLASS * total)
    if level is None:
        return 255, 0.0
    return level, float(counts[max(level - 2, 0) :].sum() / total)


def _brightest_peak(counts: NDArray[np.float64], least: float) -> int | None:
    """The brightest level that is a maximum and has `least` pixels within 2 levels of it."""
    near = np.convolve(counts, np.ones(5), "same")
    highest = ndi.maximum_filter1d(counts, 5, mode="constant")
    peaks = np.flatnonzero((counts > 0) & (counts == highest) & (near >= least))
    peaks = peaks[peaks >= _DARKEST_GLASS]
    return int(peaks[-1]) if len(peaks) else None


def _density(rgb: NDArray[np.uint8], glass: int) -> NDArray[np.float32]:
    """(h, w) mean optical density of the three colours over the glass level, at least 0."""
    values = np.maximum(np.arange(256), 1) / glass
    table = (-np.log10(values) / 3).astype(np.float32)
    density: NDArray[np.float32] = table[rgb[:, :, 0]]
    density += table[rgb[:, :, 1]]
    density += table[rgb[:, :, 2]]
    return np.maximum(density, 0, out=density)


def _otsu(density: NDArray[np.float32]) -> float:
    """Otsu's threshold; 0 where there is nothing to part."""
    if density.size == 0 or float(density.min()) == float(density.max()):
        return 0.0
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(density))


def _cleaned(mask: Mask, mpp: YX, options: TissueOptions) -> Mask:
    """Without small objects and small holes, and grown."""
    # In a picture of a few cells, everything would be small.
    whole = mask.size * mpp.y * mpp.x
    mask = without_small(mask, min(options.min_object_um2, _SMALL_PART * whole), mpp)
    mask = filled(mask, options.fill_hole_um2, mpp)
    return grown(mask, options.dilate_um, mpp)
