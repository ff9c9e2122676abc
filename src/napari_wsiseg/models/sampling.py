"""Pixels of a slide that show its stains: a few fields near 1 µm per pixel, always the same.

Knows no model, and not what is made of the pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX, Region, size_at
from napari_wsiseg.slides import Slide
from napari_wsiseg.slides.damage import read_with_gaps
from napari_wsiseg.slides.overview import ASSUMED_MPP, Glass, Overview

# On a real H&E slide the hematoxylin found is much the same up to 2 µm/px; at 8 µm/px nuclei
# are mixed with what is around them.
_STAIN_MPP = 1.0
# Sides of a field, in µm.
_FIELD_UM = 256.0
_FIELDS = 16
# At 8 µm/px what is darker than this, in mean optical density over the glass, is stained.
_STAINED = 0.1

Mask = NDArray[np.bool_]


def stained_pixels(
    slide: Slide, look: Overview, glass: Glass, tissue: Mask | None
) -> NDArray[np.uint8]:
    """What is tissue in fields that are spread over all that is stained.

    Parameters
    ----------
    slide
        To be read near 1 µm per pixel, never enlarged.
    look, glass
        What its overview shows.
    tissue
        (h, w) bool over the whole slide; None: all of it.

    Returns
    -------
    (n, 3) uint8 RGB, about a million at the most; glass and what cannot be read, which is
    white, among it.
    """
    info = slide.info
    mpp = info.mpp or YX(ASSUMED_MPP, ASSUMED_MPP)
    finer = YX(max(_STAIN_MPP / mpp.y, 1.0), max(_STAIN_MPP / mpp.x, 1.0))
    whole = Region(0, 0, size_at(info.size, finer))
    pixels = []
    for field in _fields(look, glass, tissue):
        scale = YX(look.downsample.y / finer.y, look.downsample.x / finer.x)
        region = Region.from_bounds(
            round(field.top * scale.y),
            round(field.left * scale.x),
            round(field.bottom * scale.y),
            round(field.right * scale.x),
        ).intersection(whole)
        rgb, _ = read_with_gaps(slide, region, finer)
        pixels.append(rgb[_under(tissue, region, whole)])
    return np.concatenate([np.empty((0, 3), np.uint8), *pixels])


def _fields(look: Overview, glass: Glass, tissue: Mask | None) -> list[Region]:
    """Where to look, in pixels of the overview: so spread that each stands for as much stain."""
    size = Region.from_bounds(0, 0, *look.valid.shape)
    stained = _density(look.rgb, glass) > _STAINED
    stained &= look.valid & _under(tissue, size, size)
    height, width = (max(round(_FIELD_UM / mpp), 1) for mpp in look.mpp)
    rows, columns = -(-stained.shape[0] // height), -(-stained.shape[1] // width)
    padded = np.zeros((rows * height, columns * width), bool)
    padded[size.slices] = stained
    counts = padded.reshape(rows, height, columns, width).sum(axis=(1, 3))
    below = np.cumsum(counts)
    if below[-1] == 0:
        return []
    steps = (np.arange(_FIELDS) + 0.5) / _FIELDS * below[-1]
    chosen = np.unique(np.searchsorted(below, steps, side="right"))
    return [
        Region.from_bounds(r * height, c * width, (r + 1) * height, (c + 1) * width)
        for r, c in (divmod(int(number), columns) for number in chosen)
    ]


def _density(rgb: NDArray[np.uint8], glass: Glass) -> NDArray[np.float32]:
    """(h, w) mean optical density over the glass."""
    light = np.maximum(np.arange(256), 1)[:, None] / np.asarray(glass.rgb)
    table = (-np.log10(light) / 3).astype(np.float32)
    density: NDArray[np.float32] = table[rgb[:, :, 0], 0]
    density += table[rgb[:, :, 1], 1]
    density += table[rgb[:, :, 2], 2]
    return density


def _under(mask: Mask | None, region: Region, whole: Region) -> Mask:
    """The part of a mask that lies under a region of the slide, which is `whole`."""
    if mask is None:
        return np.ones((region.size.height, region.size.width), bool)
    rows = (np.arange(region.top, region.bottom) + 0.5) * mask.shape[0] / whole.size.height
    columns = (np.arange(region.left, region.right) + 0.5) * mask.shape[1] / whole.size.width
    under: Mask = mask[rows.astype(int)[:, None], columns.astype(int)]
    return under
