"""Maps in memory, moved to a temporary folder, and saved."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest

from napari_wsiseg.errors import StoreError
from napari_wsiseg.store import MapWriter, ProbabilityMap, TissueImage
from store.helpers import INFO, Truth, assert_holds, layout_of, run, workspace

LAYOUT = layout_of((21, 30))
TRUTH = Truth.random(LAYOUT, 0)
TISSUE = TissueImage(np.ones((3, 3), bool), {"method": "test"}, "abc")


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
    return folder


def half_done() -> MapWriter:
    writer = MapWriter.create(None, LAYOUT, INFO, workspace(), tissue=TISSUE)
    half = writer.unfinished
    half[3:] = False
    run(writer, TRUTH, half)
    return writer


def test_arrays_obtained_before_a_move_stay_valid(temporary):
    writer = half_done()
    pm = writer.map
    levels, coverage, probabilities = pm.levels, pm.coverage, pm.probabilities(1)
    before = [level.compute() for level in levels]
    pm.move_to_temporary()
    assert len(list(temporary.iterdir())) == 1
    assert pm.provenance["spilled"]
    for level, values in zip(levels, before, strict=True):
        np.testing.assert_array_equal(level.compute(), values)
    run(writer, TRUTH, writer.unfinished)
    writer.close()
    expected = TRUTH.levels(LAYOUT)
    for level, cover, (values, covered) in zip(levels, coverage, expected, strict=True):
        np.testing.assert_array_equal(level.compute(), values)
        np.testing.assert_array_equal(cover.compute(), covered)
    np.testing.assert_array_equal(
        probabilities.compute(), expected[1][0].astype(np.float32) / np.float32(255)
    )
    pm.close()
    pm.close()
    assert list(temporary.iterdir()) == []
    with pytest.raises(StoreError, match="closed"):
        levels[0].compute()


def test_a_map_moves_when_memory_is_short(temporary):
    space = workspace(budget=9_000)
    writer = MapWriter.create(None, LAYOUT, INFO, space)
    levels = writer.map.levels
    run(writer, TRUTH, writer.unfinished)
    assert len(list(temporary.iterdir())) == 1
    writer.close()
    assert writer.map.provenance["spilled"]
    assert writer.map.path is None
    assert space.reserve == 0
    assert_holds(writer.map, TRUTH)
    np.testing.assert_array_equal(levels[0].compute(), writer.map.levels[0].compute())
    writer.map.close()


def test_the_folder_lives_as_long_as_an_array_does(temporary):
    writer = half_done()
    writer.map.move_to_temporary()
    level = writer.map.levels[0]
    expected = level.compute()
    writer.close("cancelled")
    del writer
    gc.collect()
    np.testing.assert_array_equal(level.compute(), expected)
    del level
    gc.collect()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("moved", [False, True])
def test_a_saved_map_is_an_ordinary_result(tmp_path, temporary, moved):
    writer = half_done()
    writer.warn("Only half.")
    if moved:
        writer.map.move_to_temporary()
    writer.map.save(tmp_path / "map")
    saved = ProbabilityMap.open(tmp_path / "map")
    assert saved.status == "cancelled"
    assert saved.provenance["spilled"] == moved
    np.testing.assert_array_equal(saved.finished, writer.map.finished)
    assert_holds(saved, TRUTH.within(LAYOUT, saved.finished))
    assert saved.tissue is not None
    assert saved.tissue[0].compute().all()
    with pytest.raises(StoreError, match="exists"):
        writer.map.save(tmp_path / "map")
    writer.close("cancelled")
    writer.map.close()
    resumed = MapWriter.resume(tmp_path / "map", INFO.identity, workspace())
    run(resumed, TRUTH, resumed.unfinished)
    resumed.close()
    assert_holds(ProbabilityMap.open(tmp_path / "map"), TRUTH)
    ProbabilityMap.open(tmp_path / "map").save(tmp_path / "copy")
    assert ProbabilityMap.open(tmp_path / "copy").status == "complete"
    assert_holds(ProbabilityMap.open(tmp_path / "copy"), TRUTH)


def test_a_map_that_is_written_on_disk_is_not_saved(tmp_path):
    writer = MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())
    with pytest.raises(StoreError, match="being written"):
        writer.map.save(tmp_path / "copy")
    writer.close("cancelled")
    assert not (tmp_path / "copy").exists()


def test_status_follows_the_writer():
    writer = half_done()
    assert writer.map.status == "running"
    assert "in memory" in repr(writer.map)
    assert "running" in repr(writer.map)
    writer.close("cancelled")
    assert writer.map.status == "cancelled"
    writer.map.close()
