"""Whatever the order, the batches and the interruptions, one map comes out."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsiseg.errors import StoreError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.messages import Band, FailedPatch
from napari_wsiseg.store import MapWriter, ProbabilityMap
from napari_wsiseg.store.recorder import Recorder
from store.helpers import INFO, Truth, assert_holds, layout_of, run, workspace


@st.composite
def layouts(draw):
    scale = draw(st.sampled_from([1, 1, 2, 3]))
    canvas = draw(st.tuples(st.integers(1, 40 * scale), st.integers(1, 40 * scale)))
    stride = draw(st.sampled_from([2, 4, 5]))
    rows, columns = (-(-n // stride) for n in canvas)
    density = draw(st.sampled_from([0.05, 0.5, 1.0]))
    keep = np.random.default_rng(draw(st.integers(0, 99))).random((rows, columns)) < density
    return layout_of(
        canvas,
        classes=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(["uint8", "uint8", "float16", "float32"])),
        stride=stride,
        scale=scale,
        chunk=draw(st.sampled_from([2, 4, 6, 16])),
        keep=keep,
    )


def parts(draw_from: np.random.Generator, unfinished):
    """A random partition of the unfinished chunks."""
    label = draw_from.integers(0, 3, unfinished.shape)
    return [unfinished & (label == i) for i in draw_from.permutation(3)]


@settings(max_examples=40)
@given(layouts(), st.integers(0, 2**31), st.booleans())
def test_a_run_over_everything_holds_rule_5_at_every_level(layout, seed, in_memory):
    truth = Truth.random(layout, seed, failed=0.1)
    with tempfile.TemporaryDirectory() as folder:
        target = None if in_memory else Path(folder, "map")
        writer = MapWriter.create(target, layout, INFO, workspace())
        np.testing.assert_array_equal(writer.unfinished, layout.grid.owed > 0)
        run(writer, truth, writer.unfinished, seed)
        writer.close()
        assert writer.map.finished.all()
        assert_holds(writer.map, truth)


@settings(max_examples=20)
@given(layouts(), st.integers(0, 2**31), st.booleans())
def test_runs_over_parts_in_any_order_equal_one_run(layout, seed, reopened):
    truth = Truth.random(layout, seed)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "map")
        writer = MapWriter.create(target, layout, INFO, workspace())
        done = np.zeros(layout.grid.chunk_shape, bool)
        for number, part in enumerate(parts(rng, writer.unfinished)):
            if reopened and number:
                writer.close("cancelled")
                writer = MapWriter.resume(target, INFO.identity, workspace())
            run(writer, truth, part, seed + number)
            done |= part
            assert_holds(writer.map, truth.within(layout, done))
        writer.close()
        assert_holds(ProbabilityMap.open(target), truth)


def test_levels_go_on_where_a_chunk_is_less_than_a_coarse_pixel(tmp_path):
    layout = layout_of((40, 20), chunk=2, stride=5)
    assert len(layout.sizes) == 6
    truth = Truth.random(layout, 5)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    halves = np.indices(layout.grid.chunk_shape).sum(0) % 3 == 0
    run(writer, truth, halves & writer.unfinished)
    writer.close("cancelled")
    writer = MapWriter.resume(tmp_path / "map", INFO.identity, workspace())
    run(writer, truth, writer.unfinished)
    assert_holds(writer.map, truth)
    writer.close()


def test_rows_show_as_they_are_finished(tmp_path):
    layout = layout_of((16, 12))
    truth = Truth.random(layout, 1)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    chunks = writer.unfinished
    chunks[:, 0] = False
    writer.begin(chunks)
    seen = []
    for top in range(0, 16, 2):
        rows = slice(top, top + 2)
        writer.add(Band(top, 0, truth.probabilities[:, rows], truth.coverage[rows]))
        writer.advance(top + 2)
        writer.flush()
        seen += writer.finished_rows()
        done = np.zeros_like(chunks)
        done[: (top + 2) // 4] = chunks[: (top + 2) // 4]
        np.testing.assert_array_equal(writer.map.finished, done)
        assert_holds(ProbabilityMap.open(tmp_path / "map"), truth.within(layout, done))
    assert seen == [Region(top, 4, Size(4, 8)) for top in (0, 4, 8, 12)]
    assert writer.finished_rows() == []
    writer.close("cancelled")
    assert writer.map.status == "cancelled"


def test_a_row_in_progress_is_lost_and_the_finished_ones_stay(tmp_path):
    layout = layout_of((16, 16))
    truth = Truth.random(layout, 2)
    space = workspace()
    writer = MapWriter.create(tmp_path / "map", layout, INFO, space)
    writer.begin(writer.unfinished)
    writer.add(Band(0, 0, truth.probabilities[:, :6], truth.coverage[:6]))
    writer.advance(6)
    writer.close("cancelled")
    assert space.in_memory == 0
    finished = writer.map.finished
    assert finished[0].all()
    assert not finished[1:].any()
    assert_holds(writer.map, truth.within(layout, finished))


@pytest.mark.parametrize(
    ("owner", "name"), [(MapWriter, "_row_of"), (Recorder, "hand_over"), (Recorder, "wait")]
)
def test_an_interrupt_loses_no_row_whose_pixels_have_all_come(tmp_path, monkeypatch, owner, name):
    """It strikes while a row is handed over, and while an earlier one is waited for."""
    layout = layout_of((12, 9))
    truth = Truth.random(layout, 0)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    writer.begin(writer.unfinished)
    writer.add(Band(0, 0, truth.probabilities[:, :9], truth.coverage[:9]))
    calls = 0

    def interrupt(*_):
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupt)
        with suppress(KeyboardInterrupt):
            writer.advance(9)
    assert calls
    writer.close("cancelled")
    finished = writer.map.finished
    assert finished[:2].all()
    assert not finished[2].any()
    assert_holds(writer.map, truth.within(layout, finished))
    assert writer.map.status == "cancelled"


def test_all_buffers_go_back_to_the_workspace(tmp_path):
    layout = layout_of((40, 40))
    truth = Truth.random(layout, 2)
    space = workspace()
    writer = MapWriter.create(tmp_path / "map", layout, INFO, space)
    run(writer, truth, writer.unfinished)
    writer.close()
    assert space.in_memory == 0


def test_spilled_buffers_change_nothing_and_are_said(tmp_path):
    layout = layout_of((40, 40))
    truth = Truth.random(layout, 2)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace(budget=1))
    run(writer, truth, writer.unfinished)
    writer.close()
    assert_holds(writer.map, truth)
    assert writer.map.provenance["spilled"]


def test_uint8_rounds_half_to_even(tmp_path):
    layout = layout_of((2, 2), classes=1)
    p = np.array([[[0.5 / 255, 1.5 / 255], [2.5 / 255, 1.0]]], np.float32)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    writer.begin(writer.unfinished)
    writer.add(Band(0, 0, p, np.ones((2, 2), bool)))
    writer.advance(2)
    writer.close()
    np.testing.assert_array_equal(writer.map.levels[0].compute(), [[[0, 2], [2, 255]]])
    np.testing.assert_array_equal(
        writer.map.probabilities().compute(),
        np.array([[[0, 2], [2, 255]]], np.float32) / np.float32(255),
    )


def test_uncovered_chunks_write_no_file(tmp_path):
    layout = layout_of((8, 8))
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    nothing = Truth(np.zeros((2, 8, 8), np.float32), np.zeros((8, 8), bool))
    run(writer, nothing, writer.unfinished)
    writer.close()
    assert [p.parent.name for p in (tmp_path / "map").rglob("c")] == ["mask"]
    assert writer.map.finished.all()


def test_failed_patches_are_listed_until_they_are_computed_again(tmp_path):
    keep = np.ones((4, 4), bool)
    keep[3, 3] = False
    layout = layout_of((20, 20), chunk=10, keep=keep)
    truth = Truth.random(layout, 0)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    top, bottom = writer.unfinished, writer.unfinished
    top[1], bottom[0] = False, False
    writer.begin(top)
    writer.fail([FailedPatch(0, 0, "bad tile"), FailedPatch(3, 0, "bad tile")])
    truth.feed(writer, 0)
    writer.flush()
    writer.warn("Two patches failed.")
    writer.warn("Two patches failed.")
    writer.close("cancelled")
    table = writer.map.patches.reshape(4, 4)
    assert table.state[0, 0] == table.state[3, 0] == "failed"
    assert table.state[3, 3] == "skipped"
    assert table.state[0, 1] == "kept"
    writer = MapWriter.resume(tmp_path / "map", INFO.identity, workspace())
    run(writer, truth, bottom)
    writer.close()
    assert [(p.row, p.column, p.reason) for p in writer.map.failed_patches] == [(0, 0, "bad tile")]
    assert writer.map.warnings == ("Two patches failed.",)


def test_what_was_final_does_not_change(tmp_path):
    layout = layout_of((8, 8))
    truth = Truth.random(layout, 0)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    writer.begin(writer.unfinished)
    writer.advance(3)
    with pytest.raises(StoreError, match="begins at row 2; all rows above 3 were final"):
        writer.add(Band(2, 0, truth.probabilities[:, 2:], truth.coverage[2:]))
    writer.close("failed")


def test_a_band_says_that_what_lies_above_it_is_final(tmp_path):
    """A batch may hold many rows of patches: chunk rows do not wait in memory for its end."""
    layout = layout_of((12, 8))
    truth = Truth.random(layout, 0)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    writer.begin(writer.unfinished)
    writer.add(Band(0, 0, truth.probabilities[:, :5], truth.coverage[:5]))
    writer.add(Band(5, 0, truth.probabilities[:, 5:8], truth.coverage[5:8]))
    writer.flush()
    assert writer.map.finished.tolist() == [[True, True], [False, False], [False, False]]
    with pytest.raises(StoreError, match="all rows above 5 were final"):
        writer.add(Band(4, 0, truth.probabilities[:, 4:], truth.coverage[4:]))
    writer.close("cancelled")


def test_bands_lie_on_map_pixels(tmp_path):
    layout = layout_of((8, 8), scale=2)
    truth = Truth.random(layout, 0)
    writer = MapWriter.create(tmp_path / "map", layout, INFO, workspace())
    writer.begin(writer.unfinished)
    with pytest.raises(StoreError, match="within a map pixel of 2 x 2"):
        writer.add(Band(0, 1, truth.probabilities[:, :2, 1:], truth.coverage[:2, 1:]))
    writer.close("failed")


def test_finished_chunks_are_not_begun_again(tmp_path):
    layout = layout_of((8, 8))
    writer = MapWriter.create(None, layout, INFO, workspace())
    run(writer, Truth.random(layout, 0), writer.unfinished)
    with pytest.raises(StoreError, match="finished"):
        writer.begin(np.ones((2, 2), bool))
    writer.close()


def test_patch_boxes_are_the_grids():
    layout = layout_of((13, 9), stride=4)
    writer = MapWriter.create(None, layout, INFO, workspace())
    table = writer.map.patches
    assert len(table) == 12
    for patch in table:
        output = layout.grid.output_region(patch.row, patch.column)
        given = layout.grid.input_region(patch.row, patch.column)
        edges = (output.top, output.left, output.bottom, output.right)
        assert edges == (
            patch.output_top,
            patch.output_left,
            patch.output_bottom,
            patch.output_right,
        )
        edges = (given.top, given.left, given.bottom, given.right)
        assert edges == (patch.input_top, patch.input_left, patch.input_bottom, patch.input_right)
    writer.close()
