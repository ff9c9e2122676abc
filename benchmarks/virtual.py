"""A slide of any size that takes no memory, and a model that costs next to nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides.base import Level, SlideInfo
from napari_wsiseg.slides.levels import LevelSlide
from napari_wsiseg.spec import ModelSpec

if TYPE_CHECKING:
    import torch


class VirtualSlide(LevelSlide):
    """Stained texture on glass, computed where it is read.

    Parameters
    ----------
    size
        Level-0 size.
    tissue
        Part of each 4096 px square that holds tissue, as a disc in its middle; 1: all.
    """

    def __init__(self, size: Size, tissue: float = 1.0) -> None:
        rng = np.random.default_rng(0)
        self._texture = rng.integers(90, 200, (256, 256, 3), np.uint8)
        self._texture[..., 1] //= 2
        self._radius = 4096 * np.sqrt(tissue / np.pi) if tissue < 1 else np.inf
        levels = tuple(
            Level(
                Size(-(-size.height // k), -(-size.width // k)),
                YX(float(k), float(k)),
                Size(256, 256),
            )
            for k in (1, 4, 16, 64)
        )
        name = f"virtual {size} {tissue}"
        super().__init__(
            SlideInfo(
                path=None,
                size=size,
                mpp=YX(0.5, 0.5),
                mpp_source="metadata",
                objective_power=20.0,
                levels=levels,
                vendor="virtual",
                bounds=None,
                fingerprint=hashlib.sha256(name.encode()).hexdigest(),
            )
        )

    def _read_level(self, level: int, region: Region) -> NDArray[np.uint8]:
        factor = self.info.levels[level].downsample.y
        rows = np.arange(region.top, region.bottom)
        columns = np.arange(region.left, region.right)
        pixels = self._texture[np.ix_(rows % 256, columns % 256)]
        if np.isfinite(self._radius):
            y, x = (rows * factor) % 4096 - 2048, (columns * factor) % 4096 - 2048
            pixels[y[:, None] ** 2 + x[None, :] ** 2 > self._radius**2] = 255
        return pixels


class TrivialModel:
    """Five classes from a pixel's own colour: the engine's cost without a network's.

    Parameters
    ----------
    patch, stride
        Sides of a patch, and between patches, in pixels.
    passes
        How many times softmax goes over the scores: more for a model that costs more.
    """

    device = "cpu"

    def __init__(self, patch: int = 512, stride: int = 256, passes: int = 1) -> None:
        self._passes = passes
        self.spec = ModelSpec(
            "trivial",
            classes=("A", "B", "C", "D", "E"),
            resolution="baseline 1.0",
            patch_input_shape=patch,
            patch_output_shape=patch,
            stride_shape=stride,
        )

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, 5, H, W) float32."""
        import torch

        rgb = patches.permute(0, 3, 1, 2).contiguous().float() / 255
        scores = torch.cat([rgb, 1 - rgb[:, :2]], dim=1)
        for _ in range(self._passes):
            scores = scores.softmax(1)
        return scores
