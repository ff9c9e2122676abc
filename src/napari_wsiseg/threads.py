"""Threads: how ours end whatever happens, and how those under a model wait for each other.

Loads nothing, and knows nothing of what is done in them.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

_SPINS = "3000"
"""How often a thread of GNU's OpenMP looks for work before it sleeps: a hundredth of its own."""


def interrupt_behind(
    error: BaseException, handled: BaseException | None
) -> KeyboardInterrupt | None:
    """The Ctrl-C that an error came of, or None.

    Where it strikes while one of Python's own locks is waited for, `Thread.start` and Zarr among
    those who do, that may fail to be given back, and say so in its place.

    Parameters
    ----------
    error
        What was raised.
    handled
        What the caller was handling by then; it and what is behind it are the caller's.
    """
    seen = [handled]
    behind: BaseException | None = error
    while behind is not None and behind not in seen:
        if isinstance(behind, KeyboardInterrupt):
            return behind
        seen.append(behind)
        behind = behind.__cause__ or behind.__context__
    return None


class Background:
    """A thread that is told to stop, and then waited for, also by whom Ctrl-C interrupts meanwhile.

    What passes between it and the main thread goes through `SimpleQueue`s: an interrupt may leave
    any lock that is written in Python taken for good, those of `queue.Queue`, `threading.Event` and
    executors among them, and then nobody comes past it.

    Parameters
    ----------
    work
        Done in the thread, to its end.
    stop
        Makes `work` return soon; may be called again.
    name
        The thread's.
    """

    def __init__(self, work: Callable[[], None], stop: Callable[[], None], name: str) -> None:
        self._work, self._stop = work, stop
        self._is_over = False
        self._woken: SimpleQueue[None] = SimpleQueue()
        # Where the interpreter ends without a word to us, it does not wait for what waits.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        try:
            self._thread.start()
        except BaseException:
            # An interrupt may come when the thread runs, and nobody else would end it.
            self.end()
            raise

    def end(self) -> None:
        """Stop it, and wait for its end, however often.

        An interrupt is raised when it has ended; a second one at once.
        """
        try:
            self._stop_and_wait()
        except KeyboardInterrupt:
            self._stop_and_wait()
            raise

    def _stop_and_wait(self) -> None:
        self._stop()
        # A forked child has none of its parent's threads; none runs when the interpreter ends.
        if not self._thread.is_alive() or sys.is_finalizing():
            return
        # Python 3.11 takes a thread for ended whose `join` is interrupted.
        while not self._is_over:
            self._woken.get()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._is_over = True
            self._woken.put(None)


def let_waiting_threads_sleep() -> None:
    """Let torch's threads that wait for each other sleep soon; to be called before torch is loaded.

    By themselves they look for work for milliseconds, on the cores that read, merge and write
    beside the model. On two cores a model that costs little took a sixth less of the wall clock and
    a third less of the processors' time so; a UNet takes the same. What the user has set
    stands. Other OpenMPs than GNU's do not heed it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
