"""A kill or a full disk at a named place, asked for by an environment variable.

For tests of what survives them. Where nothing is asked for, a place costs one comparison.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import Literal, get_args

VARIABLE = "NAPARI_WSISEG_FAULT"
"""Holds POINT:COUNT:WHAT. At the COUNT-th passing of the point (or of "any") the process ends at
once where WHAT is "kill", and its exit status tells the point (see `killed_at`); where it is an
errno's name ("ENOSPC"), this passing and all later ones of the point raise that."""

Point = Literal["draft", "pixels", "coverage", "levels", "journal", "state", "spill", "export"]
"""A place where something is written. One write passes it several times: before it begins, where
it is done under a temporary name, and where it has its own."""

POINTS: tuple[Point, ...] = get_args(Point)

_ANY = "any"
_KILLED = 64


def killed_at(status: int) -> Point | None:
    """The point at which a process with this exit status was killed, if it was."""
    number = status - _KILLED
    return POINTS[number] if 0 <= number < len(POINTS) else None


class Fault:
    """What happens at which passing of a point.

    Parameters
    ----------
    text
        As `VARIABLE` holds it.

    Attributes
    ----------
    passed
        How often each point was passed so far.

    Raises
    ------
    ValueError
        If there is no such point, count or errno.
    """

    def __init__(self, text: str) -> None:
        point, count, what = text.split(":")
        if point not in (*POINTS, _ANY):
            raise ValueError(f"{VARIABLE} names the point {point!r}, which there is not.")
        self._point, self._count = point, int(count)
        self._errno = None if what == "kill" else getattr(errno, what)
        self._lock = threading.Lock()
        self.passed: dict[str, int] = dict.fromkeys((*POINTS, _ANY), 0)

    def passing(self, point: Point) -> None:
        """Count, and strike where it is time."""
        with self._lock:
            self.passed[point] += 1
            self.passed[_ANY] += 1
            met = self._point in (point, _ANY) and self.passed[self._point] >= self._count
        if met and self._errno is None:
            os._exit(_KILLED + POINTS.index(point))
        if met and self._errno is not None:
            raise OSError(self._errno, os.strerror(self._errno))


_fault: Fault | None = None


def passing(point: Point) -> None:
    """Say that a write point is passed.

    Raises
    ------
    OSError
        If a fault was asked for here.
    """
    if _fault is not None:
        _fault.passing(point)


def arm(text: str) -> Fault:
    """Ask for a fault from here on, in place of what the environment asks for."""
    global _fault  # noqa: PLW0603 - one a process, as the environment is
    _fault = Fault(text)
    return _fault


if VARIABLE in os.environ:
    arm(os.environ[VARIABLE])
