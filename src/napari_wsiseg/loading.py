"""`PatchLoader`: patches of a slide in grid order, read ahead by threads.

The slide is read in blocks that lie on its own tiles, each block once, and patches
are cut from the blocks. Knows no model and no map.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from queue import SimpleQueue
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.grid import Indices, PatchGrid
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import FailedPatch, PatchBatch
from napari_wsiseg.slides.base import Slide, SlideInfo
from napari_wsiseg.slides.damage import Gap, read_with_gaps
from napari_wsiseg.threads import Background

READ_AHEAD = 2
"""Batches that wait, finished, for the model."""

_BLOCK = 512
_LARGEST_BLOCK = 2048


def block_size(info: SlideInfo, downsample: YX, canvas: Size) -> Size:
    """Side of the blocks to read at `downsample`: 512 px, or on the file's tiles."""
    level = info.levels[info.level_for(downsample)]
    sides = (
        _block_side(tile, target / own)
        for tile, target, own in zip(
            (level.tile.height, level.tile.width), downsample, level.downsample, strict=True
        )
    )
    height, width = sides
    return Size(min(height, canvas.height), min(width, canvas.width))


def _block_side(tile: int, factor: float) -> int:
    """The least multiple of tiles of at least 512 px that ends on whole output pixels."""
    step = Fraction(factor).limit_denominator(64)
    if abs(float(step) - factor) > 1e-12:
        return _BLOCK
    whole = (Fraction(tile) / step).numerator
    side = whole * -(-_BLOCK // whole)
    return side if side <= _LARGEST_BLOCK else _BLOCK


def _plain(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.empty(shape, np.uint8)


class PatchLoader:
    """Iterates over `PatchBatch`es; a context manager that stops its threads.

    Parameters
    ----------
    slide
        Where pixels come from.
    downsample
        Level-0 pixels per canvas pixel.
    grid
        Where patches lie.
    patches
        (n, 2) the patches to load, in grid order.
    batch_size
        Patches a batch; the last may hold fewer.
    workspace
        Where blocks are kept until no patch needs them.
    workers
        Threads that decode.
    empty
        Makes the arrays that batches are handed over in.
    """

    def __init__(
        self,
        slide: Slide,
        downsample: YX,
        grid: PatchGrid,
        patches: Indices,
        batch_size: int,
        workspace: Workspace,
        workers: int | None = None,
        empty: Callable[[tuple[int, ...]], NDArray[np.uint8]] = _plain,
    ) -> None:
        self._slide = slide
        self._grid = grid
        self._empty = empty
        self._patches = patches
        self._batch_size = batch_size
        self._workers = workers or min(os.cpu_count() or 1, 8)
        self._blocks = _Blocks(slide, downsample, grid, patches, workspace)
        self._ready: SimpleQueue[PatchBatch | BaseException | None] = SimpleQueue()
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(READ_AHEAD):
            self._places.put(None)
        self._is_stopped = False
        self._thread = Background(self._run, self._stop, "wsiseg-loader")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop the threads, and drop what they read; a second call does nothing."""
        self._thread.end()
        self._blocks.close()

    def __iter__(self) -> Iterator[PatchBatch]:
        while (batch := self._ready.get()) is not None:
            self._places.put(None)
            if isinstance(batch, BaseException):
                raise batch
            yield batch

    def _stop(self) -> None:
        self._is_stopped = True
        self._places.put(None)

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(self._workers, "wsiseg-decoder") as pool:
                try:
                    for start in range(0, len(self._patches), self._batch_size):
                        self._blocks.request(pool, start + 2 * self._batch_size)
                        batch = self._batch(start)
                        if batch is None:
                            return
                        self._put(batch)
                finally:
                    pool.shutdown(wait=True, cancel_futures=True)
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the run, which raises it
            self._put(error)

    def _put(self, item: PatchBatch | BaseException | None) -> None:
        """Hand over, when one of those that wait was taken; not where nobody asks any more."""
        self._places.get()
        if self._is_stopped:
            self._places.put(None)  # nor is the next to wait
        else:
            self._ready.put(item)

    def _batch(self, start: int) -> PatchBatch | None:
        """The patches from `start` on; None once nobody wants them."""
        indices = self._patches[start : start + self._batch_size]
        size = self._grid.patch_input
        pixels = self._empty((len(indices), size.height, size.width, 3))
        failed = []
        for position, (row, column) in enumerate(indices):
            if self._is_stopped:
                return None
            gap = self._blocks.cut(start + position, pixels[position])
            if gap is not None:
                failed.append(FailedPatch(int(row), int(column), self._reason(gap)))
        return PatchBatch(indices, pixels, tuple(failed))

    def _reason(self, gap: Gap) -> str:
        """What went wrong, without the slide's path: results travel, folders' names must not."""
        return self._slide.info.without_path(gap.reason)


@dataclass(frozen=True, slots=True)
class _Block:
    """Pixels of a block, and where in the canvas some of them could not be read."""

    pixels: NDArray[np.uint8]
    gaps: list[Gap]


class _Blocks:
    """The blocks of a run: asked for in order, kept while a patch needs them."""

    def __init__(
        self, slide: Slide, downsample: YX, grid: PatchGrid, patches: Indices, workspace: Workspace
    ) -> None:
        self._slide = slide
        self._downsample = downsample
        self._grid = grid
        self._patches = patches
        self._workspace = workspace
        self._size = block_size(slide.info, downsample, grid.canvas)
        shape = (
            -(-grid.canvas.height // self._size.height),
            -(-grid.canvas.width // self._size.width),
        )
        # Blocks lie on a lattice of their own, so the last patch of each is known beforehand.
        self._last = np.full(shape, -1, np.int64)
        for index in range(len(patches)):
            self._last[self._window(index).slices] = index
        self._asked = np.zeros(shape, bool)
        self._next = 0
        self._held: dict[tuple[int, int], Future[_Block]] = {}

    def request(self, pool: ThreadPoolExecutor, end: int) -> None:
        """Ask for the blocks of all patches before `end` that nobody asked for yet."""
        for index in range(self._next, min(end, len(self._patches))):
            for block in self._blocks_of(index):
                if not self._asked[block]:
                    self._asked[block] = True
                    self._held[block] = pool.submit(self._read, *block)
            self._next = index + 1

    def cut(self, index: int, patch: NDArray[np.uint8]) -> Gap | None:
        """Copy a patch's pixels out of its blocks and drop those no later patch needs.

        White beyond the slide. Returns a gap that the patch's input meets, or None where it is
        whole.
        """
        row, column = self._patches[index]
        box = self._grid.input_region(int(row), int(column))
        if box != box.clipped(self._grid.canvas):
            patch.fill(255)
        try:
            for place in self._blocks_of(index):
                block = self._held[place].result()
                for gap in block.gaps:
                    if not gap.region.intersection(box).is_empty:
                        return gap
                region = self._region(*place)
                part = box.intersection(region)
                patch[part.shifted(-box.top, -box.left).slices] = block.pixels[
                    part.shifted(-region.top, -region.left).slices
                ]
        finally:
            for place in self._blocks_of(index):
                if self._last[place] == index:
                    self._drop(place)
        return None

    def close(self) -> None:
        """Drop all blocks that are left."""
        for block in list(self._held):
            self._drop(block)

    def _drop(self, block: tuple[int, int]) -> None:
        future = self._held.pop(block)
        # In a forked child one may be under way for ever: its thread is the parent's.
        if future.done() and not future.cancelled() and future.exception() is None:
            self._workspace.release(future.result().pixels)

    def _read(self, row: int, column: int) -> _Block:
        region = self._region(row, column)
        pixels, gaps = read_with_gaps(self._slide, region, self._downsample)
        return _Block(self._workspace.keep(pixels), gaps)

    def _region(self, row: int, column: int) -> Region:
        height, width = self._size.height, self._size.width
        return Region(row * height, column * width, self._size).clipped(self._grid.canvas)

    def _window(self, index: int) -> Region:
        """Rows and columns of the blocks that a patch's input meets."""
        row, column = self._patches[index]
        box = self._grid.input_region(int(row), int(column)).clipped(self._grid.canvas)
        height, width = self._size.height, self._size.width
        return Region.from_bounds(
            box.top // height, box.left // width, -(-box.bottom // height), -(-box.right // width)
        )

    def _blocks_of(self, index: int) -> Iterator[tuple[int, int]]:
        window = self._window(index)
        for row in range(window.top, window.bottom):
            for column in range(window.left, window.right):
                yield row, column
