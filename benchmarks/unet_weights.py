"""Weights for the BCSS UNet: the published ones where they are cached, else made-up ones.

Made-up ones differ from place to place as a trained network's answers do. Those that torch begins
with answer the same everywhere, and any two maps of theirs agree.
"""

from __future__ import annotations

from pathlib import Path

import torch  # noqa: TID253 - loaded by whoever times anything here

from models.unet_cases import BCSS, state_of
from napari_wsiseg.models.weights import find_cached


def weights_in(folder: Path) -> Path:
    """The cached file, or one that is written here, of the same bytes every time."""
    cached = find_cached(BCSS)
    if cached is not None:
        return cached
    path = folder / "weights.pth"
    torch.save(state_of(BCSS), path)
    return path
