"""Ctrl-C, SIGTERM and a closed terminal: a run stops between two batches, all else at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


def _signals() -> list[signal.Signals]:
    found = [signal.SIGINT, signal.SIGTERM]
    # Whoever starts us with `nohup` wants us to outlive the terminal.
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


class Interrupt:
    """While it is entered, says whether somebody wants a run to stop.

    A signal in the middle of a batch would cut through the writing of a result. So,
    within `gently` and once `gentle` is set, the first signal only sets `asked`, which
    the run looks at after each batch. A second one, and one at any other time, raises
    KeyboardInterrupt where it stands.
    """

    def __init__(self) -> None:
        self.asked = False
        self.gentle = False

    def __enter__(self) -> Self:
        self._before = [(number, signal.signal(number, self._handle)) for number in _signals()]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.gentle and not self.asked:
            self.asked = True
            return
        raise KeyboardInterrupt

    @contextmanager
    def gently(self) -> Iterator[None]:
        """A run, which sets `gentle` when its first batch is done."""
        try:
            yield
        finally:
            self.gentle = False

    def check(self) -> None:
        """Raise KeyboardInterrupt where a stop was asked for."""
        if self.asked:
            raise KeyboardInterrupt
