"""The most memory that this process holds while something goes on."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from napari_wsiseg.memory import own_memory

_LOOK = 0.01


class Peak:
    """Samples this process's memory (resident, not backed by files) within a context.

    Attributes
    ----------
    bytes
        The most that was held above what was held at the start.
    curve
        (seconds since the start, bytes above it) of every look, a hundred a second.
    seconds, processor_seconds
        How long it took, and how long the processors worked on it: on a machine with other
        work, the second is the steadier.
    """

    def __init__(self) -> None:
        self.bytes, self.seconds, self.processor_seconds = 0, 0.0, 0.0
        self.curve: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._before = own_memory()
        self._start, self._worked = time.perf_counter(), time.process_time()
        self._sampler.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self.processor_seconds = time.process_time() - self._worked
        self._stop.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._stop.wait(_LOOK):
            held = own_memory() - self._before
            self.curve.append((time.perf_counter() - self._start, held))
            self.bytes = max(self.bytes, held)
