"""`MapWriter`: bands in, a map out, in whole chunk rows that are each finished for good.

Knows when what is written. How pixels get coarser and how files last, others know.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from napari_wsiseg.errors import StoreError, WsisegError
from napari_wsiseg.geometry import Region
from napari_wsiseg.grid import Mask
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band, FailedPatch
from napari_wsiseg.store.arrays import open_arrays
from napari_wsiseg.store.chunks import ChunkWriter
from napari_wsiseg.store.create import create_folder, create_memory, reopen_folder
from napari_wsiseg.store.failed import FailedList
from napari_wsiseg.store.homes import WritableHome
from napari_wsiseg.store.layout import MapLayout, TissueImage
from napari_wsiseg.store.map import ProbabilityMap
from napari_wsiseg.store.metadata import RunInfo
from napari_wsiseg.store.pyramid import Pyramid, Window
from napari_wsiseg.store.repair import mend
from napari_wsiseg.store.rows import RunRow
from napari_wsiseg.store.state import State, Status
from napari_wsiseg.threads import Background


class MapWriter:
    """Writes one map, and is the only one who does. Made by `create` or `resume`.

    A background thread compresses and writes while the run computes; `advance` waits where
    it is a row behind. It also ends the writing: whatever interrupts the caller, a row whose
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
        self._home = home
        self._workspace = workspace
        self._grid = map_.grid
        levels = open_arrays(home.store, self._layout, has_tissue=False).levels
        self._writes = ChunkWriter(levels, home.put)
        self._pyramid = Pyramid(levels, self._writes, workspace)
        self._state = home.state()
        self._failed = FailedList(self._state.failed_patches)
        self._chunks = np.zeros(self._grid.chunk_shape, bool)
        self._rows: dict[int, RunRow] = {}
        self._next = 0
        self._final = self._grid.canvas.height
        self._orders: queue.SimpleQueue[int | Status | None] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._handed_over = self._rows_settled = 0
        self._written: queue.SimpleQueue[Region] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._closed = False
        self._thread = Background(self._work, partial(self._orders.put, None), "wsiseg-map-writer")

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
        self._drop_rows()
        settled = {tuple(p) for p in self._grid.patches_for(~unfinished).tolist()}
        self._failed = FailedList(p for p in self._failed.patches if (p.row, p.column) in settled)
        self._chunks = chunks.copy()
        self._pyramid.begin(self._chunks, self._home.recorded())
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
        self._raise_error()
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
        self._raise_error()
        self._final = final
        while self._next < len(self._chunks) and self._is_complete(self._next):
            if self._row_of(self._next) is not None:
                self._hand_over(self._next)
            self._next += 1

    def finished_rows(self) -> list[Region]:
        """What was recorded since the last call: map pixels of the run's part of a chunk row.

        Raises
        ------
        StoreError
            If there is nothing new, and writing has failed.
        """
        rows = [self._written.get_nowait() for _ in range(self._written.qsize())]
        if not rows:
            self._raise_error()
        return rows

    def flush(self) -> None:
        """Wait until every complete chunk row is recorded.

        Raises
        ------
        StoreError
            If writing has failed.
        """
        self._wait_for_rows(0)
        self._raise_error()

    def fail(self, patches: Iterable[FailedPatch]) -> None:
        """List patches that are left uncovered.

        Raises
        ------
        StoreError
            If there are more than a result can list; those are not listed.
        """
        self._failed.add(patches)

    def warn(self, sentence: str) -> None:
        """Keep a sentence for the user."""
        if sentence not in self._state.warnings:
            self._state = replace(self._state, warnings=(*self._state.warnings, sentence))

    def close(self, status: Status = "complete") -> None:
        """End writing: rows whose pixels have all come are recorded, one in progress is lost.

        Where writing has failed the status is "failed". A second call changes nothing. An interrupt
        is raised when the writing has ended; at a second one it goes on without the caller.

        Raises
        ------
        StoreError
            If `status` is "complete" and writing has failed.
        """
        if not self._closed:
            self._orders.put(status)
            self._closed = True
        self._thread.end()
        if status == "complete":
            self._raise_error()

    def started(self) -> Self:
        """Itself, at work; apart, as an interrupt of `__init__` would leave a thread to nobody."""
        self._thread.start()
        return self

    def _row_of(self, number: int) -> RunRow | None:
        """A chunk row to be filled; None where the run has no chunk in it."""
        if number in self._rows:
            return self._rows[number]
        columns = np.flatnonzero(self._chunks[number])
        if len(columns) == 0:
            return None
        region = self._region(number, int(columns[0]), int(columns[-1]) + 1)
        layout = self._layout
        window = Window.take(self._workspace, region, layout.classes, layout.dtype)
        self._rows[number] = RunRow(number, tuple(columns.tolist()), window)
        return self._rows[number]

    def _is_complete(self, number: int) -> bool:
        """Whether no band that meets a chunk row will come any more."""
        grid = self._grid
        bottom = min((number + 1) * grid.chunk, grid.map_size.height)
        return self._final >= grid.canvas.height or bottom <= self._final // grid.scale

    def _hand_over(self, number: int) -> None:
        self._orders.put(number)
        self._handed_over += 1
        # At the most one is written and one filled: another would take as much memory.
        self._wait_for_rows(1)

    def _wait_for_rows(self, most: int) -> None:
        """Wait until so many rows that were handed over are left to be written, at the most."""
        while self._handed_over - self._rows_settled > most:
            self._settled.get()

    def _work(self) -> None:
        """The background thread, which no Ctrl-C strikes: rows to disk, and then the end."""
        while isinstance(order := self._orders.get(), int):
            self._settle(order)
        if order is not None:
            self._end(order)

    def _settle(self, number: int) -> None:
        """Write a row; after an error, none."""
        row = self._rows.pop(number, None)
        try:
            if row is not None and self._error is None:
                self._write(row)
        except BaseException as error:  # noqa: BLE001 - raised again by the run's thread
            self._error = error
        finally:
            if row is not None:
                row.window.release(self._workspace)
            self._rows_settled += 1
            self._settled.put(None)

    def _end(self, status: Status) -> None:
        try:
            # An interrupt may have come before a complete row was handed over.
            for number in sorted(self._rows):
                if self._is_complete(number):
                    self._settle(number)
            self._drop_rows()
            self._writes.close()
            self._pyramid.release()
            self._state = replace(
                self._state,
                status=status if self._error is None else "failed",
                ended=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            self._home.set_state(self._stamped())
        except BaseException as error:  # noqa: BLE001 - raised again by the run's thread
            # The state then still says "running", which without a lock reads as cancelled.
            self._error = self._error or error
        finally:
            self._home.leave()

    def _write(self, row: RunRow) -> None:
        covered = [self._region(row.row, column, column + 1) for column in row.columns]
        covered = [region for region in covered if row.window.cut(region)[1].any()]
        with self._home.writing():
            for region in covered:
                self._writes.write(0, region, *row.window.cut(region))
            if covered:
                self._pyramid.update(row.window, covered)
            self._writes.wait()
            chunks = np.array([(row.row, column) for column in row.columns], np.intp)
            self._home.record(chunks, self._stamped())
            self._home.make_room(self._workspace)
        self._written.put(row.window.region)

    def _region(self, row: int, first: int, end: int) -> Region:
        """Map pixels of the chunks [first, end) of a chunk row."""
        chunk = self._grid.chunk
        region = Region.from_bounds(row * chunk, first * chunk, (row + 1) * chunk, end * chunk)
        return region.clipped(self._grid.map_size)

    def _stamped(self) -> State:
        """The state, with the patches that failed and whether anything went to disk."""
        return replace(
            self._state,
            failed_patches=self._failed.patches,
            spilled=self._state.spilled or self._workspace.spilled,
        )

    def _drop_rows(self) -> None:
        for row in self._rows.values():
            row.window.release(self._workspace)
        self._rows.clear()

    def _raise_error(self) -> None:
        if self._error is None:
            return
        if isinstance(self._error, WsisegError):
            raise self._error
        raise StoreError(
            f"The map cannot be written: {type(self._error).__name__}: {self._error}; "
            "finished rows are kept, mend that and run again."
        ) from self._error
