"""Models and slides that show what a run does wrong, and the map it ought to make."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.spec import ModelSpec


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise: no two places look alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def slide_of(pixels: NDArray[np.uint8]) -> Slide:
    """A slide of one level, without scale."""
    return open_slide(pixels)


class PositionModel:
    """Its answer depends on the pixel and on the place in the patch: any offset shows.

    Parameters
    ----------
    patch_input, patch_output, stride
        In pixels.
    """

    def __init__(self, patch_input: Size, patch_output: Size, stride: Size) -> None:
        self.spec = ModelSpec(
            "position",
            classes=("A", "B"),
            resolution="baseline 1.0",
            patch_input_shape=(patch_input.height, patch_input.width),
            patch_output_shape=(patch_output.height, patch_output.width),
            stride_shape=(stride.height, stride.width),
            activation="sigmoid",
        )
        self.calls: list[int] = []

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, 2, h, w) in 0..1."""
        self.calls.append(len(patches))
        (ih, iw), (oh, ow) = self.spec.patch_input_shape, self.spec.patch_output_shape
        top, left = (ih - oh) // 2, (iw - ow) // 2
        y = torch.arange(oh)[:, None] / (2 * oh)
        x = torch.arange(ow)[None, :] / (2 * ow)
        first = patches[:, top : top + oh, left : left + ow, 0] / 512 + y
        # The corner pixel of the input, far outside the output, shows a wrong margin.
        second = patches[:, 0, 0, 1][:, None, None] / 512 + x + 0 * y
        return torch.stack([first, second], dim=1)


def expected_map(
    pixels: NDArray[np.uint8], model: PositionModel, grid: PatchGrid
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The plain mean over whole arrays, patches read from a white-padded picture."""
    pad = max(grid.patch_input.height, grid.patch_input.width)
    padded = np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), constant_values=255)
    canvas = pixels.shape[:2]
    sums, total = np.zeros((2, *canvas)), np.zeros(canvas)
    for row, column in np.argwhere(grid.keep):
        box = grid.input_region(int(row), int(column)).shifted(pad, pad)
        patch = torch.from_numpy(padded[box.slices].copy())[None]
        answer = model.predict(patch)[0].numpy()
        out = grid.output_region(int(row), int(column))
        sums[:, out.top : out.bottom, out.left : out.right] += answer[
            :, : out.size.height, : out.size.width
        ]
        total[out.slices] += 1
    return sums / np.where(total > 0, total, 1), total > 0
