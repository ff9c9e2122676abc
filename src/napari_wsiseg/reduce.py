"""Averaging over covered pixels, the one way in which maps get coarser.

Knows neither stores nor levels; plain arrays in and out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any


def covered_mean(
    values: NDArray[np.generic], coverage: NDArray[np.bool_], factor: int = 2
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the covered values among each `factor` x `factor` pixels.

    Parameters
    ----------
    values
        (classes, height, width); must be 0 where not covered.
    coverage
        (height, width) bool.
    factor
        Pixels per coarse pixel along each axis; blocks at the lower and right edge
        may be smaller.

    Returns
    -------
    means
        (classes, ceil(height / factor), ceil(width / factor)) float32, 0 where nothing is covered.
    coverage
        Where any of the pixels was covered.
    """
    counts = block_sum(coverage[None].astype(np.float32), factor)[0]
    sums = block_sum(values.astype(np.float32, copy=False), factor)
    np.divide(sums, counts, out=sums, where=counts > 0)
    return sums, counts > 0


def block_sum(values: Array, factor: int) -> Array:
    """Sums over blocks, rows first, in a fixed order so that any cut adds up alike.

    Parameters
    ----------
    values
        (classes, height, width) float32, an array of numpy's or a tensor of torch's.
    factor
        As in `covered_mean`.
    """
    rows = values[:, ::factor] + 0
    for offset in range(1, factor):
        part = values[:, offset::factor]
        held = rows[:, : part.shape[1]]
        held += part
    blocks = rows[:, :, ::factor] + 0
    for offset in range(1, factor):
        part = rows[:, :, offset::factor]
        held = blocks[:, :, : part.shape[2]]
        held += part
    return blocks
