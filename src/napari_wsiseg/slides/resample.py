"""Resamples pixels so that a part read alone equals the cut of the whole, bit for bit.

Knows no file: pixels come from a function. Output pixel i at factor f covers the
source pixels [i * f, (i + 1) * f). Every weight depends on the *global* output index
alone (float64), and every output pixel adds its taps in ascending order, so no result
depends on the window that was asked for. Where f >= 1: the area average with exact
fractional overlap; where f < 1: bicubic convolution with a = -0.5 (R. Keys, IEEE
Trans. ASSP 29(6), 1981, p. 1153). The image lies on an infinite white plane.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX, Region, Size

ReadPixels = Callable[[Region], NDArray[np.uint8]]
"""Gives the (height, width, 3) pixels of a region that lies inside the image."""

WHITE = 255
_CHANNELS = 3
# Sides of the pieces that are read at once: memory stays flat however large the region.
_SOURCE_SIDE = 2048
_OUTPUT_SIDE = 1024
# Source pixels a strip: what its float64 sums need stays inside a core's cache.
_STRIP_PIXELS = 2**16
_LUT_LIMIT = 2**16


def white(size: Size) -> NDArray[np.uint8]:
    """(height, width, 3) white pixels."""
    return np.full((size.height, size.width, _CHANNELS), WHITE, np.uint8)


def exact(factor: float) -> float:
    """The whole number that `factor` is but for rounding (1e-9), else `factor` itself."""
    whole = float(round(factor))
    return whole if whole and abs(factor - whole) <= 1e-9 * whole else factor


def resample(read: ReadPixels, size: Size, region: Region, factor: YX) -> NDArray[np.uint8]:
    """The pixels of `region` of an image that is read at `factor`.

    Parameters
    ----------
    read
        Gives the image's pixels; asked for pieces inside the image only.
    size
        The image's height and width.
    region
        In output pixels; may lie partly or wholly outside the image.
    factor
        Source pixels per output pixel, an axis each.

    Returns
    -------
    (height, width, 3) uint8, rounded half to even, white outside the image.
    """
    factor = YX(exact(factor.y), exact(factor.x))
    rows, columns = _touched(size.height, factor.y), _touched(size.width, factor.x)
    inside = region.intersection(
        Region.from_bounds(rows.start, columns.start, rows.stop, columns.stop)
    )
    identity = factor == (1.0, 1.0)
    if identity and inside == region and not region.is_empty:
        return read(region)
    out = white(region.size)
    if inside.is_empty:
        return out
    if identity:
        out[inside.shifted(-region.top, -region.left).slices] = read(inside)
        return out
    whole = all(f.is_integer() for f in factor)
    for piece in _pieces(inside, factor):
        target = out[piece.shifted(-region.top, -region.left).slices]
        if whole:
            average_whole(read, size, piece, factor, target)
        else:
            weigh(read, size, piece, factor, target)
    return out


def weigh(read: ReadPixels, size: Size, region: Region, factor: YX, out: NDArray[np.uint8]) -> None:
    """Write the pixels of `region` into `out`: the plain path, for any factor."""
    across = _operator(region.left, region.right, factor.x, _CHANNELS)
    width = across.stop - across.start
    down = _span(region.top, region.bottom, factor.y)
    source = Region.from_bounds(down.start, across.start, down.stop, across.stop)
    pixels = _on_white(read, size, source)
    norm = _norm(factor.y) * _norm(factor.x)
    step = max(1, int(_STRIP_PIXELS / (max(factor.y, 1.0) * width)))
    for top in range(region.top, region.bottom, step):
        bottom = min(top + step, region.bottom)
        strip = _operator(top, bottom, factor.y, 1)
        taken = pixels[strip.start - source.top : strip.stop - source.top]
        flat = taken.reshape(len(taken), width * _CHANNELS).astype(np.float64)
        # scipy's product of a sparse and a dense matrix adds row by row, in the order of
        # the taps; a dense product (BLAS) would round differently with the window's size.
        sums = across.matrix @ np.ascontiguousarray((strip.matrix @ flat).T)
        sums /= norm
        np.rint(sums, out=sums)
        np.clip(sums, 0, WHITE, out=sums)
        rows = slice(top - region.top, bottom - region.top)
        out[rows] = sums.astype(np.uint8).T.reshape(out[rows].shape)


def average_whole(
    read: ReadPixels, size: Size, region: Region, factor: YX, out: NDArray[np.uint8]
) -> None:
    """Write the same as `weigh` for whole factors, from exact whole sums: several times faster."""
    ky, kx = int(factor.y), int(factor.x)
    source = Region(
        region.top * ky, region.left * kx, Size(region.size.height * ky, region.size.width * kx)
    )
    pixels = _on_white(read, size, source)
    width = region.size.width
    small = WHITE * ky * kx < _LUT_LIMIT
    dtype = np.uint16 if small else np.uint64
    step = max(1, 4 * _STRIP_PIXELS // (ky * kx * width))
    for top in range(0, region.size.height, step):
        bottom = min(top + step, region.size.height)
        strip = pixels[top * ky : bottom * ky].reshape(bottom - top, ky, -1)
        rows = strip[:, 0].astype(dtype)
        for row in range(1, ky):
            np.add(rows, strip[:, row], out=rows)
        taps = rows.reshape(-1, kx * _CHANNELS)
        sums = np.empty((len(taps), _CHANNELS), dtype)
        for channel in range(_CHANNELS):
            # One long strided addition a tap: numpy is slow over an innermost axis of 3.
            column = taps[:, channel].copy()
            for tap in range(1, kx):
                np.add(column, taps[:, channel + tap * _CHANNELS], out=column)
            sums[:, channel] = column
        means = _means(ky * kx)[sums] if small else np.rint(sums / (factor.y * factor.x))
        out[top:bottom] = means.reshape(bottom - top, width, _CHANNELS)


@dataclass(frozen=True, slots=True)
class _Operator:
    """The weights of the source pixels [start, stop) for a run of output pixels."""

    start: int
    stop: int
    matrix: sp.csr_array


@functools.lru_cache(maxsize=256)
def _operator(first: int, last: int, factor: float, channels: int) -> _Operator:
    """Weights for the outputs [first, last), for interleaved `channels`."""
    taps, weights = _taps(np.arange(first, last, dtype=np.float64), factor)
    used = weights != 0
    start, stop = int(taps[used].min()), int(taps[used].max()) + 1
    lanes = np.arange(channels)[:, None]
    columns = (taps[:, None, :] - start) * channels + lanes
    used = np.broadcast_to(used[:, None, :], columns.shape)
    weights = np.broadcast_to(weights[:, None, :], columns.shape)
    counts = used.sum(axis=2).reshape(-1)
    matrix = sp.csr_array(
        (
            weights[used],
            columns[used].astype(np.int32),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        ),
        shape=((last - first) * channels, (stop - start) * channels),
    )
    return _Operator(start, stop, matrix)


def _taps(
    outputs: NDArray[np.float64], factor: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Source indices and weights, (outputs, taps) each, in ascending order of source."""
    if factor >= 1:
        begin, end = outputs * factor, (outputs + 1) * factor
        taps = np.floor(begin).astype(np.int64)[:, None] + np.arange(math.ceil(factor) + 1)
        overlap = np.minimum(taps + 1, end[:, None]) - np.maximum(taps, begin[:, None])
        return taps, np.maximum(overlap, 0.0)
    centre = (outputs + 0.5) * factor - 0.5
    taps = np.floor(centre).astype(np.int64)[:, None] + np.arange(-1, 3)
    t = np.abs(centre[:, None] - taps)
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return taps, np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def reach(first: int, last: int, factor: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last source pixel that each of the outputs [first, last) is made of.

    Both ascend, and may lie outside the image. Where f < 1, all four taps count, also those
    that an output exactly on a source pixel weighs with 0.
    """
    factor = exact(factor)
    taps, weights = _taps(np.arange(first, last, dtype=np.float64), factor)
    if factor < 1:
        return taps[:, 0], taps[:, -1]
    return taps[:, 0], np.where(weights != 0, taps, taps[:, :1]).max(axis=1)


def _span(first: int, last: int, factor: float) -> range:
    """The source pixels that the outputs [first, last) weigh."""
    taps, weights = _taps(np.arange(first, last, dtype=np.float64), factor)
    used = taps[weights != 0]
    return range(int(used.min()), int(used.max()) + 1)


def _norm(factor: float) -> float:
    """What the weights of one output pixel sum to."""
    return max(factor, 1.0)


def _touched(length: int, factor: float) -> range:
    """The outputs that weigh any pixel of [0, length)."""
    if factor >= 1:
        return range(math.ceil(length / factor))
    # Two taps on either side of an output's centre, and one output more against rounding.
    return range(math.floor(-2 / factor) - 1, math.ceil((length + 2) / factor) + 1)


@functools.lru_cache(maxsize=16)
def _means(count: int) -> NDArray[np.uint8]:
    """For every sum of `count` pixels its mean, rounded half to even."""
    return np.rint(np.arange(WHITE * count + 1) / count).astype(np.uint8)


def _on_white(read: ReadPixels, size: Size, region: Region) -> NDArray[np.uint8]:
    """Contiguous pixels of a region of the image's plane, white outside the image."""
    inside = region.clipped(size)
    if inside == region:
        return np.ascontiguousarray(read(region))
    out = white(region.size)
    if not inside.is_empty:
        out[inside.shifted(-region.top, -region.left).slices] = read(inside)
    return out


def _pieces(region: Region, factor: YX) -> Iterator[Region]:
    """`region` in pieces whose source and output fit in a few MB."""
    height, width = (max(1, min(_OUTPUT_SIDE, int(_SOURCE_SIDE / f))) for f in (factor.y, factor.x))
    for top in range(region.top, region.bottom, height):
        for left in range(region.left, region.right, width):
            yield Region.from_bounds(
                top, left, min(top + height, region.bottom), min(left + width, region.right)
            )
