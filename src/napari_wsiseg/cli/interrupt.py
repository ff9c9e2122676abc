"""Ctrl-C and SIGTERM: a run stops between two batches, all else at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


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
        self._before = [
            (number, signal.signal(number, self._handle))
            for number in (signal.SIGINT, signal.SIGTERM)
        ]
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
