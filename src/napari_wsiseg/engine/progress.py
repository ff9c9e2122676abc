"""`Progress`: what a run tells of itself, and the clock behind its forecasts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from napari_wsiseg.geometry import Region
from napari_wsiseg.store import ProbabilityMap

Kind = Literal["batch", "row", "spill", "warning", "done"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a run.

    Parameters
    ----------
    kind
        "batch": patches were predicted; "row": a row of chunks can be read;
        "spill": working from disk from now on; "warning": see `message`; "done".
    result
        The map, valid from the first step on.
    row, rows
        Chunk rows that can be read, of those this run will write.
    patches_done, patches_total
        Of this run.
    elapsed, eta
        Seconds since the first patch was asked for, without those the caller held the run, and
        until the end (None: unknown yet).
    memory
        Bytes that the run holds above the loaded program.
    region
        For "row": the part of the map, in its pixels, that can be read now.
    message
        For "spill" and "warning": one sentence.
    """

    kind: Kind
    result: ProbabilityMap
    row: int
    rows: int
    patches_done: int
    patches_total: int
    elapsed: float
    eta: float | None
    memory: int
    region: Region | None = None
    message: str | None = None


class Clock:
    """Time of a run, without what its caller takes between two steps; how long the rest takes."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first: tuple[float, int] | None = None
        self._last = 0.0
        self._handed_over = 0.0

    def patches(self, done: int) -> None:
        """Note that so many patches are done."""
        self._last = self.elapsed
        if self._first is None:
            self._first = (self._last, done)

    def handed_over(self) -> None:
        """The caller's turn begins: it may hold the run for as long as it likes."""
        self._handed_over = time.perf_counter()

    def resumed(self) -> None:
        """The caller's turn is over."""
        self._start += time.perf_counter() - self._handed_over

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def eta(self, done: int, total: int) -> float | None:
        """Seconds until the end, from the pace since the first batch (which warms up)."""
        if done >= total:
            return 0.0
        if self._first is None or done <= self._first[1]:
            return None
        seconds, patches = self._last - self._first[0], done - self._first[1]
        return seconds / patches * (total - done)
