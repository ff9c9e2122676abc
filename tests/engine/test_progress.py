"""How long the rest will take."""

from __future__ import annotations

import time

import pytest

from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import segment
from napari_wsiseg.engine.progress import Clock
from napari_wsiseg.geometry import Size


def test_the_forecast_settles_within_a_tenth_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first batch that warms up for 30 s does not count; then 2 s a batch of 4."""
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock, total = Clock(), 400
    assert clock.eta(0, total) is None
    now += 30
    clock.patches(4)
    assert clock.eta(4, total) is None
    for done in range(8, total + 1, 4):
        now += 2
        clock.patches(done)
        if done >= total / 10:
            assert clock.eta(done, total) == pytest.approx((total - done) / 2)
    assert clock.eta(total, total) == 0
    assert clock.elapsed == pytest.approx(30 + 2 * 99)


def test_waiting_between_batches_does_not_change_the_forecast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock()
    for done in (1, 2, 3):
        now += 1
        clock.patches(done)
    before = clock.eta(3, 10)
    now += 500
    assert clock.eta(3, 10) == before == pytest.approx(7)


def test_what_the_caller_holds_is_no_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of an hour changes neither the pace nor the forecast."""
    now = 50.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock()
    for done in (1, 2, 3):
        now += 1
        clock.patches(done)
        clock.handed_over()
        now += 3600
        clock.resumed()
    assert clock.elapsed == pytest.approx(3)
    assert clock.eta(3, 10) == pytest.approx(7)
    now += 1
    clock.patches(4)
    assert clock.eta(4, 10) == pytest.approx(6)


def test_a_run_that_is_held_does_not_age(monkeypatch: pytest.MonkeyPatch) -> None:
    real, held = time.perf_counter, 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: real() + held)
    job = SegmentationJob(tissue="none", batch_size=1)
    model = PositionModel(Size(16, 16), Size(16, 16), Size(16, 16))
    steps = []
    for step in segment(job, slide_of(picture(64, 16)), model):
        steps.append(step)
        held += 3600
    assert steps[-1].patches_done == 4
    assert steps[-1].elapsed < 3600
