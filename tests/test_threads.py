"""A thread of ours ends with whoever began it, also where Ctrl-C comes while it is waited for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from napari_wsiseg.threads import Background

_SOON = 30.0


class Resting:
    """Work that rests until it is stopped, and goes on to its end when it is let."""

    def __init__(self) -> None:
        self.stopped, self.let = threading.Event(), threading.Event()
        self.ended = False
        self.thread = Background(self.work, self.stopped.set, "wsiseg-resting")

    def work(self) -> None:
        assert self.stopped.wait(_SOON)
        assert self.let.wait(_SOON)
        self.ended = True


class Interrupted:
    """In place of the queue that the end is waited for with: Ctrl-C comes while one waits."""

    def __init__(self, times: int, then: Callable[[], None]) -> None:
        self._left, self._then = times, then
        self._woken = threading.Semaphore(0)

    def get(self) -> None:
        if self._left:
            self._left -= 1
            raise KeyboardInterrupt
        self._then()
        assert self._woken.acquire(timeout=_SOON)

    def put(self, _: None) -> None:
        self._woken.release()


def test_its_end_is_waited_for_however_often() -> None:
    resting = Resting()
    resting.let.set()
    resting.thread.start()
    resting.thread.end()
    assert resting.ended
    resting.thread.end()
    assert not [t for t in threading.enumerate() if t.name == "wsiseg-resting"]


def test_an_interrupt_waits_for_the_end_and_a_second_does_not() -> None:
    once = Resting()
    once.thread._woken = Interrupted(1, once.let.set)  # type: ignore[assignment]
    once.thread.start()
    with pytest.raises(KeyboardInterrupt):
        once.thread.end()
    assert once.ended
    twice = Resting()
    twice.thread._woken = Interrupted(2, twice.let.set)  # type: ignore[assignment]
    twice.thread.start()
    with pytest.raises(KeyboardInterrupt):
        twice.thread.end()
    assert not twice.ended
    twice.thread.end()
    assert twice.ended


def test_an_interrupt_while_it_is_told_to_stop_does_not_keep_it_going() -> None:
    resting, told = Resting(), []
    resting.let.set()

    def stop() -> None:
        told.append(None)
        if len(told) == 1:
            raise KeyboardInterrupt
        resting.stopped.set()

    resting.thread._stop = stop
    resting.thread.start()
    with pytest.raises(KeyboardInterrupt):
        resting.thread.end()
    assert resting.ended


def test_an_interrupt_while_it_begins_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.start` waits for the thread to come up, and may be interrupted at that."""
    resting, start = Resting(), threading.Thread.start
    resting.let.set()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resting.thread.start()
    assert resting.ended
    assert not [t for t in threading.enumerate() if t.name == "wsiseg-resting"]


def test_one_that_never_began_is_not_waited_for() -> None:
    Resting().thread.end()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")
def test_nor_is_a_parents_in_a_forked_child() -> None:
    resting = Resting()
    resting.thread.start()
    child = os.fork()
    if not child:
        resting.thread.end()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    resting.let.set()
    resting.thread.end()
    assert resting.ended
