"""The window goes first: threads beside its own wait for it. No Qt."""

from __future__ import annotations

import gc
import os
import sys
import threading
from contextlib import suppress

# Of a thread that gives way, on Linux: the window's have 0.
_NICENESS = 10
# Python's own is 5 ms, which the window waits whenever it has called Qt or the graphics while
# another thread computes in Python: measured 300 to 900 ms for one paint, and 50 ms with this.
_SWITCH_S = 0.0002


def give_way() -> None:
    """Let this thread, and those that it starts, have the processor after the window.

    On Linux alone, where each thread has a niceness of its own.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


class WindowFirst:
    """While it is on, the window gets Python back at once, and rubbish of old is not looked for.

    To go through all that napari has made takes Python 0.1 to 0.3 s, in the middle of
    anything; while it is on, only what was made since is gone through.
    """

    def __init__(self) -> None:
        self._before: float | None = None

    def on(self) -> None:
        """Begin; a second time does nothing."""
        if self._before is None:
            self._before = sys.getswitchinterval()
            sys.setswitchinterval(min(self._before, _SWITCH_S))
            gc.freeze()

    def off(self) -> None:
        """As it was before."""
        if self._before is not None:
            sys.setswitchinterval(self._before)
            gc.unfreeze()
            self._before = None
