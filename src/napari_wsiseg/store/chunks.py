"""Pixels to chunk files' bytes, in threads.

Equal to what Zarr writes for the arrays that `create_arrays` makes, at two thirds of the
time: Zarr looks for empty chunks by comparing every pixel, and passes every chunk
through an event loop. Knows neither levels' contents nor when files are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
from imagecodecs import zstd_encode
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region
from napari_wsiseg.store.arrays import LEVEL, LevelArrays, ZarrArray

Put = Callable[[str, bytes | None, int], None]

_THREADS = min(8, os.cpu_count() or 1)


class ChunkWriter:
    """Encodes and puts chunks of a map's levels.

    Parameters
    ----------
    levels
        The map's, large to small.
    put
        Takes a key, its bytes (None: there is nothing) and a rank: finer levels and,
        within one, values before coverage come first.
    """

    def __init__(self, levels: tuple[LevelArrays, ...], put: Put) -> None:
        self._levels = levels
        self._put = put
        self._pool = ThreadPoolExecutor(_THREADS, "wsiseg-encode")
        self._pending: list[Future[None]] = []

    def write(
        self, level: int, region: Region, values: NDArray[np.generic], coverage: NDArray[np.bool_]
    ) -> None:
        """Begin to write the whole chunks of `region`; the arrays stay as they are until `wait`.

        Parameters
        ----------
        level
            Which.
        region
            In pixels of the level: whole chunks of one chunk row, cut at the edge.
        values, coverage
            The region's pixels.
        """
        arrays = self._levels[level]
        chunk = arrays.coverage.chunks[-1]
        row, first = region.top // chunk, region.left // chunk
        for start in range(0, region.size.width, chunk):
            column, part = first + start // chunk, slice(start, start + chunk)
            values_key = f"{arrays.values.path}/c/0/{row}/{column}"
            coverage_key = f"{arrays.coverage.path}/c/{row}/{column}"
            self._submit(values_key, arrays.values, values[..., part], 2 * level)
            self._submit(coverage_key, arrays.coverage, coverage[..., part], 2 * level + 1)

    def wait(self) -> None:
        """Until all that was begun is put.

        Raises
        ------
        StoreError
            The first error of these writes.
        """
        pending, self._pending = self._pending, []
        wait(pending)
        for future in pending:
            future.result()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _submit(self, key: str, array: ZarrArray, pixels: NDArray[np.generic], rank: int) -> None:
        self._pending.append(self._pool.submit(self._encode, key, array.chunks, pixels, rank))

    def _encode(
        self, key: str, shape: tuple[int, ...], pixels: NDArray[np.generic], rank: int
    ) -> None:
        """One chunk; one that is 0 all over has no file, as for Zarr."""
        # Bytes are looked at as truths: numpy then stops at the first, and needs no copy.
        some = (pixels.view(np.bool_) if pixels.dtype == np.uint8 else pixels).any()
        self._put(key, encoded(pixels, shape) if some else None, rank)


def encoded(pixels: NDArray[np.generic], shape: tuple[int, ...]) -> bytes:
    """The bytes of a chunk of this shape; what lies beyond the array's edge is 0."""
    if pixels.shape != shape:
        whole = np.zeros(shape, pixels.dtype)
        whole[tuple(slice(length) for length in pixels.shape)] = pixels
        pixels = whole
    # Bytes of it would be copied while every other thread waits.
    little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return bytes(zstd_encode(little.view(np.uint8), level=LEVEL))  # type: ignore[arg-type] # takes any buffer
