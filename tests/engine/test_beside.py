"""Answers are merged beside the model's next batch: one at a time, in order, and to the end."""

from __future__ import annotations

import threading

import pytest

from napari_wsiseg.engine.beside import Beside

_SOON = 30.0
"""Seconds after which a thread that is waited for is taken to hang."""


class Held:
    """Works on pieces, each when it is let."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self.threads: set[threading.Thread] = set()
        self.let = threading.Semaphore(0)

    def __call__(self, piece: int) -> None:
        self.begun.append(piece)
        self.threads.add(threading.current_thread())
        assert self.let.acquire(timeout=_SOON)
        if piece < 0:
            raise ZeroDivisionError(piece)
        self.done.append(piece)


def test_the_caller_goes_on_while_one_piece_is_worked_on() -> None:
    work = Held()
    with Beside(work, in_thread=True) as beside:
        beside(1)
        # Here already: `work` waits for what comes now.
        work.let.release(2)
        beside(2)
        assert work.done[0] == 1
        beside.wait()
        assert work.done == [1, 2]
    assert work.threads != {threading.current_thread()}


def test_what_was_begun_ends_however_the_caller_leaves() -> None:
    work = Held()

    def caller() -> None:
        with Beside(work, in_thread=True) as beside:
            beside(1)
            work.let.release()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caller()
    assert work.done == [1]
    assert not any(thread.is_alive() for thread in work.threads)


def test_an_error_comes_with_the_next_piece_which_is_not_begun() -> None:
    work = Held()
    work.let.release(9)
    with Beside(work, in_thread=True) as beside:
        beside(-1)
        with pytest.raises(ZeroDivisionError):
            beside(2)
        beside.wait()
    assert work.begun == [-1]
    with Beside(work, in_thread=True) as beside:
        beside(-2)
        with pytest.raises(ZeroDivisionError):
            beside.wait()


@pytest.mark.parametrize("later", [ValueError, KeyboardInterrupt])
def test_of_two_errors_the_first_is_told_unless_the_caller_was_interrupted(
    later: type[BaseException],
) -> None:
    work = Held()

    def caller() -> None:
        with Beside(work, in_thread=True) as beside:
            beside(-1)
            work.let.release()
            error = beside._ended.get(timeout=_SOON)
            assert isinstance(error, ZeroDivisionError)
            beside._ended.put(error)
            raise later

    with pytest.raises(ZeroDivisionError if later is ValueError else later):
        caller()


def test_in_the_callers_thread_it_is_done_at_once() -> None:
    work = Held()
    work.let.release()
    with Beside(work, in_thread=False) as beside:
        beside(1)
        assert work.done == [1]
    assert work.threads == {threading.current_thread()}
