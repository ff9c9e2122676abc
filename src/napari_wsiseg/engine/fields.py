"""Wider fields: fewer margins for a fully convolutional network to compute again.

A network whose answer moves with its input (for shifts by multiples of its
`shift_period`) gives the same pixels from a large patch as from many small ones
with the same margin, and wastes less of its arithmetic on margins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid, TissueTable
from napari_wsiseg.models import Segmenter, predict
from napari_wsiseg.spec import ModelSpec

LONGEST_CALL = 5.0
"""Seconds that one predict call may take, so that a run answers soon when told to stop."""

_LARGEST_FIELD = 4096 * 4096
_CHOICES = 24


@dataclass(frozen=True, slots=True)
class FieldSearch:
    """What a wider field must fit.

    Parameters
    ----------
    canvas
        The slide at the read resolution.
    tissue
        Where tissue lies; None: everywhere.
    min_mask_ratio
        As in the job.
    scale
        As in the grid.
    largest
        Input pixels that one predict call may hold.
    fits
        Whether a grid fits the memory budget.
    """

    canvas: Size
    tissue: TissueTable | None
    min_mask_ratio: float
    scale: int
    largest: int
    fits: Callable[[PatchGrid], bool]

    def grid(self, patch_input: Size, patch_output: Size, stride: Size) -> PatchGrid:
        """A grid of these shapes with its patches off the tissue dropped."""
        grid = PatchGrid(self.canvas, patch_input, patch_output, stride, self.scale)
        return grid if self.tissue is None else grid.masked(self.tissue, self.min_mask_ratio)


def widest_sensible(spec: ModelSpec, search: FieldSearch) -> PatchGrid:
    """The grid with the least arithmetic on this slide, overshoot included.

    Outputs are multiples of the model's `shift_period`, the margin is the model's,
    and patches do not overlap. Where nothing fits, the model's own output shape.
    """
    period = spec.shift_period or 1
    margin = margins(spec)
    best = None
    for output in _outputs(spec, search.canvas, period):
        patch = Size(output.height + margin.height, output.width + margin.width)
        if patch.area > search.largest:
            continue
        grid = search.grid(patch, output, output)
        cost = int(grid.keep.sum()) * patch.area
        # Among equals the smaller patch: it answers sooner and needs less memory.
        if (best is None or (cost, patch.area) < best[:2]) and search.fits(grid):
            best = (cost, patch.area, grid)
    if best is not None:
        return best[2]
    own = Size(*spec.patch_output_shape)
    stride = Size(
        max(own.height // period, 1) * period if own.height >= period else own.height,
        max(own.width // period, 1) * period if own.width >= period else own.width,
    )
    return search.grid(Size(*spec.patch_input_shape), own, stride)


def margins(spec: ModelSpec) -> Size:
    """Input pixels beyond the output, both sides together."""
    (ih, iw), (oh, ow) = spec.patch_input_shape, spec.patch_output_shape
    return Size(ih - oh, iw - ow)


def largest_field(seconds_per_pixel: float) -> int:
    """Input pixels that fit `LONGEST_CALL`, rounded down to a power of the square root of 2.

    Coarse steps, so that a machine's mood does not choose another grid each day.
    """
    exact = min(LONGEST_CALL / max(seconds_per_pixel, 1e-12), _LARGEST_FIELD)
    return int(2 ** (np.floor(np.log2(exact) * 2) / 2))


def seconds_per_pixel(segmenter: Segmenter) -> float:
    """Time a patch of glass, a small one where the model allows it: seconds per input pixel."""
    spec = segmenter.spec
    height, width = spec.patch_input_shape
    if spec.shift_period is not None:
        margin, extra = margins(spec), -(-64 // spec.shift_period) * spec.shift_period
        height, width = min(height, margin.height + extra), min(width, margin.width + extra)
    patch = np.full((1, height, width, 3), 255, np.uint8)
    predict(segmenter, patch)  # the first call also builds what later ones reuse
    start = time.perf_counter()
    predict(segmenter, patch)
    return (time.perf_counter() - start) / (height * width)


def _outputs(spec: ModelSpec, canvas: Size, period: int) -> Iterator[Size]:
    least = min(spec.patch_output_shape) // 2
    heights = _sides(canvas.height, period, least)
    widths = _sides(canvas.width, period, least)
    for height in heights:
        for width in widths:
            yield Size(height, width)


def _sides(length: int, period: int, least: int) -> list[int]:
    """Multiples of the period that split the length into equal parts with little overshoot."""
    sides = set()
    for parts in range(1, length // max(least, period) + 2):
        sides.add(-(-length // (parts * period)) * period)
    ordered = sorted(side for side in sides if side <= 4096)
    if len(ordered) <= _CHOICES:
        return ordered
    picks = np.linspace(0, len(ordered) - 1, _CHOICES).round().astype(int)
    return [ordered[i] for i in np.unique(picks)]
