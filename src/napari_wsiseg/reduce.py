"""Averaging over covered pixels, the one way in which maps get coarser.

Knows neither stores nor levels; plain arrays in and out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
    counts = _block_sum(coverage[None].astype(np.float32), factor)[0]
    sums = _block_sum(values.astype(np.float32, copy=False), factor)
    np.divide(sums, counts, out=sums, where=counts > 0)
    return sums, counts > 0


def _block_sum(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Sums over blocks, rows first, in a fixed order so that any cut adds up alike."""
    height, width = values.shape[1:]
    rows = np.zeros((values.shape[0], -(-height // factor), width), np.float32)
    for offset in range(factor):
        part = values[:, offset::factor]
        rows[:, : part.shape[1]] += part
    blocks = np.zeros((*rows.shape[:2], -(-width // factor)), np.float32)
    for offset in range(factor):
        part = rows[:, :, offset::factor]
        blocks[:, :, : part.shape[2]] += part
    return blocks
