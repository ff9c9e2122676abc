"""Wider fields: fewer margins for a fully convolutional network to compute again.

A network whose answer moves with its input (for shifts by multiples of its
`shift_period`) gives the same pixels from a large patch as from many small ones
with the same margin, and wastes less of its arithmetic on margins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np

from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid, TissueTable
from napari_wsiseg.models import Segmenter, predict
from napari_wsiseg.spec import ModelSpec

LONGEST_CALL = 5.0
"""Seconds that one predict call may take, so that a run answers soon when told to stop."""

_LARGEST_SIDE = 4096
_TIMED_OUTPUTS = (64, 512)
# The least of a few: what else a machine does makes a call longer, never shorter.
_SAMPLES = 3
_SAMPLING_SECONDS = 2.0
# Calls of 4 Mpx took 1.5 to 2.1 times what small ones foretell: they leave the caches.
_SAFETY = 2.0
_CHOICES = 24


@dataclass(frozen=True, slots=True)
class CallCost:
    """Seconds of a predict call of one patch.

    Parameters
    ----------
    per_input, per_output
        For each pixel that goes in, and for each that comes out: a network that decodes
        only what is asked for spends little on its margin.
    """

    per_input: float
    per_output: float

    def seconds(self, patch_input: Size, patch_output: Size) -> float:
        """Seconds of a call."""
        return self.per_input * patch_input.area + self.per_output * patch_output.area


# Where no model is at hand to be timed: near a ResNet-50 UNet in float32 on two server cores
# (5e-7 and 1.5e-6, measured).
_TYPICAL = CallCost(per_input=4e-7, per_output=1.2e-6)


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
    cost
        What a predict call costs; None: unknown.
    fits
        Whether a grid fits the memory budget.
    """

    canvas: Size
    tissue: TissueTable | None
    min_mask_ratio: float
    scale: int
    cost: CallCost | None
    fits: Callable[[PatchGrid], bool]

    def grid(self, patch_input: Size, patch_output: Size, stride: Size) -> PatchGrid:
        """A grid of these shapes with its patches off the tissue dropped."""
        grid = PatchGrid(self.canvas, patch_input, patch_output, stride, self.scale)
        return grid if self.tissue is None else grid.masked(self.tissue, self.min_mask_ratio)


def widest_sensible(spec: ModelSpec, search: FieldSearch) -> PatchGrid:
    """The grid with the least arithmetic on this slide, overshoot included.

    Arithmetic is counted in pixels that go in, so that the clock has no part in the choice
    but for `largest_patch`. Outputs are multiples of the model's `shift_period`, the margin
    is the model's, and patches do not overlap. The model's own shapes, unless others take
    less.
    """
    period = spec.shift_period or 1
    margin = margins(spec)
    largest = largest_patch(spec, search.cost or _TYPICAL)
    best = _own_grid(spec, search, period)
    for output in _outputs(spec, search.canvas, period):
        patch = Size(output.height + margin.height, output.width + margin.width)
        if patch.area > largest:
            continue
        grid = search.grid(patch, output, output)
        if _arithmetic(grid) < _arithmetic(best) and search.fits(grid):
            best = grid
    return best


def largest_patch(spec: ModelSpec, cost: CallCost) -> int:
    """Input pixels of the largest patch whose call surely ends within `LONGEST_CALL`.

    The model's own patch times a power of 2: coarse, so that two timings of one machine
    seldom differ in it. Never less than the model's own.
    """
    margin = margins(spec)
    area = Size(*spec.patch_input_shape).area
    while area < (_LARGEST_SIDE + max(margin.height, margin.width)) ** 2:
        # Of all patches of an area, the square one has the largest output.
        side = isqrt(2 * area)
        output = Size(max(side - margin.height, 0), max(side - margin.width, 0))
        if _SAFETY * cost.seconds(Size(side, side), output) > LONGEST_CALL:
            break
        area *= 2
    return area


def _arithmetic(grid: PatchGrid) -> tuple[int, int]:
    """Pixels that go in; among equals the smaller patch: it answers sooner, in less memory."""
    return int(grid.keep.sum()) * grid.patch_input.area, grid.patch_input.area


def _own_grid(spec: ModelSpec, search: FieldSearch, period: int) -> PatchGrid:
    """The model's own shapes, with the widest stride of whole periods."""
    own = Size(*spec.patch_output_shape)
    height, width = (
        side // period * period if side >= period else side for side in (own.height, own.width)
    )
    return search.grid(Size(*spec.patch_input_shape), own, Size(height, width))


def margins(spec: ModelSpec) -> Size:
    """Input pixels beyond the output, both sides together."""
    (ih, iw), (oh, ow) = spec.patch_input_shape, spec.patch_output_shape
    return Size(ih - oh, iw - ow)


def time_model(segmenter: Segmenter) -> CallCost:
    """Time patches of glass: small ones of two sizes where the model allows it."""
    spec = segmenter.spec
    if spec.shift_period is None:
        patch = Size(*spec.patch_input_shape)
        # What part of it depends on the output cannot be told, and does not matter.
        return CallCost(_time(segmenter, patch) / patch.area, 0.0)
    margin, period = margins(spec), spec.shift_period
    sides = [-(-side // period) * period for side in _TIMED_OUTPUTS]
    patches = [Size(margin.height + side, margin.width + side) for side in sides]
    small, large = (_time(segmenter, patch) for patch in patches)
    # seconds = per_input * input + per_output * output, for both.
    inputs, outputs = [patch.area for patch in patches], [side * side for side in sides]
    determinant = inputs[0] * outputs[1] - inputs[1] * outputs[0]
    if determinant == 0:  # no margin, or a period so long that both are of one size
        return CallCost(large / inputs[1], 0.0)
    per_output = max((large * inputs[0] - small * inputs[1]) / determinant, 0.0)
    per_input = max(large - per_output * outputs[1], 0.0) / inputs[1]
    return CallCost(per_input, per_output)


def _time(segmenter: Segmenter, patch: Size) -> float:
    """Seconds of a call: the least of at least two, as the first builds what later ones reuse."""
    pixels = np.full((1, patch.height, patch.width, 3), 255, np.uint8)
    samples: list[float] = []
    while len(samples) < 2 or (len(samples) < _SAMPLES and sum(samples) < _SAMPLING_SECONDS):
        start = time.perf_counter()
        predict(segmenter, pixels)
        samples.append(time.perf_counter() - start)
    return min(samples)


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
    ordered = sorted(side for side in sides if side <= _LARGEST_SIDE)
    if len(ordered) <= _CHOICES:
        return ordered
    picks = np.linspace(0, len(ordered) - 1, _CHOICES).round().astype(int)
    return [ordered[i] for i in np.unique(picks)]
