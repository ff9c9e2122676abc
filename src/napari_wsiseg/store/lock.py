"""One writer a result: the lock, and whether its owner lives.

A lock is a file in the folder `lock` that is named after its owner: process, time at
which that began, host. Creating it is atomic, and nobody ever has to take over or
rewrite another's: whoever comes second sees the first's file and withdraws. (Two who
come at the very same moment may both withdraw, never both stay.) Knows no map.

Whether an owner lives is told by its process, and, where files can be held, by its file: the
system holds that as long as the process lives, also one that is not to be seen from here, as in
another container of the same host name.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from napari_wsiseg.errors import StoreError
from napari_wsiseg.store.files import naming

if sys.platform != "win32":
    import fcntl

LOCKS = "lock"

# The start of a process is told from the boot time, which a clock that is set moves a bit.
_CLOCK_TOLERANCE = 3.0
_ATTEMPTS, _BETWEEN = 20, 0.05
_NAME = re.compile(r"(?P<pid>\d+)_(?P<started>\d+\.\d+)_(?P<host>.+)")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that writes, or wrote, a result."""

    pid: int
    started: float
    host: str

    @classmethod
    def this(cls) -> Self:
        """The process that we are."""
        return cls(os.getpid(), round(psutil.Process().create_time(), 2), _host())

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The owner that has this `name`, or None where it is nobody's."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(int(match["pid"]), float(match["started"]), match["host"])

    @property
    def name(self) -> str:
        """The name of its lock file."""
        return f"{self.pid}_{self.started:.2f}_{self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == _host()

    @property
    def lives(self) -> bool:
        """Whether its process is there; one on another machine counts as alive."""
        if not self.is_here:
            return True
        try:
            process = psutil.Process(self.pid)
            started, status = process.create_time(), process.status()
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True
        return abs(started - self.started) < _CLOCK_TOLERANCE and status != psutil.STATUS_ZOMBIE


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", platform.node()) or "unknown"


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


_held: dict[tuple[int, int], int | None] = {}
"""The files of our locks, and what keeps each locked."""

_holding = threading.Lock()


def _leave_to_parent() -> None:
    """A forked child is no writer, and must not keep its parent's locks when that dies."""
    global _holding  # noqa: PLW0603 - another thread of the parent may have held it
    _holding = threading.Lock()
    for descriptor in _held.values():
        if descriptor is not None:
            os.close(descriptor)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_leave_to_parent)


def _made(path: Path) -> int | None:
    """Make a file that nobody else has, and lock it until this descriptor is closed, or we die."""
    if path.is_symlink():
        raise StoreError(
            f"{path} is a link, where a lock of ours would be; remove it if nobody writes "
            f"{path.parent.parent.name}."
        )
    # Somebody may put a link there just now: what it leads to is not ours.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    if sys.platform == "win32":
        os.close(descriptor)
        return None  # a folder that holds an open file could not be renamed
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_BETWEEN)  # somebody looks at it
        # Network drives may know no locks: there the process has to do.
        except OSError:
            break
        else:
            break
    return descriptor


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
        found = path.lstat()
    except OSError:
        return None
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
        if (folder / LOCKS).is_symlink():
            raise StoreError(
                f"{folder / LOCKS} is a link, where a folder is needed; remove it if nobody writes "
                f"{folder.name}."
            )
        with naming(folder / LOCKS / owner.name):
            lock = cls(folder, owner, _take(folder, owner))
        try:
            _sweep_others(folder, owner)
        except BaseException:
            lock.release()
            raise
        return lock

    @property
    def is_held(self) -> bool:
        """Whether it was not given back yet; a forked child holds none."""
        return self.file in _held

    def moved(self, folder: Path) -> WriterLock:
        """The same lock after its result was renamed to `folder`."""
        return WriterLock(folder, self.owner, self.file)

    def release(self) -> None:
        """Give the lock back; a second call does nothing, nor does one in a forked child."""
        path = self.folder / LOCKS / self.owner.name
        with _holding, suppress(OSError):
            if self.file not in _held:
                return
            descriptor = _held.pop(self.file)
            if descriptor is not None:
                os.close(descriptor)
            # Where a result was replaced, another lock of ours has that name by now.
            if _file_of(path) == self.file:
                path.unlink()
                path.parent.rmdir()


def _take(folder: Path, owner: Owner) -> tuple[int, int]:
    """Make our lock's file, or take back one that we could not remove; which file it is."""
    path = folder / LOCKS / owner.name
    while True:
        with _holding:
            if _file_of(path) in _held:
                raise _refusal(folder, owner)
            path.parent.mkdir(exist_ok=True)
            # Another writer may just have left, and taken the folder with it.
            with suppress(FileNotFoundError):
                descriptor = _made(path)
                if (file := _file_of(path)) is not None:
                    _held[file] = descriptor
                    return file


def _sweep_others(folder: Path, owner: Owner) -> None:
    """Remove the locks of dead processes; raises where one lives."""
    for other in set(owners(folder)) - {owner}:
        if may_write(folder, other):
            raise _refusal(folder, other)
        left = folder / LOCKS / other.name
        with naming(left):
            left.unlink(missing_ok=True)


def _refusal(folder: Path, owner: Owner) -> StoreError:
    advice = (
        "wait for it or stop it"
        if owner.is_here
        else f"wait for it, or remove {folder / LOCKS / owner.name} if it no longer runs there"
    )
    return StoreError(
        f"{folder} is being written by process {owner.pid} on {owner.host}; {advice}."
    )
