"""The clean-up, computed in strips, is that of one whole array."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from maps import SIGMOID, SOFTMAX, map_of
from napari_wsiseg.errors import ExportError, JobError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import Cleanup, DecisionRule, LabelMap
from napari_wsiseg.labels.clean import Cleaner, Labelled
from napari_wsiseg.store.lock import is_written

MICRON = YX(1.0, 1.0)
CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = ndimage.generate_binary_structure(2, 2)


def smoothed(labels, analysed, radius, mpp):
    """Word by word: count the votes of each label, neighbour by neighbour."""
    height, width = labels.shape
    codes = np.unique(labels)
    votes = np.zeros((len(codes), height, width), int)
    margin = int(radius / min(mpp)) + 1
    ballots = np.pad(np.where(analysed, labels.astype(int), -1), margin, constant_values=-1)
    for dy, dx in np.ndindex(2 * margin + 1, 2 * margin + 1):
        if ((dy - margin) * mpp.y) ** 2 + ((dx - margin) * mpp.x) ** 2 <= radius**2:
            votes += ballots[dy : dy + height, dx : dx + width] == codes[:, None, None]
    result = labels.copy()
    for y, x in np.ndindex(height, width):
        own = votes[np.searchsorted(codes, labels[y, x]), y, x]
        if analysed[y, x] and own < votes[:, y, x].max():
            result[y, x] = codes[votes[:, y, x].argmax()]
    return result


def without_small_objects(labels, least):
    result = labels.copy()
    for code in set(np.unique(labels)) - {0}:
        numbers, count = ndimage.label(labels == code, CROSS)
        for number in range(1, count + 1):
            if (numbers == number).sum() < least:
                result[numbers == number] = 0
    return result


def with_holes_filled(labels, analysed, largest):
    numbers, count = ndimage.label((labels == 0) & analysed, SQUARE)
    result = labels.copy()
    for number in range(1, count + 1):
        hole = numbers == number
        padded = np.pad(hole, 1)
        ring = (ndimage.binary_dilation(padded, CROSS) & ~padded)[1:-1, 1:-1]
        at_edge = hole[[0, -1]].any() or hole[:, [0, -1]].any()
        around = np.unique(np.where(analysed, labels, 0)[ring])
        if not at_edge and hole.sum() <= largest and len(around) == 1 and around[0] > 0:
            result[hole] = around[0]
    return result


def cleaned(labels, analysed, cleanup, mpp=MICRON):
    pixel = mpp.y * mpp.x
    if cleanup.smooth_um:
        labels = smoothed(labels, analysed, cleanup.smooth_um, mpp)
    labels = without_small_objects(labels, cleanup.min_object_um2 / pixel)
    return with_holes_filled(labels, analysed, cleanup.fill_hole_um2 / pixel)


def read_all(labels):
    return labels.read(Region(0, 0, labels.size)).labels


@st.composite
def label_images(draw, classes):
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    # Few values of a coarse field, enlarged: objects and holes of many sizes.
    side = draw(st.sampled_from([1, 2, 3]))
    shape = (-(-height // side), -(-width // side))
    coarse = draw(arrays(np.uint8, shape, elements=st.integers(0, classes)))
    labels = coarse.repeat(side, 0).repeat(side, 1)[:height, :width]
    analysed = draw(arrays(bool, (height, width), elements=st.sampled_from([True] * 9 + [False])))
    return labels, analysed


CLEANUPS = st.builds(
    Cleanup,
    min_object_um2=st.sampled_from([0, 2, 5, 12]),
    fill_hole_um2=st.sampled_from([0, 1, 4, 30]),
    smooth_um=st.sampled_from([0, 1, 1.5, 2.9, 7]),
)


@given(label_images(3), CLEANUPS, st.sampled_from([2, 4, 6, 16]))
def test_strips_are_cleaned_as_one_array(image, cleanup, chunk):
    labels, analysed = image
    analysed &= labels != 3  # exclusive classes without a threshold leave nothing unlabelled
    values = (labels[None] == np.array([1, 2, 0])[:, None, None]).astype(float)
    rule = DecisionRule(thresholds={"Tumour": 0.5, "Stroma": 0.5, "Other": 1.0})
    values[2] *= 0.6
    pm = map_of(values, SOFTMAX, coverage=analysed, mpp=MICRON, chunk=chunk)
    before = np.where(analysed, labels, 0).astype(np.uint8)
    with LabelMap(pm, rule, cleanup) as found:
        np.testing.assert_array_equal(read_all(found)[0], cleaned(before, analysed, cleanup))


@given(arrays(bool, (2, 13, 17)), arrays(bool, (13, 17)), arrays(bool, (13, 17)), CLEANUPS)
def test_classes_that_overlap_are_cleaned_one_by_one(masks, covered, tissue, cleanup):
    mpp = YX(1.0, 0.5)
    pm = map_of(masks.astype(float), SIGMOID, coverage=covered, tissue=tissue, mpp=mpp, chunk=4)
    with LabelMap(pm, cleanup=cleanup) as found:
        labels = read_all(found)
    for code, mask in enumerate(masks, 1):
        analysed = covered & tissue
        before = (mask & analysed).astype(np.uint8)
        np.testing.assert_array_equal(
            labels[code - 1], code * cleaned(before, analysed, cleanup, mpp)
        )


def test_a_spiral_over_every_seam_is_one_object():
    spiral = np.zeros((40, 40), bool)
    spiral[::4] = True
    for row in range(0, 36, 4):
        spiral[row : row + 5, 39 if row % 8 == 0 else 0] = True
    pm = map_of(np.stack([spiral, spiral * 0.0]), SIGMOID, mpp=MICRON, chunk=4)
    area = int(spiral.sum())
    for least, left in ((area, area), (area + 1, 0)):
        with LabelMap(pm, cleanup=Cleanup(min_object_um2=least)) as labels:
            assert (read_all(labels)[0] > 0).sum() == left


@pytest.mark.parametrize("columns", [(3, 4), (4, 3)])
def test_a_hole_goes_on_around_a_corner_at_a_seam(columns):
    full = np.ones((2, 8, 8))
    full[0, [3, 4], columns] = 0
    pm = map_of(full, SIGMOID, mpp=MICRON, chunk=4)
    for largest, left in ((1, 62), (2, 64)):
        with LabelMap(pm, cleanup=Cleanup(fill_hole_um2=largest)) as labels:
            assert (read_all(labels)[0] > 0).sum() == left


@pytest.mark.parametrize("row", [3, 4])
def test_another_label_beyond_a_seam_keeps_a_hole_open(row):
    """Of two classes that meet at the seam between rows 3 and 4, one has a hole there."""
    upper = np.zeros((8, 8), bool)
    upper[:4] = True
    values = np.stack([upper, ~upper, np.zeros((8, 8))]).astype(float)
    values[:, row, 3] = 0.3, 0.3, 0.4
    for beyond, filled in ((7 - row, False), (row, True)):
        values[:, 7 - row, 3] = values[:, beyond, 0]
        pm = map_of(values, SOFTMAX, mpp=MICRON, chunk=4)
        with LabelMap(pm, DecisionRule(default=0.5), Cleanup(fill_hole_um2=1)) as labels:
            assert (read_all(labels)[0, row, 3] > 0) == filled


def test_an_object_that_went_is_no_edge_of_a_hole_beyond_a_seam():
    values = np.zeros((3, 8, 8))
    values[0, 1:6, 2:5] = 1
    values[:, [3, 4], 3] = [[0, 0], [0, 1], [0, 0]]
    cleanup = Cleanup(min_object_um2=2, fill_hole_um2=2)
    pm = map_of(values, SOFTMAX, mpp=MICRON, chunk=4)
    with LabelMap(pm, DecisionRule(default=0.5), cleanup) as labels:
        assert (read_all(labels)[0, 1:6, 2:5] == 1).all()


def test_areas_are_in_um_of_the_map():
    spot = np.zeros((2, 16, 16))
    spot[0, 4:8, 4:8] = 1  # 16 px of 0.25 µm²
    pm = map_of(spot, SIGMOID, mpp=YX(0.5, 0.5))
    for least, left in ((4, 16), (4.01, 0)):
        with LabelMap(pm, cleanup=Cleanup(min_object_um2=least)) as labels:
            assert (read_all(labels)[0] > 0).sum() == left


def test_a_hole_beyond_which_nothing_was_analysed_stays():
    ring = np.zeros((2, 16, 16))
    ring[0, 2:12, 2:12] = 1
    ring[0, 5:8, 5:8] = 0
    covered = np.ones((16, 16), bool)
    for lost in (False, True):
        covered[6, 6] = not lost
        pm = map_of(ring, SIGMOID, coverage=covered, mpp=MICRON)
        with LabelMap(pm, cleanup=Cleanup(fill_hole_um2=9)) as labels:
            assert (read_all(labels)[0, 5:8, 5:8] > 0).all() != lost


def test_a_clean_up_that_does_nothing_needs_no_scale():
    pm = map_of(np.ones((2, 8, 8)), SIGMOID, mpp=None)
    with LabelMap(pm, cleanup=Cleanup()) as labels:
        assert read_all(labels).all()
    with pytest.raises(JobError, match="no scale"):
        LabelMap(pm, cleanup=Cleanup(smooth_um=1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_object_um2": -1}, "min_object_um2 cannot be -1"),
        ({"fill_hole_um2": float("nan")}, "fill_hole_um2"),
        ({"smooth": 1}, "no field 'smooth'"),
    ],
)
def test_what_no_clean_up_is(values, words):
    with pytest.raises(JobError, match=words):
        Cleanup(**values)


def test_a_disc_without_end_is_refused():
    pm = map_of(np.ones((2, 8, 8)), SIGMOID, mpp=YX(0.5, 0.5))
    with pytest.raises(JobError, match="at most 100 µm"):
        LabelMap(pm, cleanup=Cleanup(smooth_um=101))


def test_what_was_kept_for_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pm = map_of(np.ones((2, 8, 8)), SIGMOID, mpp=MICRON)
    with LabelMap(pm, cleanup=Cleanup(smooth_um=1)) as labels:
        assert [0 < part <= 1 for part in labels.prepare()] == [True]
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    pm = map_of(np.ones((2, 8, 8)), SIGMOID, mpp=MICRON)
    with (
        pytest.raises(ExportError, match="nowhere"),
        LabelMap(pm, cleanup=Cleanup(smooth_um=1)) as labels,
    ):
        read_all(labels)
    assert not Path(tmp_path / "nowhere").exists()


def test_a_map_that_grows_meanwhile_is_cleaned_as_it_was_first_read():
    rng = np.random.default_rng(5)
    labels = np.kron(rng.integers(0, 3, (20, 15)), np.ones((2, 2), int)).astype(np.uint8)
    early, late = rng.random((2, *labels.shape)) < 0.8
    asked = []

    def read(region):
        analysed = (early if region not in asked else late)[region.slices]
        asked.append(region)
        return Labelled((labels[region.slices] * analysed)[None], analysed)

    cleanup = Cleanup(min_object_um2=3, fill_hole_um2=9, smooth_um=1)
    size = Size(*labels.shape)
    found = np.zeros((2, *labels.shape), np.uint8)
    for _ in Cleaner(read, size, cleanup.at(MICRON), found, 4).steps():
        pass
    np.testing.assert_array_equal(found[0], cleaned(labels * early, early, cleanup))
    # What was read twice may have been another map each time; it takes its time, too.
    assert len(asked) == len(set(asked))


def test_cleaned_labels_lie_in_a_folder_that_the_next_removes_if_we_die(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    pm = map_of(np.ones((3, 8, 8)), SOFTMAX)
    with LabelMap(pm, DecisionRule(), Cleanup(smooth_um=5.0)) as labels:
        list(labels.prepare())
        (folder,) = tmp_path.iterdir()
        assert is_written(folder)
    assert list(tmp_path.iterdir()) == []
