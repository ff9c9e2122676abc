"""How much memory there is, and working buffers that move to disk when it runs short.

Knows nothing of slides, patches or maps: it hands out arrays. Where an array lies
never changes what is in it.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_wsiseg.errors import StoreError
from napari_wsiseg.faults import passing

S = TypeVar("S", bound=np.generic)

_CGROUP = Path("/sys/fs/cgroup")
_BETWEEN_LOOKS = 0.2
_BETWEEN_TRIMS = 0.5
_LEAST_FREE = 10**9
_LEAST_FREE_PART = 0.05


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes that the machine, or the control group we run in, has and has left."""

    total: int
    available: int


def machine_memory() -> MachineMemory:
    """The tightest of the machine's memory and its control groups' (v1 and v2) limits."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for limit, used in _cgroup_limits():
        total = min(total, limit)
        available = min(available, max(limit - used, 0))
    return MachineMemory(total, available)


def own_memory() -> int:
    """Bytes that this process holds and cannot drop: resident pages not backed by files."""
    info = _process(os.getpid()).memory_info()
    return int(info.rss - getattr(info, "shared", 0))


@cache
def _process(number: int) -> psutil.Process:
    """To find a process takes several times as long as to ask it."""
    return psutil.Process(number)


class _Heap:
    """The C library's heap, where it is glibc's; elsewhere nothing is done.

    glibc gives each thread a heap and keeps what was freed there, which counts as ours. And
    it gives the pages of a batch back as soon as that is done, only to ask for them again,
    zeroed, for the next: with a model that costs little, a third of all processor time.
    So there is one heap, which keeps what was freed, but for twice a second: peaks of runs
    are then within a tenth of those of a heap that is trimmed five times as often.
    """

    _TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
    _LARGEST = 2**25
    """What glibc takes from the heap at the most; the merger's rows are above it."""

    def __init__(self) -> None:
        self._trim: Callable[[int], int] | None = None
        try:
            library = ctypes.CDLL(None)
            library.mallopt(self._ARENA_MAX, 1)
            library.mallopt(self._MMAP_THRESHOLD, self._LARGEST)
            library.mallopt(self._TRIM_THRESHOLD, 2**30)
            self._trim = library.malloc_trim
        except (OSError, TypeError, AttributeError):
            return  # another C library

    def return_freed_pages(self) -> None:
        """Give back to the machine what was freed."""
        if self._trim is not None:
            self._trim(0)


@cache
def _heap() -> _Heap:
    return _Heap()


def _cgroup_limits(
    membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUP
) -> Iterator[tuple[int, int]]:
    """(limit, used without what can be dropped) of each group above this process."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            # Above "high" a group is slowed down, above "max" its processes are killed.
            limits: tuple[str, ...] = ("memory.max", "memory.high")
            base, names = root, ("memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "memory"
            limits = ("memory.limit_in_bytes",)
            names = ("memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = base / path.lstrip("/")
        # In a container the path may be the host's: the group then is the root itself.
        folders = [group, *group.parents] if group.is_dir() else [base]
        for folder in folders:
            if not folder.is_relative_to(base):
                break
            yield from _cgroup_limit(folder, limits, *names)


def _cgroup_limit(
    folder: Path, limits: tuple[str, ...], used: str, droppable: str
) -> Iterator[tuple[int, int]]:
    for limit in limits:
        try:
            most = (folder / limit).read_text().strip()
            current = int((folder / used).read_text())
            stat = (folder / "memory.stat").read_text().split()
        except (OSError, ValueError):
            continue
        if most != "max":
            cache = int(stat[stat.index(droppable) + 1]) if droppable in stat else 0
            yield int(most), max(current - cache, 0)


@dataclass(slots=True)
class _Holding:
    """What is behind an array that was handed out."""

    nbytes: int
    file: IO[bytes] | None


class Workspace:
    """Hands out working arrays: in memory while the budget lasts, else in files.

    Safe to use from many threads. The files have no name (or vanish when closed),
    so that even a killed run leaves none.

    Parameters
    ----------
    budget
        Bytes that this process may take above what it holds now.
    folder
        Where the files lie; must exist.
    reserve
        Part of the budget that is used elsewhere (batches and the network's own).
    """

    def __init__(self, budget: int, folder: Path, reserve: int = 0) -> None:
        self.budget = budget
        self.reserve = reserve
        self._folder = folder
        _heap().return_freed_pages()
        self._baseline = own_memory()
        self._holdings: dict[int, _Holding] = {}
        self._lock = threading.Lock()
        self._pressed = False
        self._spilled = False
        self._looked = self._trimmed = -math.inf

    @property
    def spilled(self) -> bool:
        """Whether anything ever went to disk."""
        return self._spilled

    @property
    def in_memory(self) -> int:
        """Bytes handed out in memory now."""
        with self._lock:
            return self._held()

    def used(self) -> int:
        """Bytes that this process holds above the loaded program."""
        return max(own_memory() - self._baseline, 0)

    def watch(self) -> None:
        """Look at the machine; under pressure, everything handed out from now on is on disk.

        At most five times a second: to ask a control group takes milliseconds.
        """
        now = time.monotonic()
        if now - self._looked < _BETWEEN_LOOKS:
            return
        self._looked = now
        # Seldom while there is room: what is returned is soon asked for again, at a price.
        if now - self._trimmed > _BETWEEN_TRIMS or self.used() > self.budget / 2:
            _heap().return_freed_pages()
            self._trimmed = now
        machine = machine_memory()
        least = max(_LEAST_FREE, _LEAST_FREE_PART * machine.total)
        if self.used() > self.budget or machine.available < least:
            self._pressed = True

    def room(self, nbytes: int) -> bool:
        """Whether so many bytes more may lie in memory."""
        with self._lock:
            return self._fits(nbytes)

    def take(self, shape: tuple[int, ...], dtype: type[S] | np.dtype[S]) -> NDArray[S]:
        """A zero-filled array, in memory where there is room, else in a file.

        Raises
        ------
        StoreError
            If the disk has no room for the file.
        """
        nbytes = max(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, 1)
        with self._lock:
            if self._fits(nbytes):
                try:
                    return self._register(np.zeros(shape, dtype), None)
                except MemoryError:
                    # The budget allows it, and yet there is none: from now on, on disk.
                    self._pressed = True
        file = self._file(nbytes)
        try:
            array = np.ndarray(shape, dtype, buffer=mmap.mmap(file.fileno(), nbytes))
        except OSError as error:
            file.close()
            raise self._refused(nbytes, error) from error
        with self._lock:
            return self._register(array, file)

    def keep(self, array: NDArray[S]) -> NDArray[S]:
        """Count an array as ours: itself where there is room, else a copy in a file."""
        with self._lock:
            if self._fits(array.nbytes):
                return self._register(array, None)
        copy = self.take(array.shape, array.dtype)
        copy[...] = array
        return copy

    def place(self, array: NDArray[S]) -> NDArray[S]:
        """The array itself: what is in memory is where arrays that are taken are."""
        return array

    def settle(self, array: NDArray[S]) -> NDArray[S]:
        """The array itself, or, once memory is short, its copy on disk in its place."""
        if not self._pressed or self._holdings[id(array)].file is not None:
            return array
        moved = self.take(array.shape, array.dtype)
        moved[...] = array
        self.release(array)
        return moved

    def release(self, array: NDArray[Any]) -> None:
        """Give an array back; it must not be used any more. A second call does nothing."""
        with self._lock:
            holding = self._holdings.pop(id(array), None)
        if holding is not None and holding.file is not None:
            holding.file.close()

    def close(self) -> None:
        """Let go of everything that is still out."""
        with self._lock:
            holdings, self._holdings = list(self._holdings.values()), {}
        for holding in holdings:
            if holding.file is not None:
                holding.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _register(self, array: NDArray[S], file: IO[bytes] | None) -> NDArray[S]:
        """Note what is behind an array; the caller holds the lock."""
        self._holdings[id(array)] = _Holding(array.nbytes, file)
        return array

    def _held(self) -> int:
        return sum(h.nbytes for h in self._holdings.values() if h.file is None)

    def _fits(self, nbytes: int) -> bool:
        return not self._pressed and self._held() + nbytes <= self.budget - self.reserve

    def _file(self, nbytes: int) -> IO[bytes]:
        """An unnamed file whose blocks are all there: writing to it cannot fail later."""
        try:
            passing("spill")
            file = tempfile.TemporaryFile(dir=self._folder, prefix=".wsiseg-")  # noqa: SIM115 - kept until released
        except OSError as error:
            raise self._refused(nbytes, error) from error
        try:
            passing("spill")
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, nbytes)
            else:
                block = bytes(2**20)
                for start in range(0, nbytes, len(block)):
                    file.write(block[: nbytes - start])
                file.flush()
        except OSError as error:
            file.close()
            raise self._refused(nbytes, error) from error
        self._spilled = True
        return file

    def _refused(self, nbytes: int, error: OSError) -> StoreError:
        return StoreError(
            f"No room for {nbytes / 1e6:.0f} MB of working space in {self._folder}: "
            f"{error.strerror}; free some, or allow more memory."
        )
