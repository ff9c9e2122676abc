"""Made-up weights for the BCSS UNet: its speed does not depend on what they are."""

from __future__ import annotations

from pathlib import Path

import torch  # noqa: TID253 - loaded by whoever times anything here

from napari_wsiseg.models.unet import UNet


def write_weights(path: Path) -> Path:
    """Write a state dict of small random numbers, the same every time."""
    torch.manual_seed(0)
    torch.save(UNet(5, (3, 3)).state_dict(), path)
    return path
