"""Wider fields: fewer margins for a fully convolutional network to compute again.

A network whose answer moves with its input (for shifts by multiples of its
`shift_period`) gives the same pixels from a large patch as from many small ones
with the same margin, and wastes less of its arithmetic on margins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isqrt
from weakref import WeakKeyDictionary

import numpy as np

from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid, TissueTable
from napari_wsiseg.models import Segmenter, predict
from napari_wsiseg.spec import ModelSpec

LONGEST_CALL = 5.0
"""Seconds that one predict call may take, so that a run answers soon when told to stop."""

_LARGEST_SIDE = 4096
# Input pixels: of a UNet, 1.6 s on two server cores and less than that on a GPU.
_LARGEST = {"cpu": 2**21, "gpu": 2**24}
# Calls of large patches take up to 1.5 times what small ones foretell: they leave the caches.
_SAFETY = 1.5
_TIMED_OUTPUTS = (64, 512)
_SAMPLES = 3
_SAMPLING_SECONDS = 2.0
_CHOICES = 24
_QUICK: WeakKeyDictionary[Segmenter, tuple[str, int]] = WeakKeyDictionary()
"""Models that `is_quick` has found to be so, where and with how many threads."""


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


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a model takes.

    Parameters
    ----------
    now
        By the clock: for forecasts.
    alone
        Had the model the machine to itself: for what should be the same on a busy day.
    """

    now: CallCost
    alone: CallCost


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
        Input pixels of the largest patch allowed, besides the model's own.
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

    Arithmetic is counted in pixels that go in: no clock has a part in it. Outputs are
    multiples of the model's `shift_period`, the margin is the model's, and patches do not
    overlap. The model's own shapes, unless others take less.
    """
    period = spec.shift_period or 1
    margin = margins(spec)
    best = _own_grid(spec, search, period)
    for output in _outputs(spec, search.canvas, period):
        patch = Size(output.height + margin.height, output.width + margin.width)
        if patch.area > search.largest:
            continue
        grid = search.grid(patch, output, output)
        if _arithmetic(grid) < _arithmetic(best) and search.fits(grid):
            best = grid
    return best


def largest_patch(spec: ModelSpec, device: str, alone: CallCost | None) -> int:
    """Input pixels of the largest patch whose call ends within `LONGEST_CALL`.

    Settled by the kind of device; a machine that is too slow even so gets a half of it, or a
    quarter, and so on. Never less than the model's own patch.

    Parameters
    ----------
    spec
        Of the model.
    device
        Where it computes, as torch names it.
    alone
        What a call costs when nothing disturbs it; None: not known.
    """
    own, margin = Size(*spec.patch_input_shape).area, margins(spec)
    area = _LARGEST["cpu" if device == "cpu" else "gpu"]
    while alone is not None and area > own:
        # Of all patches of an area, the square one has the largest output.
        side = isqrt(area)
        output = Size(max(side - margin.height, 0), max(side - margin.width, 0))
        if _SAFETY * alone.seconds(Size(side, side), output) <= LONGEST_CALL:
            break
        area //= 2
    return max(area, own)


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


def is_quick(segmenter: Segmenter, device: str) -> bool:
    """Whether a single call tells that the device's largest patch is quick enough.

    It tells where that patch would be even if the whole call went into what comes out, or into
    what goes in. `largest_patch` then says what it would after `time_model`, which takes longer.
    A model that was quick is not asked again while it computes with as many threads: of many
    slides only the first waits, and what was built for their patches stays.
    """
    with suppress(TypeError):  # one that was brought may be no key
        if _QUICK.get(segmenter) == (device, _threads()):
            return True
    is_so = _call_proves_quick(segmenter, device)
    with suppress(TypeError):
        if is_so:
            _QUICK[segmenter] = device, _threads()
    return is_so


def _call_proves_quick(segmenter: Segmenter, device: str) -> bool:
    """Whether one call leaves no doubt."""
    spec = segmenter.spec
    patch = _timed_patches(spec)[-1]
    wall, busy = _call(segmenter, patch)
    alone = _undisturbed(segmenter, wall, busy)
    shares = CallCost(alone / patch.area, 0.0), CallCost(0.0, alone / _output(spec, patch).area)
    most = largest_patch(spec, device, None)
    return all(largest_patch(spec, device, share) == most for share in shares)


def time_model(segmenter: Segmenter) -> Timing:
    """Time patches of glass: small ones of two sizes where the model allows it."""
    patches = _timed_patches(segmenter.spec)
    walls, alones = zip(*(_time(segmenter, patch) for patch in patches), strict=True)
    return Timing(_cost(segmenter.spec, patches, walls), _cost(segmenter.spec, patches, alones))


def _timed_patches(spec: ModelSpec) -> list[Size]:
    """The model's own patch; where others may be asked for, a small one and a larger one."""
    if spec.shift_period is None:
        return [Size(*spec.patch_input_shape)]
    margin, period = margins(spec), spec.shift_period
    sides = [-(-side // period) * period for side in _TIMED_OUTPUTS]
    return [Size(margin.height + side, margin.width + side) for side in sides]


def _output(spec: ModelSpec, patch: Size) -> Size:
    margin = margins(spec)
    return Size(patch.height - margin.height, patch.width - margin.width)


def _cost(spec: ModelSpec, patches: Sequence[Size], seconds: Sequence[float]) -> CallCost:
    """What explains the seconds of the first patch and of the last."""
    (i0, o0), (i1, o1) = (
        (patch.area, _output(spec, patch).area) for patch in (patches[0], patches[-1])
    )
    determinant = i0 * o1 - i1 * o0
    if determinant == 0:
        # One size, or no margin: what depends on the output cannot be told.
        return CallCost(seconds[-1] / i1, 0.0)
    per_output = max((seconds[-1] * i0 - seconds[0] * i1) / determinant, 0.0)
    return CallCost(max(seconds[-1] - per_output * o1, 0.0) / i1, per_output)


def _time(segmenter: Segmenter, patch: Size) -> tuple[float, float]:
    """Seconds of a call, by the clock and undisturbed: the least of at least two.

    The first call also builds what later ones reuse.
    """
    samples: list[float] = []
    busy: list[float] = []
    while len(samples) < 2 or (len(samples) < _SAMPLES and sum(samples) < _SAMPLING_SECONDS):
        for values, seconds in zip((samples, busy), _call(segmenter, patch), strict=True):
            values.append(seconds)
    return min(samples), _undisturbed(segmenter, min(samples), min(busy))


def _call(segmenter: Segmenter, patch: Size) -> tuple[float, float]:
    """Seconds of one call with glass, by the clock and of the processor."""
    pixels = np.full((1, patch.height, patch.width, 3), 255, np.uint8)
    start, started = time.perf_counter(), time.process_time()
    predict(segmenter, pixels)
    return time.perf_counter() - start, time.process_time() - started


def _undisturbed(segmenter: Segmenter, wall: float, busy: float) -> float:
    """Seconds of a call that has the machine to itself."""
    if str(getattr(segmenter, "device", None)) != "cpu":
        return wall
    # Time on the processor hardly grows with what else it does: with two idle cores or four
    # programs on them, 0.4 to 1.1 s where the clock said 0.4 to 9.
    return min(wall, busy / _threads())


def _threads() -> int:
    """Threads that torch computes with."""
    import torch

    return torch.get_num_threads()


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
