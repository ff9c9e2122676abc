"""`ProbabilityMap`: a run's result as arrays, while it grows and for good.

Reads only. Knows neither how the map is written nor what its pixels mean.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import StoreError, WsisegError, reason
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.grid import Mask, PatchGrid
from napari_wsiseg.messages import FailedPatch
from napari_wsiseg.slides.base import MppSource
from napari_wsiseg.slides.zarr_files import PlainFiles
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store.arrays import MapArrays, ZarrArray, open_arrays, open_mask
from napari_wsiseg.store.drafts import draft_of
from napari_wsiseg.store.homes import Folder, Home, Memory
from napari_wsiseg.store.journal import JournalWriter
from napari_wsiseg.store.layout import Json, MapLayout
from napari_wsiseg.store.metadata import RunInfo, read_metadata
from napari_wsiseg.store.patches import PatchTable, patch_table
from napari_wsiseg.store.state import ANEW, Status, write_state

if TYPE_CHECKING:
    from types import TracebackType

    import dask.array as da


@dataclass(frozen=True, slots=True)
class MapBlock:
    """What a map holds in a region of one level.

    Parameters
    ----------
    values
        (classes, height, width) as stored.
    coverage
        (height, width) bool: where the model has spoken.
    tissue
        (height, width) bool: the tissue mask; None where none was used.
    """

    values: NDArray[Any]
    coverage: NDArray[np.bool_]
    tissue: NDArray[np.bool_] | None

    @property
    def analysed(self) -> NDArray[np.bool_]:
        """(height, width) bool: covered, and tissue."""
        return self.coverage if self.tissue is None else self.coverage & self.tissue


class ProbabilityMap:
    """Class probabilities of a slide, as a pyramid, with where the model has spoken.

    Opened by `open`, or handed out by a run from its first moment on. A context
    manager: a map in memory, and its temporary folder, are gone when it closes.

    Parameters
    ----------
    layout, info
        What it consists of, and what it says of its run.
    arrays
        Its arrays.
    home
        Where it lies.
    """

    def __init__(self, layout: MapLayout, info: RunInfo, arrays: MapArrays, home: Home) -> None:
        self.layout = layout
        self.info = info
        self._arrays = arrays
        self._home = home
        self._nothing_owed: Mask = layout.grid.owed == 0

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a result, also one that another process is writing.

        Raises
        ------
        StoreError
            If there is none, it is another program's, of a newer format or damaged.
        """
        folder = Path(path)
        metadata = read_metadata(folder)
        store = PlainFiles(folder)
        try:
            layout = metadata.layout(open_mask(store))
        except StoreError:
            raise
        except WsisegError as error:
            raise StoreError(f"{folder} is damaged ({reason(error)}); {ANEW}.") from error
        home = Folder(folder, layout.grid.chunk_shape)
        if any(not _is_in(patch, layout.grid.shape) for patch in home.state().failed_patches):
            raise StoreError(f"{folder} is damaged: it names patches outside its grid; {ANEW}.")
        arrays = open_arrays(home.store, layout, has_tissue=metadata.has_tissue)
        return cls(layout, metadata.info, arrays, home)

    @cached_property
    def levels(self) -> list[da.Array]:
        """Arrays (classes, height, width) as stored, large to small, a block a chunk."""
        return [self._lazy(level.values) for level in self._arrays.levels]

    def probabilities(self, level: int = 0) -> da.Array:
        """(classes, height, width) float32 in 0..1, 0 where not covered."""
        stored: Any = self.levels[level]  # dask's methods have no types
        values: da.Array = stored.astype(np.float32)
        return values / np.float32(255) if stored.dtype == np.uint8 else values

    @cached_property
    def coverage(self) -> list[da.Array]:
        """For each level (height, width) bool: where the model has spoken."""
        return [self._lazy(level.coverage) for level in self._arrays.levels]

    @cached_property
    def tissue(self) -> list[da.Array] | None:
        """For each level (height, width) bool: the tissue mask; None where none was used."""
        if self._arrays.tissue is None:
            return None
        labels: list[Any] = [self._lazy(level) for level in self._arrays.tissue]
        return [level.astype(bool) for level in labels]

    def read(self, region: Region, level: int = 0) -> MapBlock:
        """What the map holds in a region: at once, and quicker than through dask.

        Parameters
        ----------
        region
            In pixels of the level, inside it.
        level
            Of the pyramid.

        Raises
        ------
        StoreError
            If the map cannot be read there.
        """
        stored = self._arrays.levels[level].values
        coverage = self.read_coverage(region, level)
        if coverage.any():
            values = self._part(stored, region)
        else:
            values = np.zeros((stored.shape[0], *coverage.shape), stored.dtype)
        return MapBlock(values, coverage, self.read_tissue(region, level))

    def read_coverage(self, region: Region, level: int = 0) -> NDArray[np.bool_]:
        """(height, width) bool: where the model has spoken; parameters and errors as `read`."""
        return self._part(self._arrays.levels[level].coverage, region)

    def read_tissue(self, region: Region, level: int = 0) -> NDArray[np.bool_] | None:
        """(height, width) bool: the tissue, None where no mask was used; as `read`."""
        if self._arrays.tissue is None:
            return None
        return self._part(self._arrays.tissue[level], region).astype(bool)

    def _part(self, array: ZarrArray, region: Region) -> NDArray[Any]:
        try:
            return np.asarray(array[(..., *region.slices)])
        # Zarr and its codecs fail in ways that nobody lists.
        except Exception as error:
            raise StoreError(
                f"The map cannot be read in the rows {region.top} to {region.bottom}, columns "
                f"{region.left} to {region.right} of its array {array.path} "
                f"({reason(error)}): the result is damaged; {ANEW}."
            ) from error

    @property
    def finished(self) -> Mask:
        """(chunk rows, chunk columns) bool: the level-0 chunks that no run will change."""
        return self._nothing_owed | self._home.recorded()

    @property
    def patches(self) -> PatchTable:
        """The patches of the grid: boxes and states."""
        return patch_table(self.layout.grid, self.failed_patches)

    @property
    def status(self) -> Status:
        """How the run stands; one whose process died without a word reads as cancelled."""
        status = self._home.state().status
        return "cancelled" if status == "running" and not self._home.is_written else status

    @property
    def provenance(self) -> Json:
        """What made the map: versions, slide, weights, device, times; `spilled` and `ended`."""
        state = self._home.state()
        return {**self.info.provenance, "spilled": state.spilled, "ended": state.ended}

    @property
    def job(self) -> Json:
        """What was asked for."""
        return dict(self.info.job)

    @property
    def failed_patches(self) -> tuple[FailedPatch, ...]:
        """Patches left uncovered, and why."""
        return self._home.state().failed_patches

    def place_of(self, patch: FailedPatch) -> Region:
        """What a patch answers for, in level-0 pixels of the slide, rounded out to whole ones."""
        box = self.grid.output_region(patch.row, patch.column)
        y, x = self.downsample.y / self.grid.scale, self.downsample.x / self.grid.scale
        return Region.from_bounds(
            floor(box.top * y), floor(box.left * x), ceil(box.bottom * y), ceil(box.right * x)
        ).clipped(self.slide_size)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of this result."""
        return self._home.state().warnings

    @property
    def grid(self) -> PatchGrid:
        """Where patches and chunks lie."""
        return self.layout.grid

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return self.layout.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the arrays' first axis."""
        return self.layout.spec.classes

    @property
    def mpp(self) -> YX | None:
        """µm per map pixel, or None where the slide has no scale."""
        return self.layout.mpp

    @property
    def mpp_source(self) -> MppSource | None:
        """Where the scale came from."""
        return self.layout.mpp_source

    @property
    def downsample(self) -> YX:
        """Level-0 slide pixels per map pixel."""
        return self.layout.downsample

    @property
    def slide_size(self) -> Size:
        """Level-0 size of the slide."""
        return self.layout.slide_size

    @property
    def slide_bounds(self) -> Region | None:
        """The part of the slide's level 0 that was scanned; None: all of it, or not known."""
        return self.layout.slide_bounds

    @property
    def size(self) -> Size:
        """Size of the map's level 0."""
        return self.layout.grid.map_size

    @property
    def path(self) -> Path | None:
        """The result's folder; None for a map in memory or in a temporary folder."""
        return self._home.path if isinstance(self._home, Folder) else None

    def save(self, path: Path | str) -> None:
        """Write the map as an ordinary result; it appears whole or not at all.

        Raises
        ------
        StoreError
            If something is at `path`, if the map is on disk and being written, or if
            the disk refuses.
        """
        target = Path(path)
        with self._home.copying(), draft_of(target, overwrite=False) as draft:
            self._home.copy_to(draft.folder)
            status = "cancelled" if self.status == "running" else self.status
            write_state(draft.folder, replace(self._home.state(), status=status))
            JournalWriter(draft.folder).append(np.argwhere(self._home.recorded()))
        draft.lock.moved(target).release()

    def move_to_temporary(self) -> None:
        """Move a map in memory to a temporary folder; arrays handed out stay valid.

        The folder goes when the map closes, or when nothing holds its arrays any more.
        A map that is on disk stays where it is.

        Raises
        ------
        StoreError
            If the disk refuses; the map then stays in memory.
        """
        if isinstance(self._home, Memory):
            self._home.store.move()

    def close(self) -> None:
        """Let go of the map; one in memory is gone. A second call does nothing."""
        if isinstance(self._home, Memory):
            self._home.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else str(self.path)
        finished = self.finished
        scale = "scale unknown" if self.mpp is None else f"{self.mpp.y:.4g} µm/px"
        return (
            f"<ProbabilityMap {where}: {self.spec.name}, {len(self.classes)} classes, "
            f"{self.size}, {scale}, {self.status}, "
            f"{finished.sum()} of {finished.size} chunks finished>"
        )

    def _lazy(self, array: ZarrArray) -> da.Array:
        # Late: it takes a third of a second to load, and who reads by region never needs it.
        import dask.array as da

        chunk = self.layout.grid.chunk
        lazy: da.Array = da.from_array(
            array,
            chunks=(*array.shape[:-2], chunk, chunk),
            # Two maps may share a path one after the other: never the same name.
            name=f"{array.name}-{uuid.uuid4().hex}",
            asarray=False,
            meta=np.empty((0,) * array.ndim, array.dtype),
        )
        return lazy


def _is_in(patch: FailedPatch, shape: tuple[int, int]) -> bool:
    return 0 <= patch.row < shape[0] and 0 <= patch.column < shape[1]
