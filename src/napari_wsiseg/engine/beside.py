"""Work beside the caller's own, one piece after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

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
        self._pool = ThreadPoolExecutor(1, "wsiseg-merger") if in_thread else None
        self._begun: Future[None] | None = None

    def __call__(self, piece: T) -> None:
        """Begin with a piece when the one before has ended; raises what that one raised."""
        if self._pool is None:
            self._work(piece)
        else:
            self.wait()
            self._begun = self._pool.submit(self._work, piece)

    def wait(self) -> None:
        """Until all that was begun has ended; raises what it raised."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._pool is None:
            return
        begun = self._begun
        earlier = begun.exception() if begun is not None and begun.done() else None
        self._pool.shutdown()
        if earlier is not None and isinstance(error, Exception):
            raise earlier
