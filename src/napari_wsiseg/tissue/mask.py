"""`TissueMask`: where on a slide tissue lies; knows not how it was found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Where tissue lies on a slide.

    Parameters
    ----------
    mask
        (h, w) bool; covers the whole slide, from its top-left to its bottom-right edge.
    parameters
        How it was made, as plain JSON; names no file.
    warnings
        Sentences that the user should read.
    """

    mask: NDArray[np.bool_]
    parameters: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the mask's shape and pixels."""
        digest = hashlib.sha256(repr(self.mask.shape).encode())
        digest.update(np.packbits(self.mask).tobytes())
        return digest.hexdigest()

    @property
    def fraction(self) -> float:
        """The part of the slide that is tissue, in 0..1."""
        return float(self.mask.mean())
