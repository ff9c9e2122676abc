"""Folders of keys whose files are whole or not there, also after a power cut.

Knows no map, only paths, keys and bytes.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from napari_wsiseg.errors import StoreError
from napari_wsiseg.faults import Point, passing

if sys.platform != "win32":
    import fcntl

    # macOS's fsync ends at the drive's own cache; this goes on, but not on every file system.
    _THROUGH: int | None = getattr(fcntl, "F_FULLFSYNC", None)
else:
    _THROUGH = None

PARTIAL = ".partial"
"""How the names of files and folders end that are not finished."""

ATTEMPTS, BETWEEN = 20, 0.05
"""How often, and after how many seconds again, what another process holds is tried."""

_SYNCS = 16
_READERS_HOLD = os.name == "nt"
"""Whether a file keeps its name as long as somebody reads it, as on Windows."""

LOOKS_AFTER_FAILURE = 3
"""How often `remove_partial` looks in vain where one of Zarr's writes has failed."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the disk complains of into one sentence that names the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}; mend that and run again, "
            "what was finished is kept."
        ) from error


def check_no_links(folder: Path) -> None:
    """Make sure that no folder below this one is a link: what is written there stays there.

    Raises
    ------
    StoreError
        If one is.
    """
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink():
                raise StoreError(
                    f"{path} is a link to another folder, which is not written to; put the folder "
                    "itself in its place."
                )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last; Windows does so by itself."""
    if os.name != "nt":
        sync_file(folder)


def sync_file(path: Path, *, through: bool = True) -> None:
    """Make a file's bytes last (and, but on Windows, a folder's names).

    Parameters
    ----------
    path
        The file or folder.
    through
        Whether a drive is told to empty its own cache too, where fsync does not say so: for many
        files once is enough, and takes as long as for each.
    """
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        sync_open(descriptor, through=through)
    finally:
        os.close(descriptor)


def sync_open(descriptor: int, *, through: bool = True) -> None:
    """`sync_file` for one that is open."""
    if through and sys.platform != "win32" and _THROUGH is not None:
        with suppress(OSError):
            fcntl.fcntl(descriptor, _THROUGH)
            return
    os.fsync(descriptor)


def _sync_named(path: Path, name: Path) -> None:
    with naming(name):
        sync_file(path, through=False)


def sync_tree(folder: Path) -> None:
    """Make a folder and all that is in it last."""
    walked = [(Path(parent), files) for parent, _, files in os.walk(folder)]
    with ThreadPoolExecutor(_SYNCS, "wsiseg-sync") as pool:
        sync = partial(sync_file, through=False)
        list(pool.map(sync, [parent / name for parent, files in walked for name in files]))
        if os.name != "nt":
            list(pool.map(sync, [parent for parent, _ in walked]))
    if _THROUGH is not None:
        sync_folder(folder)


def partial_name(path: Path) -> Path:
    """A temporary name beside `path` that nobody else takes."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")


def remove_partial(partial: Path, looks: int = 1) -> None:
    """Remove what a writer left, and what it kept beside that under longer names.

    Where one of Zarr's writes fails, others may still be on their way in its threads, and
    make a folder anew that was just removed: so it is looked for until so many looks in a
    row find nothing.
    """
    quiet = 0
    for _ in range(ATTEMPTS):
        left = list(partial.parent.glob(f"{glob.escape(partial.name)}*"))
        quiet = 0 if left else quiet + 1
        if quiet == looks:
            return
        for path in left:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        time.sleep(BETWEEN)


def once_read(act: Callable[[], object]) -> None:
    """Rename over a file, or remove it, when no viewer reads it any more."""
    for _ in range(ATTEMPTS if _READERS_HOLD else 0):
        try:
            act()
        except PermissionError:
            time.sleep(BETWEEN)
        else:
            return
    act()


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file's content at once: old or new, never between.

    Raises
    ------
    StoreError
        If the disk refuses; the old content then stands.
    """
    temporary = partial_name(path)
    with naming(path):
        try:
            passing("state")
            temporary.write_bytes(data)
            sync_file(temporary)
            passing("state")
            once_read(partial(temporary.replace, path))
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


class DurableFolder:
    """A folder in which what was put shows at the next `commit`, and then lasts.

    Zarr's own store renames without fsync: after a power cut a file may be there and
    empty. Here all files of a commit are synced, then renamed, then their folders are
    synced. `put` is safe to call from many threads.

    Parameters
    ----------
    root
        The folder; it must exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staged: list[tuple[int, Path, Path, Point]] = []
        self._folders: set[Path] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_SYNCS, "wsiseg-sync")

    def put(self, key: str, data: bytes | None, rank: int) -> None:
        """Write a file under a temporary name, or remove one at once (None).

        Files of a lower `rank` get their names first.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        path = self._root / key
        with naming(path):
            if data is None:
                self._remove(path)
                return
            self._make_folder(path.parent)
            temporary = partial_name(path)
            with self._lock:
                self._staged.append((rank, temporary, path, _point(key)))
            passing(_point(key))
            temporary.write_bytes(data)

    def commit(self) -> None:
        """Show and keep what was put since the last commit.

        Raises
        ------
        StoreError
            If the disk refuses; files not renamed by then are dropped.
        """
        with self._lock:
            staged, self._staged = sorted(self._staged), []
            folders, self._folders = self._folders, set()
        try:
            # Together: a disk settles many syncs in about the time of one.
            self._sync_all((temporary, path) for _, temporary, path, _ in staged)
            for _, temporary, path, point in staged:
                with naming(path):
                    passing(point)
                    once_read(partial(temporary.replace, path))
                folders.add(path.parent)
            if os.name != "nt":
                self._sync_all((folder, folder) for folder in folders)
        except BaseException:
            _drop(staged)
            raise

    def close(self) -> None:
        """Drop what was put since the last commit, and end the threads."""
        with self._lock:
            staged, self._staged = self._staged, []
        _drop(staged)
        self._pool.shutdown()

    def _sync_all(self, paths: Iterable[tuple[Path, Path]]) -> None:
        """Sync each first path; errors name the second."""
        syncs = [self._pool.submit(_sync_named, path, name) for path, name in paths]
        wait(syncs)
        for sync in syncs:
            sync.result()
        if syncs and _THROUGH is not None:
            with naming(self._root):
                sync_folder(self._root)

    def _remove(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            once_read(path.unlink)
            with self._lock:
                self._folders.add(path.parent)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder; the ones that gained a name are synced by `commit`.

        Never the root: where a drive was unmounted, that would be one on another disk.
        """
        if not folder.is_dir():
            if folder == self._root:
                raise FileNotFoundError(errno.ENOENT, "the result is not there any more")
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            with self._lock:
                self._folders.add(folder.parent)


def _point(key: str) -> Point:
    """Which write point a key of a pyramid is."""
    if key.startswith("0/"):
        return "pixels"
    return "coverage" if key.startswith("coverage/0/") else "levels"


def _drop(staged: list[tuple[int, Path, Path, Point]]) -> None:
    for _, temporary, _, _ in staged:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
