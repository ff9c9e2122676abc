"""Corrections by hand: what is painted, and only that, at every level, for every reader."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import tempfile
import tracemalloc
import warnings
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_wsiseg as ws
from maps import SIGMOID, SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import JobError, StoreError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.labels import LabelMap, decide
from napari_wsiseg.labels import record as labels_record
from napari_wsiseg.measure import NOT_ANALYSED, TOTAL, UNCLASSIFIED, stain_readout
from napari_wsiseg.store.lock import WriterLock
from plain_labels import mode_under

with warnings.catch_warnings():
    # Their own: pydantic's `json_encoders`, deprecated, and more of the kind.
    warnings.simplefilter("ignore")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models.v05 import ImageLabel
    from ome_zarr_models.v05.labels import Labels

SHAPE = (70, 101)
TISSUE = np.zeros(SHAPE, bool)
TISSUE[10:60, :80] = True
COVERED = np.ones(SHAPE, bool)
COVERED[:, :16] = False
WITH_BACKGROUND = replace(SOFTMAX, background=2)
TOP_RIGHT = Region(0, 60, Size(30, 41))


def result_at(path, spec=SOFTMAX, seed=0, shape=SHAPE, **options):
    values = np.random.default_rng(seed).random((len(spec.classes), *shape))
    if shape == SHAPE:
        options = {"coverage": COVERED, "tissue": TISSUE, **options}
    return map_of(values, spec, path=path, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A result that is copied, which is quicker than to write it."""
    path = tmp_path_factory.mktemp("results") / "m.ome.zarr"
    result_at(path).close()
    return path


@pytest.fixture
def result(tmp_path, made):
    shutil.copytree(made, tmp_path / "m.ome.zarr")
    with ws.ProbabilityMap.open(tmp_path / "m.ome.zarr") as pm:
        yield pm


def everywhere(pm, rule=ws.DecisionRule()):  # noqa: B008 - it is frozen
    block = pm.read(Region(0, 0, pm.size))
    return decide(block.values, block.coverage, block.tissue, pm.spec, rule)


def fill_of(pm, area, label):
    """Paint an area with one label."""
    _, labels = ws.labels_to_correct(pm, area)
    return ws.correct(pm, area, np.full_like(labels, label))


def group_of(pm):
    return zarr.open_group(pm.path / "labels" / "corrected", mode="r")


def files_under(folder):
    """Name -> which file it is, and what it holds."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_ino,
            hashlib.sha256(path.read_bytes()).digest(),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_holds(pm, expected):
    """Every level is the mode of these labels, and the properties count them."""
    group = group_of(pm)
    for level in range(len(pm.layout.sizes)):
        np.testing.assert_array_equal(group[f"{level}"][:], mode_under(expected, level))
    for entry in group.attrs["ome"]["image-label"]["properties"]:
        pixels = int((expected == entry["label-value"]).sum())
        assert entry["pixels"] == pixels
        assert entry["area_mm2"] == pytest.approx(pixels * 0.25e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 6, 16]))
def test_corrections_are_those_of_the_whole_array(seed, chunk):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, 2).tolist())
    with (
        tempfile.TemporaryDirectory() as folder,
        result_at(Path(folder) / "m.zarr", shape=shape, chunk=chunk) as pm,
    ):
        expected, kept = everywhere(pm), []
        for kind in rng.permutation(4)[:3]:
            # Anywhere, also beyond the edges.
            top, bottom = sorted(rng.integers(-5, shape[0] + 6, 2).tolist())
            left, right = sorted(rng.integers(-5, shape[1] + 6, 2).tolist())
            area = Region.from_bounds(top, left, bottom, right)
            if area.clipped(pm.size).is_empty:
                with pytest.raises(JobError, match="outside the map"):
                    ws.labels_to_correct(pm, area)
                continue
            box, labels = ws.labels_to_correct(pm, area)
            assert box == area.clipped(pm.size)
            np.testing.assert_array_equal(labels, expected[box.slices])
            new = rng.integers(0, 4, labels.shape).astype(np.uint8)
            new = (new, np.zeros_like(new), np.full_like(new, 3), labels)[kind]
            correction = ws.correct(pm, area, new)
            assert correction.pixels == np.count_nonzero(new != labels)
            assert correction.area == box
            kept += [correction] if correction.pixels else []
            expected[box.slices] = new
        assert ws.has_corrections(pm) == bool(kept)
        assert ws.corrections(pm) == tuple(kept)
        if kept:
            assert_holds(pm, expected)


@pytest.mark.parametrize("spec", [SOFTMAX, WITH_BACKGROUND, SIGMOID, STAIN], ids=lambda s: s.name)
def test_every_kind_of_model_starts_from_its_labels(tmp_path, spec):
    rule = ws.DecisionRule(default=0.4)
    with result_at(tmp_path / "m.ome.zarr", spec) as pm:
        expected = everywhere(pm, rule)
        box, labels = ws.labels_to_correct(pm, TOP_RIGHT, rule)
        np.testing.assert_array_equal(labels, expected[box.slices])
        labels[:9] = 2
        expected[box.slices] = labels
        ws.correct(pm, TOP_RIGHT, labels, rule)
        assert_holds(pm, expected)
        with LabelMap(pm, corrected=True) as read:
            assert read.rule == rule
            assert len(read.layers) == 1
            found = read.read(Region(0, 0, pm.size))
        np.testing.assert_array_equal(found.labels, expected[None])


def test_of_an_outline_what_lies_inside_changes(result):
    outline = ((30, 30), (60, 30), (45, 60))
    before = everywhere(result)
    box, labels = ws.labels_to_correct(result, outline)
    assert box == Region(30, 30, Size(30, 30))
    correction = ws.correct(result, outline, np.full_like(labels, 2))
    y, x = np.mgrid[0:70, 0:101] + 0.5
    inside = (x > 30) & (np.abs(y - 45) < (60 - x) / 2)
    expected = np.where(inside, 2, before).astype(np.uint8)
    assert_holds(result, expected)
    assert correction.area == outline
    assert correction.pixels == np.count_nonzero(expected != before)
    # Numbers of any kind, as a window has them, read back as they were.
    ws.correct(result, np.array(outline), np.zeros((30, 30), np.int64))
    assert [done.area for done in ws.corrections(result)] == [outline, outline]


def test_a_correction_says_when_and_how_much(result):
    correction = fill_of(result, TOP_RIGHT, 1)
    assert timedelta(0) <= datetime.now(UTC) - correction.time < timedelta(minutes=5)
    record = group_of(result).attrs["napari_wsiseg"]
    assert "research use" in record["notice"]
    assert record["model"] == SOFTMAX.name
    assert record["rule"] == {"thresholds": {}, "default": None, "clip_to_tissue": True}
    (told,) = record["corrections"]
    assert told == correction.json()
    assert told["area"] == {"top": 0, "left": 60, "size": {"height": 30, "width": 41}}
    assert told["time"].endswith("Z")


def test_a_later_correction_touches_its_chunks_alone(result):
    fill_of(result, TOP_RIGHT, 1)
    folder = result.path / "labels" / "corrected"
    before = files_under(folder)
    # Of a large area, rows and columns 40..43: chunk (2, 2), at level 1 (1, 1), above (0, 0).
    area = Region(10, 10, Size(50, 60))
    _, labels = ws.labels_to_correct(result, area)
    labels[30:34, 30:34] = 3
    ws.correct(result, area, labels)
    after = files_under(folder)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {"zarr.json", "0/c/2/2", "1/c/1/1", "2/c/0/0", "3/c/0/0"}
    assert {"zarr.json", "0/c/2/2", "1/c/1/1"} <= changed
    assert set(before) <= set(after)


def test_the_prediction_stays_untouched(result):
    def prediction():
        files = files_under(result.path)
        return {name: held for name, held in files.items() if not name.startswith("labels/corr")}

    before = prediction()
    listed = before.pop("labels/zarr.json")
    fill_of(result, TOP_RIGHT, 1)
    fill_of(result, TOP_RIGHT, 2)
    after = prediction()
    assert after.pop("labels/zarr.json") != listed
    assert after == before
    assert ws.measure(result).corrected is False
    ws.discard_corrections(result)
    assert prediction().pop("labels/zarr.json")[1] == prediction()["labels/zarr.json"][1]
    assert json.loads((result.path / "labels/zarr.json").read_text())["attributes"]["ome"][
        "labels"
    ] == ["tissue"]
    assert not ws.has_corrections(result)
    assert ws.corrections(result) == ()
    ws.discard_corrections(result)
    assert sorted(path.name for path in (result.path / "labels").iterdir()) == [
        "tissue", "zarr.json",
    ]  # fmt: skip


def test_other_readers_open_it(result):
    fill_of(result, TOP_RIGHT, 2)
    fill_of(result, Region(0, 0, Size(20, 20)), 1)
    image = ImageLabel.from_zarr(group_of(result))
    assert image.attributes.ome.image_label.source.image == "../../"
    names = [entry.name for entry in image.attributes.ome.image_label.properties]
    assert names == ["Tumour", "Stroma", "Other"]
    labels = zarr.open_group(result.path / "labels", mode="r")
    assert Labels.from_zarr(labels).label_paths == ["tissue", "corrected"]
    nodes = {node.zarr.basename(): node for node in Reader(parse_url(result.path))()}
    with LabelMap(result, corrected=True) as read:
        expected = read.read(Region(0, 0, result.size)).labels[0]
    np.testing.assert_array_equal(nodes["corrected"].data[0].compute(), expected)


def test_nothing_changed_is_nothing_kept(result):
    _, labels = ws.labels_to_correct(result, TOP_RIGHT)
    assert ws.correct(result, TOP_RIGHT, labels).pixels == 0
    assert not ws.has_corrections(result)
    assert not (result.path / "lock").exists()


@pytest.mark.parametrize(
    ("area", "painted", "words"),
    [
        (TOP_RIGHT, np.zeros((30, 40), np.uint8), r"shape \(30, 41\)"),
        (TOP_RIGHT, np.zeros((1, 30, 41), np.uint8), r"shape \(30, 41\)"),
        (TOP_RIGHT, np.zeros((30, 41)), "float64"),
        (TOP_RIGHT, np.full((30, 41), 4), r"label 4 .* 1 \(Tumour\), 2 \(Stroma\), 3 \(Other\)"),
        (TOP_RIGHT, np.full((30, 41), -1), "label -1"),
        (Region(70, 0, Size(5, 5)), np.zeros((5, 5), np.uint8), "outside the map"),
        (Region(0, 0, Size(0, 0)), np.zeros((0, 0), np.uint8), "outside the map"),
        (((1, 1), (2, 2)), np.zeros((1, 1), np.uint8), "three or more vertices"),
        (((1, 1), (2, np.nan), (9, 9)), np.zeros((1, 1), np.uint8), "three or more vertices"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(result, area, painted, words):
    before = files_under(result.path)
    with pytest.raises(JobError, match=words):
        ws.correct(result, area, painted)
    assert files_under(result.path) == before
    assert not ws.has_corrections(result)


def test_the_background_cannot_be_painted(tmp_path):
    with (
        result_at(tmp_path / "m.ome.zarr", WITH_BACKGROUND) as pm,
        pytest.raises(JobError, match=r"label 3 .* paint 0 \(none\), 1 \(Tumour\), 2 \(Stroma\)"),
    ):
        fill_of(pm, TOP_RIGHT, 3)


def test_a_map_in_memory_is_to_be_saved_first(tmp_path):
    with result_at(None) as pm:
        with pytest.raises(StoreError, match=r"in memory.*pm\.save"):
            fill_of(pm, TOP_RIGHT, 1)
        assert not ws.has_corrections(pm)
        assert ws.corrections(pm) == ()
        ws.discard_corrections(pm)
        with pytest.raises(StoreError, match="in memory"):
            ws.measure(pm, corrected=True)
        pm.save(tmp_path / "saved.ome.zarr")
    with ws.ProbabilityMap.open(tmp_path / "saved.ome.zarr") as pm:
        assert fill_of(pm, TOP_RIGHT, 1).pixels
        # They go along.
        pm.save(tmp_path / "again.ome.zarr")
        corrections = ws.corrections(pm)
    with ws.ProbabilityMap.open(tmp_path / "again.ome.zarr") as pm:
        assert ws.corrections(pm) == corrections


def test_a_result_that_is_being_written_is_refused(result):
    fill_of(result, TOP_RIGHT, 1)
    lock = WriterLock.acquire(result.path)
    before = files_under(result.path)
    with pytest.raises(StoreError, match="is being written by process"):
        fill_of(result, TOP_RIGHT, 2)
    with pytest.raises(StoreError, match="is being written by process"):
        ws.discard_corrections(result)
    assert files_under(result.path) == before
    lock.release()
    fill_of(result, TOP_RIGHT, 2)
    assert not (result.path / "lock").exists()


def test_without_corrections_there_is_nothing_to_read(result):
    with pytest.raises(StoreError, match="nothing was corrected"):
        ws.measure(result, corrected=True)


@contextmanager
def small_files(limit):
    """As on a full disk: files end where they are written beyond."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [100, 600, 2000])
def test_a_full_disk_leaves_no_first_correction(result, limit):
    before = files_under(result.path)
    with small_files(limit), pytest.raises(StoreError, match="cannot be written"):
        fill_of(result, TOP_RIGHT, 1)
    assert files_under(result.path) == before
    assert not list(result.path.rglob("*.partial*"))
    assert fill_of(result, TOP_RIGHT, 1).pixels


@pytest.mark.parametrize("written", range(5))
def test_a_full_disk_leaves_the_earlier_corrections(result, monkeypatch, written):
    fill_of(result, TOP_RIGHT, 1)
    before, write, calls = files_under(result.path), Path.write_bytes, []

    def full(path, data):
        calls.append(path)
        if len(calls) > written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="No space left"):
        fill_of(result, TOP_RIGHT, 2)
    monkeypatch.undo()
    assert files_under(result.path) == before
    assert len(ws.corrections(result)) == 1


@pytest.mark.parametrize("earlier", [0, 1])
def test_what_could_not_be_read_again_is_not_written(result, monkeypatch, earlier):
    for _ in range(earlier):
        fill_of(result, TOP_RIGHT, 1)
    before = files_under(result.path)
    with monkeypatch.context() as patch:
        # What was written is read by the true bound.
        patch.setattr(labels_record, "read_bounded", lambda path, _: path.read_bytes())
        patch.setattr(labels_record, "LARGEST_JSON", 1000)
        with pytest.raises(StoreError, match="paint within simpler outlines"):
            fill_of(result, TOP_RIGHT, 2)
    assert files_under(result.path) == before


def test_a_list_of_labels_that_cannot_be_read_leaves_no_correction(result):
    (result.path / "labels" / "zarr.json").write_text("[]")
    before = files_under(result.path)
    with pytest.raises(StoreError, match="list of the result's label images"):
        fill_of(result, TOP_RIGHT, 1)
    assert files_under(result.path) == before


def test_steps_that_are_closed_leave_nothing(result):
    before = files_under(result.path)
    steps = ws.correct_steps(result, TOP_RIGHT, np.full((30, 41), 1))
    parts = [next(steps), next(steps)]
    assert 0 < parts[0] < parts[1] < 1
    assert ws.ProbabilityMap.open(result.path).status == "complete"
    steps.close()
    assert files_under(result.path) == before
    parts = list(ws.correct_steps(result, TOP_RIGHT, np.full((30, 41), 1)))
    assert parts == sorted(parts)
    assert parts[-1] == 1


def test_what_a_killed_writer_left_goes(result):
    fill_of(result, TOP_RIGHT, 1)
    labels = result.path / "labels"
    left = [
        labels / f"corrected.{'0' * 32}.partial" / "0" / "zarr.json",
        labels / "corrected" / "0" / "c" / "0" / f"3.{'0' * 32}.partial",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    fill_of(result, TOP_RIGHT, 2)
    assert not list(result.path.rglob("*.partial"))


def edit(pm, **values):
    path = pm.path / "labels" / "corrected" / "zarr.json"
    group = json.loads(path.read_text())
    group["attributes"]["napari_wsiseg"] |= values
    path.write_text(json.dumps(group))


def lose_level(pm):
    (pm.path / "labels" / "corrected" / "1" / "zarr.json").unlink()


def change_shape(pm):
    path = pm.path / "labels" / "corrected" / "1" / "zarr.json"
    path.write_text(path.read_text().replace("35", "36", 1))


def spoil(pm):
    (pm.path / "labels" / "corrected" / "zarr.json").write_text("{}")


@pytest.mark.parametrize(
    "damage",
    [
        lose_level,
        change_shape,
        spoil,
        lambda pm: edit(pm, corrections=3),
        lambda pm: edit(pm, rule={"default": 7}),
        lambda pm: edit(pm, result="0" * 64),
        lambda pm: edit(pm, pixels=[1]),
    ],
)
def test_damage_is_told_and_can_be_discarded(result, damage):
    fill_of(result, TOP_RIGHT, 1)
    damage(result)
    before = files_under(result.path)
    for use in (
        lambda: fill_of(result, TOP_RIGHT, 2),
        lambda: ws.correct(result, TOP_RIGHT, np.full((30, 41), 2)),
        lambda: ws.corrections(result),
        lambda: ws.measure(result, corrected=True),
    ):
        with pytest.raises(StoreError, match=r"damaged.*discard the corrections"):
            use()
    assert files_under(result.path) == before
    ws.measure(result)
    ws.discard_corrections(result)
    fill_of(result, TOP_RIGHT, 2)


def test_a_damaged_chunk_is_told(result):
    fill_of(result, TOP_RIGHT, 1)
    (result.path / "labels" / "corrected" / "0" / "c" / "0" / "4").write_bytes(b"rubbish")
    before = files_under(result.path)
    for use in (
        lambda: ws.correct(result, TOP_RIGHT, np.full((30, 41), 2)),
        lambda: ws.measure(result, corrected=True),
    ):
        with pytest.raises(StoreError, match=r"damaged \(level 0"):
            use()
    assert files_under(result.path) == before


def test_labels_of_no_class_are_told(result):
    fill_of(result, TOP_RIGHT, 1)
    zarr.open_group(result.path / "labels" / "corrected", mode="r+")["0"][69, 100] = 4
    with pytest.raises(StoreError, match=r"damaged \(level 0 holds the label 4"):
        ws.measure(result, corrected=True)


def test_a_run_that_went_on_is_not_mixed_with_older_corrections(result):
    fill_of(result, TOP_RIGHT, 1)
    edit(result, finished_chunks=3)
    with pytest.raises(StoreError, match=r"3 finished chunks.*has 35 by now"):
        ws.measure(result, corrected=True)
    assert ws.has_corrections(result)


def counted(pm, expected, inside=None):
    """Areas the plain way: a pixel with a label is analysed tissue."""
    inside = np.ones(SHAPE, bool) if inside is None else inside
    tissue = (TISSUE | (expected > 0)) & inside
    analysed = ((TISSUE & COVERED) | (expected > 0)) & inside
    named = {name: int((inside & (expected == i + 1)).sum()) for i, name in enumerate(pm.classes)}
    return named | {
        UNCLASSIFIED: int((analysed & (expected == 0)).sum()),
        NOT_ANALYSED: int((tissue & ~analysed).sum()),
        TOTAL: int(tissue.sum()),
    }


def test_corrected_labels_are_measured_wherever_they_were_painted(result):
    # On glass, on tissue that the model did not see, and nothing where it saw something.
    fill_of(result, TOP_RIGHT, 2)
    fill_of(result, Region(20, 0, Size(10, 10)), 1)
    fill_of(result, Region(40, 40, Size(10, 10)), 0)
    expected = group_of(result)["0"][:]
    areas = ws.measure(result, corrected=True)
    assert {row.name: row.pixels for row in areas.rows} == counted(result, expected)
    assert areas.corrected
    assert sum(row.fraction for row in areas.rows[:4]) == pytest.approx(1)
    region = Region(15, 5, Size(40, 70))
    inside = np.zeros(SHAPE, bool)
    inside[region.slices] = True
    (table,) = ws.measure(result, corrected=True, regions=[region])
    assert {row.name: row.pixels for row in table.rows} == counted(result, expected, inside)
    estimate = ws.measure(result, corrected=True, estimate=True)
    assert (estimate.estimated, estimate.corrected) == (True, True)
    assert [row.pixels for row in estimate.rows] == [row.pixels for row in areas.rows]


def test_an_estimate_of_corrected_labels_sees_the_corrections(tmp_path):
    shape = (1600, 2048)
    with result_at(tmp_path / "m.ome.zarr", shape=shape, chunk=256) as pm:
        fill_of(pm, Region(0, 0, Size(1600, 1000)), 2)
        exact, about = (ws.measure(pm, corrected=True, estimate=e) for e in (False, True))
    assert exact["Stroma"].fraction > 0.6
    for row in exact.classes:
        assert about[row.name].fraction == pytest.approx(row.fraction, abs=0.01)


def test_a_clean_up_goes_on_top(result):
    fill_of(result, Region(0, 0, Size(70, 101)), 0)
    fill_of(result, Region(0, 90, Size(10, 11)), 2)
    fill_of(result, Region(30, 30, Size(2, 2)), 1)
    cleanup = ws.Cleanup(min_object_um2=10)
    areas = ws.measure(result, cleanup=cleanup, corrected=True)
    assert [row.pixels for row in areas.classes] == [0, 110, 0]
    assert areas[UNCLASSIFIED].pixels == int((TISSUE & COVERED).sum())


def test_overlapping_classes_and_stains_are_exclusive_then(tmp_path):
    with result_at(tmp_path / "m.ome.zarr", STAIN) as pm:
        plain = ws.measure(pm)
        assert sum(row.pixels for row in plain.classes) > plain.analysed
        fill_of(pm, TOP_RIGHT, 2)
        areas = ws.measure(pm, corrected=True)
    assert sum(row.pixels for row in areas.rows[:3]) == areas.analysed
    assert all(stain.beside == () for stain in areas.stains)
    assert "at DAB OD >= 0.25, corrected by hand; mean" in stain_readout(areas)[1]


def test_corrected_labels_are_read_level_by_level(result):
    fill_of(result, TOP_RIGHT, 2)
    expected = group_of(result)["0"][:]
    for level, size in enumerate(result.layout.sizes):
        with LabelMap(result, level=level, corrected=True) as labels:
            found = labels.read(Region(0, 0, size))
        np.testing.assert_array_equal(found.labels[0], mode_under(expected, level))
        assert found.block.analysed[found.labels[0] > 0].all()


def test_memory_is_that_of_strips_whatever_the_height(tmp_path):
    peaks = []
    for rows in (1024, 4096):
        with result_at(tmp_path / f"{rows}.zarr", shape=(rows, 512), chunk=128) as pm:
            tracemalloc.start()
            fill_of(pm, Region(0, 0, Size(64, 64)), 1)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # All labels would add 1.5 MB; what grows are names of files.
    assert peaks[1] < peaks[0] + 2**19


@pytest.mark.parametrize("renames", [0, 1, 2, 4, 8, 10])
def test_after_a_cut_between_renames_painting_again_mends_every_level(result, monkeypatch, renames):
    fill_of(result, TOP_RIGHT, 1)
    expected = group_of(result)["0"][:]
    expected[TOP_RIGHT.slices] = 2
    rename, renamed = Path.replace, []

    def cut(path, target):
        if len(renamed) == renames:
            raise KeyboardInterrupt
        renamed.append(target.name)
        rename(path, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        fill_of(result, TOP_RIGHT, 2)
    monkeypatch.undo()
    assert renamed[:1] == ["zarr.json"][:renames]
    assert len(ws.corrections(result)) == 1 + (renames > 0)
    assert fill_of(result, TOP_RIGHT, 2).pixels
    for level in range(len(result.layout.sizes)):
        np.testing.assert_array_equal(group_of(result)[f"{level}"][:], mode_under(expected, level))
    assert not list(result.path.rglob("*.partial"))


def test_corrections_that_another_process_has_just_discarded_are_gone(result, monkeypatch):
    ws.correct(result, TOP_RIGHT, np.full((30, 41), 2, np.uint8))
    acquire = WriterLock.acquire

    def late(folder):
        monkeypatch.setattr(WriterLock, "acquire", acquire)
        ws.discard_corrections(result)
        return acquire(folder)

    monkeypatch.setattr(WriterLock, "acquire", late)
    ws.discard_corrections(result)
    assert ws.corrections(result) == ()
