"""One writer a result: the lock, and whether its owner lives.

A lock is a file in the folder `lock` that is named after its owner: process, time at
which that began, host. Creating it is atomic, and nobody ever has to take over or
rewrite another's: whoever comes second sees the first's file and withdraws. (Two who
come at the very same moment may both withdraw, never both stay.) Knows no map.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from napari_wsiseg.errors import StoreError
from napari_wsiseg.store.files import naming

LOCKS = "lock"

# The start of a process is told from the boot time, which a clock that is set moves a bit.
_CLOCK_TOLERANCE = 3.0
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
        """Whether it may still write; one on another machine counts as alive."""
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
            if match := _NAME.fullmatch(path.name):
                yield Owner(int(match["pid"]), float(match["started"]), match["host"])


def is_written(folder: Path) -> bool:
    """Whether a living process holds the lock."""
    return any(owner.lives for owner in owners(folder))


@dataclass(frozen=True, slots=True)
class WriterLock:
    """The right to write to one result, held by this process.

    Parameters
    ----------
    folder
        The result's folder.
    owner
        This process.
    """

    folder: Path
    owner: Owner

    @classmethod
    def acquire(cls, folder: Path) -> Self:
        """Take the lock; those of dead processes are swept away.

        Raises
        ------
        StoreError
            If a living process holds it, or the folder cannot be written to.
        """
        lock = cls(folder, Owner.this())
        with naming(lock._path):
            lock._create()
        for other in set(owners(folder)) - {lock.owner}:
            if other.lives:
                lock.release()
                raise _refusal(folder, other)
            (folder / LOCKS / other.name).unlink(missing_ok=True)
        return lock

    def moved(self, folder: Path) -> WriterLock:
        """The same lock after its result was renamed to `folder`."""
        return WriterLock(folder, self.owner)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()

    @property
    def _path(self) -> Path:
        return self.folder / LOCKS / self.owner.name

    def _create(self) -> None:
        while True:
            self._path.parent.mkdir(exist_ok=True)
            try:
                self._path.touch(exist_ok=False)
            except FileExistsError:
                raise _refusal(self.folder, self.owner) from None
            except FileNotFoundError:
                continue  # another writer has just left and taken the folder with it
            return


def _refusal(folder: Path, owner: Owner) -> StoreError:
    advice = (
        "wait for it or stop it"
        if owner.is_here
        else f"wait for it, or remove {folder / LOCKS / owner.name} if it no longer runs there"
    )
    return StoreError(
        f"{folder} is being written by process {owner.pid} on {owner.host}; {advice}."
    )
