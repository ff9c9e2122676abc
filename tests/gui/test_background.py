"""Work beside the window: the newest answer of a kind counts, and the others are let go of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gui.dock_driver import PATIENCE
from napari_wsiseg._napari.background import Background

pytestmark = pytest.mark.one_binding


@pytest.fixture
def background(qapp) -> Iterator[Background]:
    background = Background()
    yield background
    background.close()


class Heard:
    """Asks, and notes what comes of it."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self.done: list[Any] = []
        self.failed: list[str] = []
        self.dropped: list[Any] = []

    def ask(self, work: Callable[[], Any]) -> None:
        self._background.ask(
            "kind",
            work,
            self.done.append,
            lambda error: self.failed.append(str(error)),
            self.dropped.append,
        )


@pytest.fixture
def heard(background: Background) -> Heard:
    return Heard(background)


def held(answer: Any) -> tuple[Callable[[], Any], threading.Event]:
    """Work that answers when it is let."""
    may = threading.Event()

    def work() -> Any:
        assert may.wait(PATIENCE / 1000)
        return answer

    return work, may


def test_of_those_that_wait_the_newest_is_answered(heard: Heard, qtbot) -> None:
    work, may = held("first")
    heard.ask(work)
    for answer in ("second", "third"):
        heard.ask(lambda answer=answer: answer)
    may.set()
    qtbot.waitUntil(lambda: heard.done == ["third"], timeout=PATIENCE)
    assert heard.dropped == ["first"]


def test_what_was_forgotten_is_let_go_of(heard: Heard, background: Background, qtbot) -> None:
    work, may = held("slide")
    heard.ask(work)
    background.forget("kind")
    may.set()
    qtbot.waitUntil(lambda: heard.dropped == ["slide"], timeout=PATIENCE)
    assert heard.done == []


@pytest.mark.parametrize("first", ["close", "answer"])
def test_what_comes_after_the_window_is_let_go_of(
    heard: Heard, background: Background, qtbot, first: str
) -> None:
    work, may = held("slide")
    heard.ask(work)
    if first == "close":
        background.close()
        may.set()
    else:
        # The answer waits in the window's queue when it closes.
        may.set()
        background._pool.shutdown(wait=True)
        background.close()
    qtbot.waitUntil(lambda: heard.dropped == ["slide"], timeout=PATIENCE)
    assert heard.done == []


@pytest.mark.parametrize("error", [RuntimeError("torn"), SystemExit("torn")], ids=repr)
def test_every_error_is_heard(heard: Heard, background: Background, qtbot, error) -> None:
    def work() -> None:
        raise error

    heard.ask(work)
    qtbot.waitUntil(lambda: bool(heard.failed), timeout=PATIENCE)
    assert "torn" in heard.failed[0]
    assert not background.is_busy
    assert heard.done == heard.dropped == []
