"""Areas: what is counted, out of what, and in which words."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import immunohistochemistry

import napari_wsiseg as ws
from maps import SIGMOID, SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import JobError, StoreError
from napari_wsiseg.geometry import YX
from napari_wsiseg.labels import DecisionRule, decide, decide_masks
from napari_wsiseg.measure import (
    NOT_ANALYSED,
    TOTAL,
    UNCLASSIFIED,
    in_digits,
    measure,
    stain_readout,
)
from napari_wsiseg.spec import ModelSpec

WITH_BACKGROUND = ModelSpec("tissue", ("Background", "Tissue"), background=0)


def random_map(spec, seed, *, shape=(45, 200), has_tissue=True, dtype="uint8", chunk=16):
    rng = np.random.default_rng(seed)
    covered = rng.random(shape) < 0.6
    covered[:16, 16:64] = False
    tissue = rng.random(shape) < 0.5 if has_tissue else None
    probabilities = rng.random((len(spec.classes), *shape))
    return map_of(probabilities, spec, coverage=covered, tissue=tissue, dtype=dtype, chunk=chunk)


@settings(max_examples=30)
@given(
    st.sampled_from([SOFTMAX, SIGMOID, STAIN, WITH_BACKGROUND]),
    st.integers(0, 2**31),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["uint8", "float32"]),
    st.none() | st.floats(0, 1),
)
def test_the_streamed_counts_are_those_of_whole_arrays(spec, seed, has_tissue, clip, dtype, t):
    pm = random_map(spec, seed, has_tissue=has_tissue, dtype=dtype)
    rule = DecisionRule(default=t, clip_to_tissue=clip)
    values, covered = pm.levels[0].compute(), pm.coverage[0].compute()
    tissue = np.ones_like(covered) if pm.tissue is None else pm.tissue[0].compute()
    masks = decide_masks(values, covered, tissue, spec, DecisionRule(default=t))

    areas = measure(pm, rule)
    analysed = np.count_nonzero(covered & tissue)
    assert areas.analysed == analysed
    for index, name in enumerate(spec.classes):
        if index != spec.background:
            assert areas[name].pixels == np.count_nonzero(masks[index])
            assert areas[name].fraction == pytest.approx(masks[index].sum() / analysed)
    assert areas[UNCLASSIFIED].pixels == analysed - np.count_nonzero(masks.any(0))
    assert areas[NOT_ANALYSED].pixels == np.count_nonzero(tissue & ~covered)
    assert areas[TOTAL].pixels == np.count_nonzero(tissue)
    if spec.exclusive:
        labels = decide(values, covered, tissue, spec, DecisionRule(default=t))
        assert sum(row.pixels for row in areas.classes) == np.count_nonzero(labels)


def test_rows_leave_the_background_out_and_end_with_the_tissue():
    areas = measure(random_map(WITH_BACKGROUND, 1))
    assert [row.name for row in areas.rows] == ["Tissue", UNCLASSIFIED, NOT_ANALYSED, TOTAL]
    assert [row.name for row in areas.classes] == ["Tissue"]
    assert areas[NOT_ANALYSED].fraction is None
    assert areas[TOTAL].fraction is None


def test_areas_take_the_scale_of_each_axis():
    probabilities = np.zeros((3, 20, 30))
    probabilities[1] = 1
    areas = measure(map_of(probabilities, SOFTMAX, mpp=YX(0.5, 0.25)))
    assert areas["Stroma"].area_mm2 == pytest.approx(600 * 0.5 * 0.25 / 1e6)
    assert (areas.mpp, areas.mpp_source) == (YX(0.5, 0.25), "metadata")


@pytest.mark.parametrize(
    ("area", "words"),
    [(0, "0"), (0.0012345, "0.00123"), (12.345, "12.3"), (999.7, "1000"), (1875.4, "1875")],
)
def test_areas_in_digits(area, words):
    assert in_digits(area) == words


def test_without_a_scale_there_are_pixels_and_no_mm2():
    areas = measure(map_of(np.ones((3, 20, 30)), SOFTMAX, mpp=None))
    assert areas["Tumour"].pixels == 600
    assert areas["Tumour"].fraction == 1
    assert {row.area_mm2 for row in areas.rows} == {None}


def test_overlapping_masks_are_each_counted_whole():
    areas = measure(map_of(np.ones((2, 20, 30)), SIGMOID))
    assert [row.fraction for row in areas.classes] == [1, 1]
    assert areas[UNCLASSIFIED].pixels == 0


def test_a_map_that_nothing_covers():
    nothing = np.zeros((20, 30), bool)
    for spec in (SOFTMAX, STAIN):
        pm = map_of(np.ones((len(spec.classes), 20, 30)), spec, coverage=nothing)
        areas = measure(pm)
        assert [row.pixels for row in areas.rows[-3:]] == [0, 600, 600]
        assert {row.fraction for row in areas.rows} == {None}
        assert stain_readout(areas) == []


def test_an_unknown_class():
    with pytest.raises(JobError, match="did you mean 'Tumour'"):
        measure(random_map(SOFTMAX, 1), DecisionRule({"Tumor": 0.5}))


def test_a_damaged_result_is_one_sentence(tmp_path):
    path = tmp_path / "map.ome.zarr"
    map_of(np.random.default_rng(0).random((3, 20, 30)), SOFTMAX, path=path).close()
    (path / "0" / "c" / "0" / "0" / "1").write_bytes(b"nothing of ours")
    with (
        ws.ProbabilityMap.open(path) as pm,
        pytest.raises(StoreError, match=r"read in its rows 0 to 16, columns 0 to 30 \(\w+\); the"),
    ):
        measure(pm)


def test_chunks_that_no_patch_reaches_are_not_looked_at(tmp_path):
    covered = np.zeros((64, 64), bool)
    covered[:16, :16] = True
    path = tmp_path / "map.ome.zarr"
    map_of(np.ones((3, 64, 64)), SOFTMAX, coverage=covered, path=path).close()
    # Reading it would fail.
    broken = path / "coverage" / "0" / "c" / "2" / "2"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"nothing of ours")
    with ws.ProbabilityMap.open(path) as pm:
        assert measure(pm)["Tumour"].pixels == 256


@pytest.fixture(scope="module")
def readable():
    """hdab-stain on scikit-image's picture, all pixels."""
    import torch

    model = ws.load_model("hdab-stain", device="cpu")
    picture = np.tile(immunohistochemistry(), (2, 2, 1))
    answer = model.predict(torch.from_numpy(picture)[None])[0].numpy()
    return map_of(answer, model.spec, chunk=512)


class TestStains:
    def test_the_picture_reads_as_published(self, readable):
        # 58.2 / 55.2 / 51.5 % at DAB OD 0.20 / 0.25 / 0.30.
        for density, percent in ((0.20, 58.2), (0.25, 55.2), (0.30, 51.5)):
            areas = measure(readable, DecisionRule({"DAB": density / 2}))
            assert 100 * areas["DAB"].fraction == pytest.approx(percent, abs=0.3)

    def test_in_words(self, readable):
        areas = measure(readable)
        _, dab = stain_readout(areas)
        assert re.fullmatch(
            r"DAB-positive area 5\d\.\d % of tissue \(0\.14\d of 0\.262 mm²\) at DAB OD >= 0\.25; "
            r"mean DAB OD in positive area 0\.\d\d; 58\.\d-51\.\d % at 0\.20-0\.30",
            dab,
        )
        values = readable.probabilities(0).compute()[1]
        mask = values >= np.float32(0.125)
        assert areas.stains[1].mean == pytest.approx(2 * values[mask].mean(), rel=1e-5)
        (low, most), (high, least) = areas.stains[1].beside
        assert (low, high) == pytest.approx((0.20, 0.30))
        assert most == pytest.approx((values >= np.float32(0.1)).mean())
        assert least == pytest.approx((values >= np.float32(0.15)).mean())

    def test_a_stain_that_there_is_none_of(self):
        areas = measure(map_of(np.zeros((2, 20, 30)), STAIN, mpp=None))
        assert stain_readout(areas)[1] == (
            "DAB-positive area 0.0 % of tissue at DAB OD >= 0.25; 0.0-0.0 % at 0.20-0.30"
        )

    def test_dominant_stains_and_floats(self):
        spec = ModelSpec("he", ("Hematoxylin-dominant", "Eosin-dominant"), activation="stain")
        pm = map_of(np.full((2, 20, 30), 0.75), spec, mpp=None, dtype="float32")
        assert stain_readout(measure(pm))[1] == (
            "Eosin-dominant area 100.0 % of tissue at Eosin OD >= 1.00; "
            "mean Eosin OD in dominant area 1.50; 100.0-100.0 % at 0.95-1.05"
        )

    def test_other_models_have_none(self):
        areas = measure(random_map(SIGMOID, 0))
        assert areas.stains == ()
        assert stain_readout(areas) == []


def test_memory_does_not_grow_with_the_height():
    def peak(rows):
        pm = map_of(np.ones((3, rows, 512), np.float32), SOFTMAX, chunk=128)
        measure(pm)
        tracemalloc.start()
        measure(pm)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # A tenth of what the map itself grows by.
    assert peak(4096) - peak(512) < (4096 - 512) * 512 * 3 / 10
