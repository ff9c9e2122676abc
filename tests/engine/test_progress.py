"""How long the rest will take."""

from __future__ import annotations

import time

import pytest

from napari_wsiseg.engine.progress import Clock


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
