"""How much memory and disk a run takes, and what a budget leaves of it in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_wsiseg.config import MapDtype, SegmentationJob
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import Mask, PatchGrid
from napari_wsiseg.loading import READ_AHEAD
from napari_wsiseg.memory import machine_memory
from napari_wsiseg.merge import band_rows, block_shape, held_batches, held_rows
from napari_wsiseg.models import AHEAD, BANDS

_FLOAT = 4
# The reader's tiles (32 MB at the most), chunks being encoded, and what the allocator keeps.
_OVERHEAD = 160 * 10**6
# Results on the real test slide take 0.3 to 0.5 of their size; a little more is foretold.
_COMPRESSED = 0.6


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a run takes above the loaded program, part by part.

    Parameters
    ----------
    batches
        Patches read ahead, their predictions and the network's own: never on disk.
    canvas
        The merger's rows, and the block that it adds up.
    rows
        Chunk rows being filled and written, with the coarser levels' rows.
    blocks
        Decoded parts of the slide that a patch still needs.
    gpu
        On each GPU, beside the model: not counted in the others, nor in the budget.
    """

    batches: int
    canvas: int
    rows: int
    blocks: int
    gpu: int

    @property
    def resident(self) -> int:
        """What cannot go to disk."""
        return self.batches + _OVERHEAD

    @property
    def total(self) -> int:
        """All parts on the host together."""
        return self.resident + self.canvas + self.rows + self.blocks


@dataclass(frozen=True, slots=True)
class Costs:
    """What decides how much a patch costs.

    Parameters
    ----------
    classes
        Channels of a prediction.
    dtype
        How probabilities are stored.
    bytes_per_pixel
        What the network takes for itself, per input pixel.
    block
        Size of the blocks in which the slide is read.
    gpus
        How many predict and merge; 0: the host does.
    """

    classes: int
    dtype: MapDtype
    bytes_per_pixel: int
    block: Size
    gpus: int

    @property
    def _stored_bytes(self) -> int:
        return self.classes * np.dtype(self.dtype).itemsize

    def batches(self, grid: PatchGrid, batch_size: int) -> int:
        """What patches on their way take on the host, `batch_size` at a time."""
        pixels = batch_size * grid.patch_input.area
        if self.gpus:
            under_way = READ_AHEAD + 2 + AHEAD * self.gpus
            band = _pinned(_block_pixels(grid) * self._stored_bytes) + _pinned(_block_pixels(grid))
            return under_way * _pinned(3 * pixels) + BANDS * band
        answers = batch_size * grid.patch_output.area * self.classes * _FLOAT
        # Beside those that the merger holds, the network's and a copy of it.
        answers *= held_batches(grid, batch_size) + 2
        return pixels * (3 * (READ_AHEAD + 3) + self.bytes_per_pixel) + answers

    def gpu(self, grid: PatchGrid, chunks: Mask, batch_size: int) -> int:
        """What a run over these chunks takes on a GPU that predicts and merges."""
        pixels = batch_size * grid.patch_input.area
        answers = batch_size * grid.patch_output.area * self.classes * _FLOAT
        return (
            pixels * self.bytes_per_pixel
            + (AHEAD + 1) * 3 * pixels
            + (AHEAD + held_batches(grid, batch_size)) * answers
            + self._canvas(grid, chunks)
            + 2 * _block_pixels(grid) * self.classes * _FLOAT  # a band, as it is rounded
        )

    def _canvas(self, grid: PatchGrid, chunks: Mask) -> int:
        frame = grid.frame(grid.patches_for(chunks))
        pixels = held_rows(grid) * frame.size.width + _block_pixels(grid)
        return pixels * (self.classes + 1) * _FLOAT

    def need(self, grid: PatchGrid, chunks: Mask, batch_size: int) -> MemoryNeed:
        """What a run over these (chunk rows, chunk columns) takes."""
        frame = grid.frame(grid.patches_for(chunks))
        return MemoryNeed(
            batches=self.batches(grid, batch_size),
            canvas=0 if self.gpus else self._canvas(grid, chunks),
            rows=_row_pixels(grid, chunks) * (self._stored_bytes + 1),
            blocks=3 * self._read_pixels(grid, frame, batch_size),
            gpu=self.gpu(grid, chunks, batch_size) if self.gpus else 0,
        )

    def _read_pixels(self, grid: PatchGrid, frame: Region, batch_size: int) -> int:
        """Decoded pixels that are held at once, at the most."""
        given, answer, block, canvas = grid.patch_input, grid.patch_output, self.block, grid.canvas
        # What patches read, rounded out to whole blocks on both sides.
        height = min(
            frame.size.height + given.height - answer.height + 2 * block.height, canvas.height
        )
        width = min(frame.size.width + given.width - answer.width + 2 * block.width, canvas.width)
        row = (given.height + 2 * block.height) * width
        # Beside a row of patches, those of the batch to be cut and of the next: on a narrow
        # slide many rows.
        return min(row + 2 * batch_size * given.area, height * width)

    def least(self, grid: PatchGrid) -> int:
        """Bytes below which no run can work: one patch in memory, all else on disk."""
        return self.batches(grid, 1) + _OVERHEAD

    def disk(self, grid: PatchGrid, chunks: Mask) -> int:
        """Bytes that these chunks take on disk, about, coarser levels included."""
        rows, columns = chunks.shape
        heights = np.diff(np.minimum(np.arange(rows + 1) * grid.chunk, grid.map_size.height))
        widths = np.diff(np.minimum(np.arange(columns + 1) * grid.chunk, grid.map_size.width))
        pixels = int(heights @ (chunks & (grid.owed > 0)) @ widths)
        return int(pixels * self._stored_bytes * 4 / 3 * _COMPRESSED)


def _row_pixels(grid: PatchGrid, chunks: Mask) -> int:
    """Stored pixels of the chunk rows in memory, and of the coarser rows above them."""
    columns = np.flatnonzero((chunks & (grid.owed > 0)).any(0))
    if len(columns) == 0:
        return 0
    first, end, size = int(columns[0]), int(columns[-1]) + 1, grid.map_size
    # Those that a band lies on are being filled, and one is being written. Of the coarser levels
    # one each.
    side = grid.chunk_side
    bands = band_rows(grid, grid.patches_for(chunks)).values()
    filled = max(-(-below // side) - top // side for top, below in bands)
    pixels = (filled + 1) * _row_area(first, end, size, grid.chunk)
    while max(size.height, size.width) > grid.chunk:
        first, end = first // 2, -(-end // 2)
        size = Size(-(-size.height // 2), -(-size.width // 2))
        pixels += _row_area(first, end, size, grid.chunk)
    return pixels


def _block_pixels(grid: PatchGrid) -> int:
    """Canvas pixels that are added up at once, at the most."""
    rows, columns = block_shape(grid)
    return rows * columns


def _row_area(first: int, end: int, level: Size, chunk: int) -> int:
    """Pixels of the chunks [first, end) of a row of a level of this size."""
    return (min(end * chunk, level.width) - first * chunk) * min(chunk, level.height)


def _pinned(size: int) -> int:
    """What torch sets aside for so many bytes of pinned memory: the next power of two."""
    return 1 << (size - 1).bit_length()


def budget_of(job: SegmentationJob) -> int:
    """Bytes that the run may take: a share of what is available now, or the limit."""
    share = int(machine_memory().available * job.memory_threshold / 100)
    return share if job.memory_limit is None else min(share, job.memory_limit)


def fitting_batch(costs: Costs, grid: PatchGrid, wanted: int, budget: int) -> int:
    """The largest halving of `wanted` whose patches take at most half the budget.

    Raises
    ------
    JobError
        If not even one patch fits.
    """
    least = costs.least(grid)
    if budget < least:
        raise JobError(
            f"The memory budget is {budget // 10**6} MB, but one patch of "
            f"{grid.patch_input} needs {-(-least // 10**6)} MB; raise memory_threshold or "
            "memory_limit, or use smaller patches."
        )
    while wanted > 1 and costs.batches(grid, wanted) > budget / 2:
        wanted //= 2
    return wanted
