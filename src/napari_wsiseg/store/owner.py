"""Processes that write: how one is named, and whether it lives."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from typing import Self

import psutil

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
