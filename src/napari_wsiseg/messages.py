"""What the stages of a run hand to each other; plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    """Merged pixels that no later patch can change.

    Parameters
    ----------
    top, left
        First row and column of the band in the canvas.
    probabilities
        (classes, height, width) float32 in 0..1, or uint8 as stored; 0 where nothing is
        covered.
    coverage
        (height, width) bool: where the model has spoken.
    scale
        Canvas pixels per pixel of the arrays, along each axis: 1, or the grid's where a band
        is as coarse as the map already.

    Arrays of numpy's; those of a merger whose canvas is on a GPU are tensors of torch's until
    they come to the host. They may be views of the merger's canvas: valid until the next band
    is asked for.
    """

    top: int
    left: int
    probabilities: Any
    coverage: Any
    scale: int = 1

    @property
    def bottom(self) -> int:
        """First row below the band; below the canvas where its last pixels are cut."""
        return self.top + int(self.coverage.shape[0]) * self.scale
