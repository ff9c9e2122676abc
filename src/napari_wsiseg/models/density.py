"""Optical densities as torch modules: stains unmixed, and tissue as the mean density.

Measurements, not learned diagnoses. Knows no name of a model and no slide.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.models.stains import RGB, StainVectors
from napari_wsiseg.spec import FULL_DENSITY


class OpticalDensity(nn.Module):
    """Weighted sums of a pixel's red, green and blue optical density.

    A table of 256 values a colour in place of logarithms: a pixel's answer has the same
    bits wherever it lies in a patch or batch, and on every device.

    Parameters
    ----------
    weights
        (3, channels): what red, green and blue density add to each channel.
    background
        Red, green and blue of clear glass.
    """

    table: Tensor

    def __init__(self, weights: NDArray[np.float64], background: RGB) -> None:
        super().__init__()
        values = np.maximum(np.arange(256), 1)
        density = -np.log10(values / np.asarray(background)[:, None])
        table = density[:, :, None] * weights[:, None, :]
        self.register_buffer("table", torch.from_numpy(table.astype(np.float32)))

    def forward(self, patches: Tensor, output: Size) -> Tensor:
        """Density / 2 in 0..1 of the centre of each patch.

        Parameters
        ----------
        patches
            (N, H, W, 3) uint8 RGB.
        output
            Height and width of the answer, at most H and W.

        Returns
        -------
        (N, channels, height, width) float32.
        """
        top, left = (patches.shape[1] - output.height) // 2, (patches.shape[2] - output.width) // 2
        rows, columns = Region(top, left, output).slices
        centre = patches[:, rows, columns].int()
        red, green, blue = (F.embedding(centre[..., k], self.table[k]) for k in range(3))
        density = (red + green + blue).clamp_(0, FULL_DENSITY)
        return self.answer(density.permute(0, 3, 1, 2)).div(FULL_DENSITY)

    def answer(self, density: Tensor) -> Tensor:
        """The channels to show, of the channels measured."""
        return density


class DominantStain(OpticalDensity):
    """Each stain's density where it is the greater of the two, else 0.

    So a threshold keeps its meaning in optical density, and no pixel belongs to both.
    Equal densities go to the first.
    """

    def answer(self, density: Tensor) -> Tensor:
        """Keep the greater of two channels."""
        first, second = density.unbind(1)
        greater = first >= second
        return torch.stack([first * greater, second * ~greater], dim=1)


def unmixed(stains: StainVectors) -> OpticalDensity:
    """Density of both stains, each by itself."""
    return OpticalDensity(stains.unmixing(), stains.background)


def dominant(stains: StainVectors) -> OpticalDensity:
    """Density of the stain that there is more of."""
    return DominantStain(stains.unmixing(), stains.background)


def mean_density(stains: StainVectors) -> OpticalDensity:
    """Mean density of the three colours over the glass level; the stains play no part."""
    return OpticalDensity(np.full((3, 1), 1 / 3), stains.background)
