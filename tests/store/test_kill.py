"""A run may die at any moment; what is finished stays, and the rest ends equal."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsiseg.errors import StoreError
from napari_wsiseg.store import MapWriter, ProbabilityMap
from napari_wsiseg.store.lock import LOCKS
from store.helpers import INFO, Truth, assert_holds, layout_of, run, workspace

LAYOUT = layout_of((26, 14), chunk=4, stride=4)


class Snapshots:
    """Copies a folder at the given moments: before the n-th fsync or rename.

    The lock stays behind, as that of a dead process would not count.
    """

    def __init__(self, patch: pytest.MonkeyPatch, source: Path, moments: set[int]) -> None:
        self.source, self.moments, self.count = source, moments, 0
        self.lock = threading.Lock()
        self.folders: list[Path] = []
        for name in ("fsync", "replace"):
            patch.setattr(os, name, self._then(getattr(os, name)))

    def _then(self, act):
        def acted(*args):
            with self.lock:
                if self.count in self.moments:
                    folder = self.source.with_name(f"killed-{self.count}")
                    shutil.copytree(self.source, folder, ignore=shutil.ignore_patterns(LOCKS))
                    self.folders.append(folder)
                self.count += 1
                return act(*args)

        return acted


def killed_runs(folder: Path, truth: Truth, moments: set[int], first=None) -> Snapshots:
    """Results as they were at these moments of a run; `first`: chunks of a run before it."""
    writer = MapWriter.create(folder / "map", LAYOUT, INFO, workspace())
    if first is not None:
        run(writer, truth, first & writer.unfinished)
    with pytest.MonkeyPatch.context() as patch:
        snapshots = Snapshots(patch, folder / "map", moments)
        run(writer, truth, writer.unfinished)
        writer.close()
    return snapshots


@cache
def moments_of_a_run() -> int:
    with tempfile.TemporaryDirectory() as folder:
        return killed_runs(Path(folder), Truth.random(LAYOUT, 0), set()).count


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.data())
def test_killed_anywhere_resumed_equal(seed, data):
    truth = Truth.random(LAYOUT, seed)
    rng = np.random.default_rng(seed)
    first = rng.random(LAYOUT.grid.chunk_shape) < 0.4
    with tempfile.TemporaryDirectory() as name:
        moments = data.draw(st.sets(st.integers(0, moments_of_a_run()), min_size=1, max_size=3))
        snapshots = killed_runs(Path(name), truth, moments, first)
        for folder in snapshots.folders:
            torn = data.draw(st.integers(0, 40), label="bytes torn from the journal")
            last = sorted((folder / "journal").iterdir())[-1:]
            for segment in last:
                segment.write_bytes(segment.read_bytes()[: -torn or None])
            seen = ProbabilityMap.open(folder)
            assert seen.status in {"cancelled", "complete"}
            writer = MapWriter.resume(folder, INFO.identity, workspace())
            finished = writer.map.finished
            assert_holds(writer.map, truth.within(LAYOUT, finished))
            assert not list(folder.rglob("*.partial"))
            run(writer, truth, writer.unfinished, seed)
            writer.close()
            assert_holds(ProbabilityMap.open(folder), truth)


def test_labels_that_a_killed_export_left_do_not_stop_a_run(tmp_path):
    MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace()).close()
    left = tmp_path / "map" / "labels" / ".mine.0123abcd.partial"
    (left / "0").mkdir(parents=True)
    (left / "zarr.json.0123.partial").touch()
    MapWriter.resume(tmp_path / "map", INFO.identity, workspace()).close()
    assert not left.exists()


def test_what_shows_is_right_at_any_moment(tmp_path):
    truth = Truth.random(LAYOUT, 3)
    values, _ = truth.levels(LAYOUT)[0]
    snapshots = killed_runs(tmp_path, truth, set(range(0, 500, 7)))
    counts = set()
    for folder in snapshots.folders:
        pm = ProbabilityMap.open(folder)
        shown = pm.coverage[0].compute(scheduler="sync")
        finished = truth.within(LAYOUT, pm.finished).coverage
        assert shown[finished].all()
        np.testing.assert_array_equal(
            pm.levels[0].compute(scheduler="sync")[:, shown], values[:, shown]
        )
        counts.add(pm.finished.sum())
    assert len(counts) > 3


def test_records_after_a_bad_one_do_not_count(tmp_path):
    truth = Truth.random(LAYOUT, 3)
    killed_runs(tmp_path, truth, set())
    segment = tmp_path / "map" / "journal" / "000001"
    data = bytearray(segment.read_bytes())
    data[5 * 12] ^= 1  # another row, and a row that exists
    segment.write_bytes(data)
    assert ProbabilityMap.open(tmp_path / "map").finished.sum() == 5
    writer = MapWriter.resume(tmp_path / "map", INFO.identity, workspace())
    assert_holds(writer.map, truth.within(LAYOUT, writer.map.finished))
    run(writer, truth, writer.unfinished)
    writer.close()
    assert_holds(writer.map, truth)


def test_a_full_disk_loses_a_row_and_is_said(tmp_path, monkeypatch):
    truth = Truth.random(LAYOUT, 4)
    writer = MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 60:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"map.*No space left on device"):
        run(writer, truth, writer.unfinished)
    writer.close("failed")
    monkeypatch.undo()
    assert writer.map.status == "cancelled"  # the state could not be written either
    assert 0 < writer.map.finished.sum() < writer.map.finished.size
    writer = MapWriter.resume(tmp_path / "map", INFO.identity, workspace())
    assert_holds(writer.map, truth.within(LAYOUT, writer.map.finished))
    run(writer, truth, writer.unfinished)
    writer.close()
    assert_holds(writer.map, truth)


def test_the_first_error_reaches_whoever_goes_on(tmp_path, monkeypatch):
    truth = Truth.random(LAYOUT, 4)
    writer = MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())

    def broken(*_):
        raise ValueError("first cause")

    monkeypatch.setattr(writer._recorder._pyramid, "update", broken)
    with pytest.raises(StoreError, match="first cause"):
        run(writer, truth, writer.unfinished)
    with pytest.raises(StoreError, match="first cause"):
        truth.feed(writer, 0)
    with pytest.raises(StoreError, match="first cause"):
        writer.advance(LAYOUT.grid.canvas.height)
    with pytest.raises(StoreError, match="first cause"):
        writer.flush()
    with pytest.raises(StoreError, match="first cause"):
        writer.close()
    writer.close()
    assert writer.map.status == "failed"
    assert not [t for t in threading.enumerate() if t.name == "wsiseg-map-writer"]
