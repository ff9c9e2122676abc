"""Work beside the caller's own, one piece after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Generic, Self, TypeVar

from napari_wsiseg.threads import Background

T = TypeVar("T")


class Beside(Generic[T]):
    """Calls a function in a thread, while the caller makes what it will be called with next.

    A context manager: what was begun ends before it is left, however it is left. Where it is
    left by an error, and what was begun had failed before, that is raised: the first cause.

    Parameters
    ----------
    work
        Called with what this is called with, in that order.
    in_thread
        False: in the caller's thread, at once.
    """

    def __init__(self, work: Callable[[T], None], *, in_thread: bool) -> None:
        self._work = work
        self._pieces: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self._begun = False
        self._thread: Background | None = None
        if in_thread:
            self._thread = Background(self._run, partial(self._pieces.put, None), "wsiseg-merger")

    def __call__(self, piece: T) -> None:
        """Begin with a piece when the one before has ended; raises what that one raised."""
        if self._thread is None:
            self._work(piece)
        else:
            self.wait()
            self._pieces.put(partial(self._work, piece))
            self._begun = True

    def wait(self) -> None:
        """Until all that was begun has ended; raises what it raised."""
        if self._begun:
            error = self._ended.get()
            self._begun = False
            if error is not None:
                raise error

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        earlier = None if self._ended.empty() else self._ended.get()
        self.end()
        if earlier is not None and isinstance(error, Exception):
            raise earlier

    def end(self) -> None:
        """Wait until what was begun has ended, and end the thread; a second call does nothing."""
        if self._thread is not None:
            self._thread.end()

    def _run(self) -> None:
        while self._run_one():
            pass

    def _run_one(self) -> bool:
        """One piece, which nothing holds when it is done; False when there are no more."""
        piece = self._pieces.get()
        if piece is None:
            return False
        try:
            piece()
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            self._ended.put(error)
        else:
            self._ended.put(None)
        return True
