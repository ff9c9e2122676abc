"""`RunPlan`: a job with everything settled; plain data, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine.budget import MemoryNeed
from napari_wsiseg.geometry import YX, Resolution, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.models import StainVectors
from napari_wsiseg.slides.base import SlideInfo
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.tissue import TissueMask


@dataclass(frozen=True)
class RunPlan:
    """A job with everything settled.

    Parameters
    ----------
    job, info, spec
        What was asked for, the slide and the model.
    resolution, downsample
        What the run reads at; level-0 pixels per pixel.
    grid
        Where patches and chunks lie, and which patches are kept.
    wanted, finished
        (chunk rows, chunk columns) bool: the chunks that the job's region meets, and
        those that a resumed result has.
    batch_size
        Patches a predict call.
    gpus
        Where the model computes and its answers are merged; none: the host merges.
    tissue
        The mask behind `grid.keep`; None where all of the slide is analysed, and where a
        resumed result keeps its own.
    tissue_sha256
        Digest of the mask, also of a resumed result's.
    budget
        Bytes that the run may take above the loaded program.
    need
        Memory that it takes at the most, part by part; above the budget it works from disk.
    disk_bytes
        Bytes that the run adds to the result, about.
    seconds
        How long it takes, about; None where the model is not loaded yet.
    stains
        The glass level and stains that a stain model takes of this slide; None where its
        own stand, and for other models.
    warnings
        Sentences for the user.
    """

    job: SegmentationJob
    info: SlideInfo
    spec: ModelSpec
    resolution: Resolution
    downsample: YX
    grid: PatchGrid
    wanted: NDArray[np.bool_]
    finished: NDArray[np.bool_]
    batch_size: int
    gpus: tuple[str, ...]
    tissue: TissueMask | None
    tissue_sha256: str | None
    budget: int
    need: MemoryNeed
    disk_bytes: int
    seconds: float | None
    stains: StainVectors | None
    warnings: tuple[str, ...]

    @property
    def size(self) -> Size:
        """Size of the map."""
        return self.grid.map_size

    @property
    def patches(self) -> int:
        """Patches that are left to compute."""
        return len(self.grid.patches_for(self.wanted & ~self.finished))

    @property
    def patches_in_all(self) -> int:
        """Patches of the job's region, those of a resumed result too."""
        return len(self.grid.patches_for(self.wanted))

    @property
    def chunks(self) -> int:
        """Chunks that hold something."""
        return int((self.wanted & (self.grid.owed > 0)).sum())

    @property
    def memory_bytes(self) -> int:
        """Bytes that the run takes above the loaded program, at the most."""
        return min(self.need.total, max(self.budget, self.need.resident))

    @property
    def spills(self) -> bool:
        """Whether the run works from disk from its start."""
        return self.need.total > self.budget

    @property
    def map_downsample(self) -> YX:
        """Level-0 pixels per pixel of the map."""
        return YX(self.downsample.y * self.grid.scale, self.downsample.x * self.grid.scale)

    @property
    def map_mpp(self) -> YX | None:
        """µm per pixel of the map; None for a slide without scale."""
        if self.info.mpp is None:
            return None
        if self.resolution.unit == "mpp":  # as it was asked for, without a rounding error
            exact = self.resolution.value * self.grid.scale
            return YX(exact, exact)
        return YX(self.info.mpp.y * self.map_downsample.y, self.info.mpp.x * self.map_downsample.x)
