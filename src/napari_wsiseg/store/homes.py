"""Where a map lies: in a folder, being read or written, or in memory.

A home keeps arrays, the record of finished chunks and the state together, and knows
when each is on disk. Knows neither pixels nor the order of a run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_wsiseg.documents import UnreadableError, open_plain
from napari_wsiseg.errors import StoreError
from napari_wsiseg.grid import Indices, Mask
from napari_wsiseg.memory import Workspace
from napari_wsiseg.slides.zarr_files import PlainFiles
from napari_wsiseg.store.files import PARTIAL, DurableFolder, naming
from napari_wsiseg.store.journal import JOURNAL, JournalReader, JournalWriter
from napari_wsiseg.store.lock import LOCKS, WriterLock, check_unwritten, is_written
from napari_wsiseg.store.movable import MovableStore
from napari_wsiseg.store.state import ANEW, STATE, State, read_state, write_state

if TYPE_CHECKING:
    from zarr.abc.store import Store


class Home(Protocol):
    """What a map needs to know of where it lies."""

    @property
    def store(self) -> Store:
        """The keys of its arrays."""

    @property
    def is_written(self) -> bool:
        """Whether somebody who lives may still write."""

    def recorded(self) -> Mask:
        """(chunk rows, chunk columns) bool: chunks recorded as finished."""

    def state(self) -> State:
        """How the run stands."""

    def copying(self) -> AbstractContextManager[object]:
        """Held while it is copied, so that nobody writes or moves it meanwhile."""

    def copy_to(self, folder: Path) -> None:
        """Copy groups and arrays into an existing folder."""


class WritableHome(Home, Protocol):
    """What a writer needs besides."""

    def writing(self) -> AbstractContextManager[object]:
        """Held while arrays are written, so that they do not move meanwhile."""

    def put(self, key: str, data: bytes | None, rank: int) -> None:
        """Set or remove (None) a chunk; what has a lower rank shows first."""

    def record(self, chunks: Indices, state: State) -> None:
        """Keep what was put, then the state, then these chunks as finished."""

    def set_state(self, state: State) -> None:
        """Replace the state."""

    def make_room(self, workspace: Workspace) -> None:
        """Move out of memory where that is short."""

    def leave(self) -> None:
        """Drop what was not recorded, and let others write; a second call does nothing."""


class Folder:
    """A result on disk, also while another process writes it.

    Parameters
    ----------
    path
        The result's folder.
    shape
        Rows and columns of chunks.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path = path
        self.store: Store = PlainFiles(path)
        self._journal = JournalReader(path, shape)

    @property
    def is_written(self) -> bool:
        """Whether a living process holds the lock."""
        return is_written(self.path)

    def recorded(self) -> Mask:
        """(chunk rows, chunk columns) bool: chunks in the journal."""
        try:
            return self._journal.recorded()
        except OSError as error:
            raise StoreError(
                f"The journal of {self.path} cannot be read: {error.strerror}; check the drive."
            ) from error
        except UnreadableError as error:
            raise StoreError(f"The journal of {self.path} is damaged ({error}): {ANEW}.") from error

    def state(self) -> State:
        """How the run stands."""
        return read_state(self.path)

    @contextmanager
    def copying(self) -> Iterator[None]:
        """Held while it is copied: a run that went on with it meanwhile would mix in.

        Raises
        ------
        StoreError
            If it is being written.
        """
        lock = None
        try:
            lock = WriterLock.acquire(self.path)
        except StoreError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            # A drive that is full, or only read: whoever is to write there is no nearer to it.
            check_unwritten(self.path)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def copy_to(self, folder: Path) -> None:
        """Copy groups and arrays into an existing folder."""
        ignored = shutil.ignore_patterns(f"*{PARTIAL}", JOURNAL, LOCKS, STATE)
        shutil.copytree(
            self.path, folder, ignore=ignored, copy_function=_copy_plain, dirs_exist_ok=True
        )


def _copy_plain(source: str, target: str) -> None:
    """Copy a file that has an end.

    Raises
    ------
    OSError
        If it cannot be read or written.
    StoreError
        If it has none.
    """
    try:
        with open_plain(Path(source)):
            shutil.copy2(source, target)
    except UnreadableError as error:
        raise StoreError(f"{source} is damaged ({error}); {ANEW}.") from error


class WritableFolder(Folder):
    """A result on disk that this process writes.

    Parameters
    ----------
    path
        The result's folder.
    shape
        Rows and columns of chunks.
    lock
        Held on that folder.
    """

    def __init__(self, path: Path, shape: tuple[int, int], lock: WriterLock) -> None:
        super().__init__(path, shape)
        self._files = DurableFolder(path)
        self._appender = JournalWriter(path)
        self._lock = lock
        self._state = self.state()

    def writing(self) -> AbstractContextManager[object]:
        """Nothing: a folder stays where it is."""
        return nullcontext()

    def put(self, key: str, data: bytes | None, rank: int) -> None:
        """Write a chunk under a temporary name, until the next `commit` or `record`."""
        self._files.put(key, data, rank)

    def record(self, chunks: Indices, state: State) -> None:
        """Arrays to disk, then the state, then the journal; each is synced before the next."""
        self._files.commit()
        if state != self._state:
            self.set_state(state)
        self._appender.append(chunks)

    def set_state(self, state: State) -> None:
        """Replace `state.json` at once."""
        write_state(self.path, state)
        self._state = state

    def commit(self) -> None:
        """Keep what was put."""
        self._files.commit()

    def make_room(self, workspace: Workspace) -> None:
        """Nothing to move: the result is on disk."""

    def leave(self) -> None:
        """Drop what was not committed and release the lock."""
        self._files.close()
        self._lock.release()

    def sweep(self, recorded: Mask) -> None:
        """Remove what killed writers left: partial files, and chunks that no record names.

        Label images that an export was writing are partial folders.

        Parameters
        ----------
        recorded
            (chunk rows, chunk columns) bool: the level-0 chunks that stay.
        """
        with naming(self.path):
            for path in list(self.path.rglob(f"*{PARTIAL}")):
                if path.is_dir():
                    # An export that still lives may write there: it fails, the run does not.
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        self.sweep_level(0, recorded)

    def sweep_level(self, level: int, stay: Mask) -> None:
        """Remove the chunk files of a level that are not in `stay`."""
        names = {f"{row}/{column}" for row, column in np.argwhere(stay).tolist()}
        for folder in (self.path / f"{level}/c/0", self.path / f"coverage/{level}/c"):
            with naming(folder):
                for path in folder.glob("*/*"):
                    if path.relative_to(folder).as_posix() not in names:
                        path.unlink()


class Memory:
    """A result that lies in memory, or, once that is short, in a temporary folder.

    Parameters
    ----------
    shape
        Rows and columns of chunks.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.store = MovableStore()
        self._recorded = np.zeros(shape, bool)
        self._state = State("running")
        self._open = True
        self._counted = 0

    @property
    def is_written(self) -> bool:
        """Whether its writer has not left."""
        return self._open

    def recorded(self) -> Mask:
        """(chunk rows, chunk columns) bool: chunks that were recorded."""
        return self._recorded.copy()

    def state(self) -> State:
        """How the run stands."""
        moved = self.store.folder is not None
        return replace(self._state, spilled=True) if moved else self._state

    def writing(self) -> AbstractContextManager[object]:
        """The store's own lock."""
        return self.store.lock

    def copying(self) -> AbstractContextManager[object]:
        """The store's own lock."""
        return self.store.lock

    def copy_to(self, folder: Path) -> None:
        """Write groups and arrays into an existing folder."""
        self.store.copy_to(folder)

    def put(self, key: str, data: bytes | None, rank: int) -> None:
        """Set a chunk, or remove it."""
        self.store.put(key, data, rank)

    def record(self, chunks: Indices, state: State) -> None:
        """Note state and chunks; there is no disk to wait for."""
        self._state = state
        self._recorded[chunks[:, 0], chunks[:, 1]] = True

    def set_state(self, state: State) -> None:
        """Replace the state."""
        self._state = state

    def make_room(self, workspace: Workspace) -> None:
        """Count our bytes in the workspace, and move to disk when it has no more room."""
        held = self.store.nbytes
        workspace.reserve += held - self._counted
        self._counted = held
        if held and not workspace.room(0):
            self.store.move()
            workspace.reserve -= held
            self._counted = 0

    def leave(self) -> None:
        """Nobody writes from now on."""
        self._open = False
