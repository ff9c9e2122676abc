"""What label pyramids must hold, computed the plain way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mode_under(labels: NDArray[np.uint8], level: int) -> NDArray[np.uint8]:
    """The most frequent label under each pixel of a level, of equals the lowest."""
    side = 2**level
    height, width = (-(-length // side) for length in labels.shape)
    modes = np.empty((height, width), np.uint8)
    for y, x in np.ndindex(height, width):
        under = labels[y * side : (y + 1) * side, x * side : (x + 1) * side]
        modes[y, x] = np.bincount(under.ravel()).argmax()
    return modes
