"""`MapWriter`: bands in, a map out, in whole chunk rows that are each finished for good.

Knows when what is written. How pixels get coarser and how files last, others know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from napari_wsiseg.errors import StoreError
from napari_wsiseg.geometry import Region
from napari_wsiseg.grid import Mask
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band, FailedPatch
from napari_wsiseg.store.arrays import open_arrays
from napari_wsiseg.store.create import create_folder, create_memory, reopen_folder
from napari_wsiseg.store.homes import WritableHome
from napari_wsiseg.store.layout import MapLayout, TissueImage
from napari_wsiseg.store.map import ProbabilityMap
from napari_wsiseg.store.metadata import RunInfo
from napari_wsiseg.store.recorder import Recorder
from napari_wsiseg.store.repair import mend
from napari_wsiseg.store.rows import RunRow
from napari_wsiseg.store.state import Status


class MapWriter:
    """Writes one map, and is the only one who does. Made by `create` or `resume`.

    Its `Recorder` compresses and writes in a thread while the run computes; `advance` waits where
    that is a row behind. It also ends the writing: whatever interrupts the caller, a row whose
    pixels have all come is kept, and nothing is left half done. `add` and `advance` may be called
    from another thread than the rest, if `begin`, `flush` and `close` do not run meanwhile; `map`
    may be read from any.

    Parameters
    ----------
    map_
        The map, for readers.
    home
        Where it lies, locked.
    workspace
        Gives the buffers.

    Attributes
    ----------
    map
        The map, readable while it grows.
    """

    def __init__(self, map_: ProbabilityMap, home: WritableHome, workspace: Workspace) -> None:
        self.map = map_
        self._layout = map_.layout
        self._grid = map_.grid
        self._workspace = workspace
        self._recorder = Recorder(map_.layout, home, workspace, self._is_complete)
        self._chunks = np.zeros(self._grid.chunk_shape, bool)
        self._next = 0
        self._final = self._grid.canvas.height

    @classmethod
    def create(
        cls,
        target: Path | None,
        layout: MapLayout,
        info: RunInfo,
        workspace: Workspace,
        *,
        tissue: TissueImage | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Begin an empty map.

        Parameters
        ----------
        target
            The result's folder, which must not exist; None keeps the map in memory.
        layout, info
            What it consists of, and what it says of its run.
        workspace
            Gives the buffers.
        tissue
            Stored beside the map.
        overwrite
            Replace a result of ours at `target`; nothing else is ever replaced.

        Raises
        ------
        StoreError
            If something stands in the way, or the disk refuses; nothing is left then.
        """
        if target is None:
            memory = create_memory(layout, info, tissue)
            arrays = open_arrays(memory.store, layout, has_tissue=tissue is not None)
            return cls(ProbabilityMap(layout, info, arrays, memory), memory, workspace).started()
        folder = create_folder(target, layout, info, tissue, overwrite=overwrite)
        try:
            return cls(ProbabilityMap.open(target), folder, workspace).started()
        except BaseException:
            folder.leave()
            raise

    @classmethod
    def resume(cls, target: Path, identity: Mapping[str, Any], workspace: Workspace) -> Self:
        """Go on with a map that has the same identity.

        Whatever a killed run left half done is removed or mended first.

        Raises
        ------
        StoreError
            If the identity differs (the sentence says in what), if the map is being
            written, or is no result of ours.
        """
        folder = reopen_folder(target, identity)
        try:
            map_ = ProbabilityMap.open(target)
            mend(folder, map_)
            folder.set_state(replace(folder.state(), status="running"))
            return cls(map_, folder, workspace).started()
        except BaseException:
            folder.leave()
            raise

    @property
    def unfinished(self) -> Mask:
        """(chunk rows, chunk columns) bool: chunks that are owed patches and not recorded."""
        return ~self.map.finished

    def begin(self, chunks: Mask) -> None:
        """Expect the bands of a run over these chunks, all unfinished.

        Patches that failed before and will be computed again are no longer listed.

        Raises
        ------
        StoreError
            If one of the chunks is finished.
        """
        unfinished = self.unfinished
        if chunks.shape != unfinished.shape or (chunks & ~unfinished).any():
            raise StoreError("A run was begun over chunks that are finished; compute the others.")
        self.flush()
        settled = {tuple(p) for p in self._grid.patches_for(~unfinished).tolist()}
        self._recorder.begin(
            chunks, (p for p in self._recorder.failed.patches if (p.row, p.column) in settled)
        )
        self._chunks = chunks.copy()
        self._next = self._final = 0

    def add(self, band: Band) -> None:
        """Take merged pixels; what lies outside the run's chunks is dropped.

        No band begins above the one before it: what lies above its first row is final. Bands must
        not overlap; pixels that come in none are not covered.

        Raises
        ------
        StoreError
            If the band begins above a row that was final, or within a map pixel, or if
            writing has failed.
        """
        self._recorder.raise_error()
        scale, chunk = self._grid.scale, self._grid.chunk
        if band.top < self._final:
            raise StoreError(
                f"A band begins at row {band.top}; all rows above {self._final} were final."
            )
        if band.top % scale or band.left % scale:
            raise StoreError(
                f"A band begins at row {band.top}, column {band.left}, within a map pixel of "
                f"{scale} x {scale}; cut bands between map pixels."
            )
        self.advance(band.top)
        top, bottom = band.top // scale, -(-band.bottom // scale)
        for number in range(top // chunk, -(-bottom // chunk)):
            row = self._row_of(number)
            if row is not None:
                row.fill(band, self._grid)

    def advance(self, final: int) -> None:
        """Write the chunk rows whose bands have all come.

        Parameters
        ----------
        final
            No band that begins above this row of the canvas will come any more.

        Raises
        ------
        StoreError
            If writing has failed.
        """
        self._recorder.raise_error()
        self._final = final
        while self._next < len(self._chunks) and self._is_complete(self._next):
            if self._row_of(self._next) is not None:
                self._recorder.hand_over(self._next)
            self._next += 1

    def finished_rows(self) -> list[Region]:
        """What was recorded since the last call: map pixels of the run's part of a chunk row.

        Raises
        ------
        StoreError
            If there is nothing new, and writing has failed.
        """
        rows = self._recorder.recorded()
        if not rows:
            self._recorder.raise_error()
        return rows

    def flush(self) -> None:
        """Wait until every complete chunk row is recorded.

        Raises
        ------
        StoreError
            If writing has failed.
        """
        self._recorder.wait()
        self._recorder.raise_error()

    def fail(self, patches: Iterable[FailedPatch]) -> None:
        """List patches that are left uncovered.

        Raises
        ------
        StoreError
            If there are more than a result can list; those are not listed.
        """
        self._recorder.failed.add(patches)

    def warn(self, sentence: str) -> None:
        """Keep a sentence for the user."""
        self._recorder.warn(sentence)

    def close(self, status: Status = "complete") -> None:
        """End writing: rows whose pixels have all come are recorded, one in progress is lost.

        Where writing has failed the status is "failed". A second call changes nothing. An interrupt
        is raised when the writing has ended; at a second one it goes on without the caller.

        Raises
        ------
        StoreError
            If `status` is "complete" and writing has failed.
        """
        is_first = not self._recorder.is_closed
        self._recorder.close(status)
        if is_first and status == "complete":
            self._recorder.raise_error()

    def started(self) -> Self:
        """Itself, at work; apart, as an interrupt of `__init__` would leave a thread to nobody."""
        self._recorder.start()
        return self

    def _row_of(self, number: int) -> RunRow | None:
        """A chunk row to be filled; None where the run has no chunk in it."""
        rows, columns = self._recorder.rows, np.flatnonzero(self._chunks[number])
        if number not in rows and len(columns):
            rows[number] = RunRow.begun(
                number, tuple(columns.tolist()), self._layout, self._workspace
            )
        return rows.get(number)

    def _is_complete(self, number: int) -> bool:
        """Whether no band that meets a chunk row will come any more."""
        grid = self._grid
        bottom = min((number + 1) * grid.chunk, grid.map_size.height)
        return self._final >= grid.canvas.height or bottom <= self._final // grid.scale
