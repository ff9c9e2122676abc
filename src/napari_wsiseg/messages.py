"""What the stages of a run hand to each other; plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FailedPatch:
    """A patch that was left uncovered, and why."""

    row: int
    column: int
    reason: str


@dataclass(frozen=True, slots=True)
class PatchBatch:
    """Some patches of the grid, in grid order.

    Parameters
    ----------
    indices
        (n, 2) grid row and column of each patch.
    pixels
        (n, height, width, 3) uint8 RGB; undefined for a patch that failed.
    failed
        Those that could not be read.
    """

    indices: NDArray[np.intp]
    pixels: NDArray[np.uint8]
    failed: tuple[FailedPatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """Merged rows that no later patch can change.

    Parameters
    ----------
    top, left
        First row and column of the band in the map.
    probabilities
        (classes, height, width) float32 in 0..1; 0 where nothing is covered.
    coverage
        (height, width) bool: where the model has spoken.

    The arrays are views of the merger's canvas: valid until the next band is asked for.
    Columns left and right of a band are not covered.
    """

    top: int
    left: int
    probabilities: NDArray[np.float32]
    coverage: NDArray[np.bool_]

    @property
    def bottom(self) -> int:
        """First row below the band."""
        return self.top + int(self.coverage.shape[0])
