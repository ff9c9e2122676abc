"""`Recorder`: complete chunk rows to disk, in a thread that no Ctrl-C strikes, and then the end.

Knows in which order what is written. What is in a row, its caller knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue

import numpy as np

from napari_wsiseg.errors import StoreError, WsisegError
from napari_wsiseg.geometry import Region
from napari_wsiseg.grid import Mask
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import FailedPatch
from napari_wsiseg.store.arrays import open_arrays
from napari_wsiseg.store.chunks import ChunkWriter
from napari_wsiseg.store.failed import FailedList
from napari_wsiseg.store.homes import WritableHome
from napari_wsiseg.store.layout import MapLayout
from napari_wsiseg.store.pyramid import Pyramid
from napari_wsiseg.store.rows import RunRow
from napari_wsiseg.store.state import State, Status
from napari_wsiseg.threads import Background


class Recorder:
    """Compresses and writes chunk rows while its caller fills the next.

    Parameters
    ----------
    layout
        What the map consists of.
    home
        Where it lies, locked; given back at the end.
    workspace
        Takes the rows' buffers back.
    is_complete
        Whether all pixels of a row that was begun have come.

    Attributes
    ----------
    rows
        Those that were begun and are not recorded: their caller puts and fills them. What is
        complete of them at the end is recorded, whether it was handed over or not.
    failed
        The patches that are left uncovered.
    is_closed
        Whether it has been told to end the map.
    """

    def __init__(
        self,
        layout: MapLayout,
        home: WritableHome,
        workspace: Workspace,
        is_complete: Callable[[int], bool],
    ) -> None:
        self._grid = layout.grid
        self._home = home
        self._workspace = workspace
        self._is_complete = is_complete
        levels = open_arrays(home.store, layout, has_tissue=False).levels
        self._writes = ChunkWriter(levels, home.put)
        self._pyramid = Pyramid(levels, self._writes, workspace)
        self._state = home.state()
        self.failed = FailedList(self._state.failed_patches)
        self.rows: dict[int, RunRow] = {}
        self._orders: SimpleQueue[int | Status | None] = SimpleQueue()
        self._settled: SimpleQueue[None] = SimpleQueue()
        self._handed_over = self._rows_settled = 0
        self._recorded: SimpleQueue[Region] = SimpleQueue()
        self._error: BaseException | None = None
        self.is_closed = False
        self._thread = Background(self._work, partial(self._orders.put, None), "wsiseg-map-writer")

    def start(self) -> None:
        """Begin to work: apart from `__init__`, of which an interrupt would leave a thread."""
        self._thread.start()

    def begin(self, chunks: Mask, failed: Iterable[FailedPatch]) -> None:
        """Expect the rows of a run over these chunks, of which `failed` is known already."""
        self._drop_rows()
        self.failed = FailedList(failed)
        self._pyramid.begin(chunks, self._home.recorded())

    def hand_over(self, number: int) -> None:
        """Have a complete row recorded; waits while the one before it is.

        At the most one is written and one filled: another would take as much memory.
        """
        self._orders.put(number)
        self._handed_over += 1
        self.wait(1)

    def wait(self, most: int = 0) -> None:
        """Wait until so many rows that were handed over are left to be recorded, at the most."""
        while self._handed_over - self._rows_settled > most:
            self._settled.get()

    def recorded(self) -> list[Region]:
        """The map pixels of the rows that were recorded since the last call, each."""
        return [self._recorded.get_nowait() for _ in range(self._recorded.qsize())]

    def warn(self, sentence: str) -> None:
        """Keep a sentence for the user."""
        if sentence not in self._state.warnings:
            self._state = replace(self._state, warnings=(*self._state.warnings, sentence))

    def close(self, status: Status) -> None:
        """End the map, as `MapWriter.close` does; raises nothing that failed."""
        if not self.is_closed:
            self._orders.put(status)
            self.is_closed = True
        self._thread.end()

    def raise_error(self) -> None:
        """Raise what has failed.

        Raises
        ------
        StoreError
            If something has.
        """
        if self._error is None:
            return
        if isinstance(self._error, WsisegError):
            raise self._error
        raise StoreError(
            f"The map cannot be written: {type(self._error).__name__}: {self._error}; "
            "finished rows are kept, mend that and run again."
        ) from self._error

    def _work(self) -> None:
        """The thread: rows to disk, and then the end."""
        while isinstance(order := self._orders.get(), int):
            self._settle(order)
        if order is not None:
            self._end(order)

    def _settle(self, number: int) -> None:
        """Write a row; after an error, none."""
        row = self.rows.pop(number, None)
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
            for number in sorted(self.rows):
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
        covered = row.covered(self._grid)
        with self._home.writing():
            for region in covered:
                self._writes.write(0, region, *row.window.cut(region))
            if covered:
                self._pyramid.update(row.window, covered)
            self._writes.wait()
            chunks = np.array([(row.row, column) for column in row.columns], np.intp)
            self._home.record(chunks, self._stamped())
            self._home.make_room(self._workspace)
        self._recorded.put(row.window.region)

    def _stamped(self) -> State:
        """The state, with the patches that failed and whether anything went to disk."""
        return replace(
            self._state,
            failed_patches=self.failed.patches,
            spilled=self._state.spilled or self._workspace.spilled,
        )

    def _drop_rows(self) -> None:
        for row in self.rows.values():
            row.window.release(self._workspace)
        self.rows.clear()
