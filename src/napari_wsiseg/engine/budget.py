"""How much memory and disk a run takes, and what a budget leaves of it in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_wsiseg.config import MapDtype, SegmentationJob
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.loading import READ_AHEAD
from napari_wsiseg.memory import machine_memory
from napari_wsiseg.merge import ring_rows

_FLOAT = 4
# The reader's tiles (64 MB at the most), chunks being encoded, and what the allocator keeps.
_OVERHEAD = 128 * 10**6
# Results on the real test slide take 0.3 to 0.5 of their size; a little more is foretold.
_COMPRESSED = 0.6
_NOTHING = Region(0, 0, Size(0, 0))


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a run takes above the loaded program, part by part.

    Parameters
    ----------
    batches
        Patches read ahead, their predictions and the network's own: never on disk.
    canvas
        The merger's rows.
    rows
        Chunk rows being filled and written, with the coarser levels' rows.
    blocks
        Decoded parts of the slide that a patch still needs.
    """

    batches: int
    canvas: int
    rows: int
    blocks: int

    @property
    def resident(self) -> int:
        """What cannot go to disk."""
        return self.batches + _OVERHEAD

    @property
    def total(self) -> int:
        """All parts together."""
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
    """

    classes: int
    dtype: MapDtype
    bytes_per_pixel: int
    block: Size

    @property
    def _stored_bytes(self) -> int:
        return self.classes * np.dtype(self.dtype).itemsize

    def need(self, grid: PatchGrid, frame: Region, batch_size: int) -> MemoryNeed:
        """What a run over patches within `frame` takes."""
        pixels = batch_size * grid.patch_input.area
        answers = batch_size * grid.patch_output.area * self.classes * _FLOAT
        width = frame.size.width
        stored = width * grid.chunk_side // grid.scale**2 * (self._stored_bytes + 1)
        reach = grid.patch_input.height + 2 * self.block.height
        across = min(width + grid.patch_input.width - grid.patch_output.width, grid.canvas.width)
        return MemoryNeed(
            # Twice the answers: the network's, and a copy on its way to the canvas.
            batches=pixels * (3 * (READ_AHEAD + 2) + self.bytes_per_pixel) + 2 * answers,
            canvas=ring_rows(grid) * width * (self.classes + 1) * _FLOAT,
            # One being filled, one waiting, one being written, and the coarser levels' rows.
            rows=4 * stored,
            blocks=min(reach, grid.canvas.height) * across * 3,
        )

    def least(self, grid: PatchGrid) -> int:
        """Bytes below which no run can work: one patch in memory, all else on disk."""
        return self.need(grid, _NOTHING, 1).resident

    def disk(self, grid: PatchGrid, chunks: int) -> int:
        """Bytes that so many chunks take on disk, about, coarser levels included."""
        side = grid.chunk_side // grid.scale
        pixels = min(chunks * side**2, grid.map_size.area)
        return int(pixels * self._stored_bytes * 4 / 3 * _COMPRESSED)


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
    while wanted > 1 and costs.need(grid, _NOTHING, wanted).batches > budget / 2:
        wanted //= 2
    return wanted
