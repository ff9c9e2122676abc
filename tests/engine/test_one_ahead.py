"""The model works while its last answer is merged: one batch ahead, and never further."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from napari_wsiseg.engine.inference import Prediction, one_ahead

_SOON = 30.0
"""Seconds after which a thread that is waited for is taken to hang."""


def prediction(number: int) -> Prediction:
    return Prediction(np.array([[number, 0]]), [], ())


class Model:
    """Answers one batch after the other, and tells how many it was asked about."""

    def __init__(self, batches: int, error: Exception | None = None) -> None:
        self._batches, self._error = batches, error
        self._changed = threading.Condition()
        self._asked = 0
        self.threads: set[str] = set()

    def __iter__(self) -> Iterator[Prediction]:
        for number in range(self._batches):
            with self._changed:
                self._asked += 1
                self._changed.notify_all()
            self.threads.add(threading.current_thread().name)
            yield prediction(number)
        if self._error is not None:
            raise self._error

    def asked(self, count: int) -> bool:
        """Wait until it was asked about so many batches."""
        with self._changed:
            return self._changed.wait_for(lambda: self._asked >= count, _SOON)


def test_all_answers_come_in_order() -> None:
    numbers = [int(one.indices[0, 0]) for one in one_ahead(iter(Model(5)))]
    assert numbers == [0, 1, 2, 3, 4]
    assert list(one_ahead(iter(Model(0)))) == []


def test_the_model_is_asked_while_an_answer_is_merged() -> None:
    model = Model(9)
    answers = one_ahead(iter(model))
    for merged in (1, 2, 3):
        next(answers)
        assert model.asked(merged + 1)
    answers.close()
    # Whoever stops after the third waits for the fourth, and no fifth is begun.
    assert model._asked == 4
    assert all(name.startswith("wsiseg-model") for name in model.threads)
    assert not {t.name for t in threading.enumerate()} & model.threads


def test_the_models_error_comes_after_what_it_answered() -> None:
    cause = ZeroDivisionError("in the network")
    error = RuntimeError("The model failed.")
    error.__cause__ = cause
    model = Model(2, error)
    answers = one_ahead(iter(model))
    assert [int(next(answers).indices[0, 0]) for _ in range(2)] == [0, 1]
    with pytest.raises(RuntimeError) as caught:
        next(answers)
    assert caught.value is error
    assert caught.value.__cause__ is cause
    assert not {t.name for t in threading.enumerate()} & model.threads
