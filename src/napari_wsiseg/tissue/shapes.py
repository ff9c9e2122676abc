"""Drops small parts of a mask, fills its holes, grows it; lengths in µm, plain arrays only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_wsiseg.geometry import YX

Mask = NDArray[np.bool_]

_EIGHT = np.ones((3, 3), bool)
_BAND_ROWS = 256


def without_small(mask: Mask, least_um2: float, mpp: YX) -> Mask:
    """The mask without its parts below `least_um2`; parts that meet at a corner are one."""
    labels, _ = ndi.label(mask, _EIGHT)
    kept = np.bincount(labels.ravel()) * (mpp.y * mpp.x) >= least_um2
    kept[0] = False
    large: Mask = kept[labels]
    return large


def filled(mask: Mask, most_um2: float, mpp: YX) -> Mask:
    """The mask with its holes below `most_um2`; what reaches the picture's edge is no hole."""
    labels, _ = ndi.label(~mask)
    hole = np.bincount(labels.ravel()) * (mpp.y * mpp.x) < most_um2
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        hole[edge] = False
    # The label of the mask itself.
    hole[0] = True
    closed: Mask = hole[labels]
    return closed


def grown(mask: Mask, um: float, mpp: YX) -> Mask:
    """Everything that is at most `um` from the mask, by the exact Euclidean distance."""
    if um <= 0 or not mask.any():
        return mask
    reach = math.ceil(um / mpp.y)
    out = np.empty_like(mask)
    # In bands that see as far as they reach: distances of a whole slide take 40 bytes a pixel.
    for top in range(0, len(mask), _BAND_ROWS):
        first = max(top - reach, 0)
        band = mask[first : top + _BAND_ROWS + reach]
        rows = out[top : top + _BAND_ROWS]
        if band.any():
            distance = ndi.distance_transform_edt(~band, sampling=mpp)
            rows[:] = distance[top - first :][: len(rows)] <= um
        else:
            rows[:] = False
    return out
