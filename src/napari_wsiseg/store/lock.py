"""One writer a result: the lock, and whether its owner lives.

A lock is a file in the folder `lock` that is named after its owner: process, time at
which that began, host. Creating it is atomic, and nobody ever has to take over or
rewrite another's: whoever comes second sees the first's file and withdraws. Of two who
come at the very same moment and see each other, one withdraws at once and the other waits
for that, by their names. Knows no map.

Whether an owner lives is told by its process, and, where files can be held, by its file: the
system holds that as long as the process lives, also one that is not to be seen from here, as in
another container of the same host name.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Self

from napari_wsiseg.errors import StoreError
from napari_wsiseg.store.files import ATTEMPTS, BETWEEN, naming
from napari_wsiseg.store.owner import Owner

if sys.platform != "win32":
    import fcntl

LOCKS = "lock"

# How often one who waits looks whether the other, who came at the same moment, has withdrawn.
_PATIENCE = 5


def owners(folder: Path) -> Iterator[Owner]:
    """Those who hold, or left, a lock on the result in `folder`."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in (folder / LOCKS).iterdir():
            if owner := Owner.named(path.name):
                yield owner


def may_write(folder: Path, owner: Owner) -> bool:
    """Whether the owner of a lock on the result in `folder` lives, as far as can be told."""
    return owner.lives or _is_locked(folder / LOCKS / owner.name)


def is_written(folder: Path) -> bool:
    """Whether a living process holds the lock."""
    return next(_writers(folder), None) is not None


def check_unwritten(folder: Path) -> None:
    """Make sure that nobody writes just now.

    Raises
    ------
    StoreError
        If a living process holds the lock; the sentence says which.
    """
    for owner in _writers(folder):
        raise _refusal(folder, owner)


def _writers(folder: Path) -> Iterator[Owner]:
    """Those who may still write. We do where we hold the lock.

    What we could not give back, because the drive was gone, is no lock when that is back.
    """
    for owner in owners(folder):
        if owner == Owner.this():
            is_held = _file_of(folder / LOCKS / owner.name) in _held
        else:
            is_held = may_write(folder, owner)
        if is_held:
            yield owner


_held: dict[tuple[int, int], FileIO | None] = {}
"""The files of our locks, and what keeps each locked."""

_taking = threading.Lock()
"""Held from making a lock's file until it is among those; giving one back waits for nobody."""


def _leave_to_parent() -> None:
    """A forked child is no writer, and must not keep its parent's locks when that dies."""
    for file in _held.values():
        if file is not None:
            file.close()
    _held.clear()
    _taking.release()


if sys.platform != "win32":
    os.register_at_fork(
        before=_taking.acquire,
        after_in_parent=_taking.release,
        after_in_child=_leave_to_parent,
    )


def _made(path: Path) -> FileIO | None:
    """Make a file that nobody else has, and lock it until that is closed, or we die.

    Raises
    ------
    OSError
        If the disk refuses.
    StoreError
        If another process keeps hold of it.
    """
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            made = FileIO(path, "x")  # never through a link
        except FileExistsError:
            if _file_of(path) in _held:
                raise _refusal(path.parent.parent, Owner.this()) from None
            path.unlink(missing_ok=True)  # one that we could not remove
            continue
        except FileNotFoundError:
            continue  # another writer has just left, and taken the folder with it
        try:
            # On exFAT macOS gives all files that are empty one number.
            made.write(b"\n")
            if sys.platform == "win32":
                made.close()
                return None  # a folder that holds an open file could not be renamed
            _keep_locked(made, path)
            # Until then it was to be taken for that of one who died.
            if _number_of(os.fstat(made.fileno())) == _file_of(path):
                return made
        except BaseException:
            made.close()
            raise
        made.close()


def _keep_locked(file: FileIO, path: Path) -> None:
    for _ in range(ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(BETWEEN)  # somebody looks at it
        except OSError:
            return  # network drives may know no locks: there the process has to do
        else:
            return
    raise StoreError(
        f"{path.parent.parent} cannot be locked for writing: another process keeps hold of "
        f"{path}; run again."
    )


def _is_locked(path: Path) -> bool:
    """Whether whoever made a lock's file still keeps it locked."""
    if sys.platform == "win32":
        return False
    try:
        # It may be anything that is called so: a pipe would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _file_of(path: Path) -> tuple[int, int] | None:
    """What stays the same of a file when its folder is renamed."""
    try:
        return _number_of(path.lstat())
    except OSError:
        return None


def _number_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


@dataclass(frozen=True, slots=True)
class WriterLock:
    """The right to write to one result, held by this process.

    Parameters
    ----------
    folder
        The result's folder.
    owner
        This process.
    file
        Device and number of the lock's file.
    """

    folder: Path
    owner: Owner
    file: tuple[int, int]

    @classmethod
    def acquire(cls, folder: Path) -> Self:
        """Take the lock; those of dead processes are swept away.

        Raises
        ------
        StoreError
            If a living process holds it, or the folder cannot be written to.
        """
        owner = Owner.this()
        path = folder / LOCKS / owner.name
        _check_no_link(path)
        # In another container a process may have our number, and have begun when we did.
        if _is_locked(path):
            raise _refusal(folder, owner)
        file = None
        try:
            with _taking, naming(path):
                made = _made(path)
                file = _file_of(path) if made is None else _number_of(os.fstat(made.fileno()))
                if file is not None:
                    _held[file] = made
            _sweep_others(folder, owner)
            return cls(folder, owner, _checked(path, file))
        except BaseException:
            _give_back(path, file)
            raise

    @property
    def is_held(self) -> bool:
        """Whether it was not given back yet; a forked child holds none."""
        return self.file in _held

    def moved(self, folder: Path) -> WriterLock:
        """The same lock after its result was renamed to `folder`."""
        return WriterLock(folder, self.owner, self.file)

    @property
    def is_there(self) -> bool:
        """Whether it is the lock of what has the folder's name now."""
        return _file_of(self.folder / LOCKS / self.owner.name) == self.file

    def let_go(self) -> None:
        """Keep it by our process alone, as on Windows."""
        if (made := _held.get(self.file)) is not None:
            _held[self.file] = None
            made.close()

    def release(self) -> None:
        """Give the lock back; a second call does nothing, nor does one in a forked child."""
        if self.is_held:
            _give_back(self.folder / LOCKS / self.owner.name, self.file)


def _check_no_link(path: Path) -> None:
    """Make sure that a lock's file is made where its name says."""
    for link, what in ((path.parent, "a folder is needed"), (path, "a lock of ours would be")):
        if link.is_symlink():
            raise StoreError(
                f"{link} is a link, where {what}; remove it if nobody writes "
                f"{path.parent.parent.name}."
            )


def _give_back(path: Path, file: tuple[int, int] | None) -> None:
    """Remove a lock of ours, and let go of it.

    What was not known yet goes too. Where a result was replaced, another lock of ours has that
    name by now, and stays.
    """
    found = _file_of(path)
    if found == file or found not in _held:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    if file is not None and (made := _held.pop(file, None)) is not None:
        made.close()
    # Last: NFS keeps a file that is open in its folder, under another name.
    with suppress(OSError):
        path.parent.rmdir()


def _checked(path: Path, file: tuple[int, int] | None) -> tuple[int, int]:
    """The file of our lock, if it is still there once we have looked for others.

    Who replaced the result meanwhile could be overlooked: their lock was in another folder.
    """
    if file is None or _file_of(path) != file:
        raise StoreError(f"{path.parent.parent} was just replaced by another process; run again.")
    return file


def _sweep_others(folder: Path, owner: Owner) -> None:
    """Remove the locks of dead processes; raises where one lives."""
    for other in set(owners(folder)) - {owner}:
        if _stays(folder, other, _PATIENCE if owner.name < other.name else 1):
            raise _refusal(folder, other)
        left = folder / LOCKS / other.name
        with naming(left):
            left.unlink(missing_ok=True)


def _stays(folder: Path, other: Owner, looks: int) -> bool:
    """Whether another who may write has not withdrawn after so many looks."""
    for look in range(looks):
        if look:
            time.sleep(BETWEEN)
        if not ((folder / LOCKS / other.name).exists() and may_write(folder, other)):
            return False
    return True


def _refusal(folder: Path, owner: Owner) -> StoreError:
    advice = (
        "wait for it or stop it"
        if owner.is_here
        else f"wait for it, or remove {folder / LOCKS / owner.name} if it no longer runs there"
    )
    return StoreError(
        f"{folder} is being written by process {owner.pid} on {owner.host}; {advice}."
    )
