"""Work beside the window: answers come back to it, and only the newest of each kind counts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_wsiseg._napari.priority import give_way

_THREADS = 3


@dataclass
class _Question:
    kind: str
    generation: int
    work: Callable[[], Any]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    dropped: Callable[[Any], None]
    answer: Any = None
    error: Exception | None = None


class Background(QObject):
    """Runs functions in threads, and tells what they answer in the window's own.

    Of each kind one runs at a time; of those that wait meanwhile, the newest. Answers that
    are no longer asked for are dropped. Not napari's workers: those lose a RuntimeError.
    """

    _answered = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(_THREADS, "wsiseg-window", initializer=give_way)
        self._newest: dict[str, int] = {}
        self._running: set[str] = set()
        self._waiting: dict[str, _Question] = {}
        self._closed = False
        self._answered.connect(self._deliver)

    def ask(
        self,
        kind: str,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        dropped: Callable[[Any], None] = lambda _answer: None,
    ) -> None:
        """Run `work` in a thread; then `done` with what it answers, or `failed`, in this one.

        `dropped` is told an answer that nobody waits for any more; in whichever thread.
        """
        if self._closed:
            return
        generation = self._newest.get(kind, 0) + 1
        self._newest[kind] = generation
        question = _Question(kind, generation, work, done, failed, dropped)
        if kind in self._running:
            self._waiting[kind] = question
        else:
            self._start(question)

    def forget(self, kind: str) -> None:
        """Drop what was asked of this kind."""
        self._newest[kind] = self._newest.get(kind, 0) + 1
        self._waiting.pop(kind, None)

    @property
    def is_busy(self) -> bool:
        """Whether something runs."""
        return bool(self._running)

    def close(self) -> None:
        """Drop all that was asked; what runs ends by itself, unheard."""
        self._closed = True
        self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, question: _Question) -> None:
        self._running.add(question.kind)
        self._pool.submit(self._work, question)

    def _work(self, question: _Question) -> None:
        try:
            question.answer = question.work()
        # Whatever it is, the window hears of it.
        except Exception as error:  # noqa: BLE001
            question.error = error
        except BaseException as error:  # noqa: BLE001 - SystemExit, from somebody's model
            question.error = RuntimeError(f"{type(error).__name__}: {error}")
        try:
            if not self._closed:
                self._answered.emit(question)
                return
        except RuntimeError:
            # The window is gone, and this object with it.
            pass
        _drop(question)

    def _deliver(self, question: _Question) -> None:
        self._running.discard(question.kind)
        waiting = self._waiting.pop(question.kind, None)
        if waiting is not None and not self._closed:
            self._start(waiting)
        if self._closed or question.generation != self._newest[question.kind]:
            _drop(question)
        elif question.error is not None:
            question.failed(question.error)
        else:
            question.done(question.answer)


def _drop(question: _Question) -> None:
    if question.error is None:
        question.dropped(question.answer)
