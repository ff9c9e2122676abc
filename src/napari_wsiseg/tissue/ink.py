"""Tells pen marks and black edges from stained tissue, by colour and size.

H&E and DAB never absorb red light much more than green (Ruifrok & Johnston 2001:
hematoxylin 0.65 to 0.70, eosin 0.07 to 0.99, DAB 0.27 to 0.57); blue and green ink do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX
from napari_wsiseg.tissue.shapes import Mask, grown, without_small

# Smaller marks may be ink on a margin of the tissue, which is not to lose that tissue.
_LEAST_INK_UM2 = 50_000.0
# Ink bleeds and edges blur: what is this near to it is neither glass nor tissue.
_FRINGE_UM = 40.0
_BLACK = 45


def find_ink(rgb: NDArray[np.uint8], glass: int, mpp: YX) -> Mask:
    """Where pen marks (blue, green, red, black) and black edges are, with their fringes.

    Parameters
    ----------
    rgb
        (h, w, 3), near 8 µm per pixel.
    glass
        Grey level of glass.
    mpp
        µm per pixel.

    Returns
    -------
    (h, w) bool.
    """
    table = -np.log10(np.maximum(np.arange(256), 1) / glass).astype(np.float32)
    red, green, blue = (table[rgb[:, :, channel]] for channel in range(3))
    cold = (red > 0.3) & (green < 0.7 * red)
    warm = (green > 0.6) & (red < 0.15 * green) & (blue > 0.85 * green)
    black = rgb.max(axis=2) < _BLACK
    ink = cold | warm | black
    return grown(without_small(ink, _LEAST_INK_UM2, mpp), _FRINGE_UM, mpp)
