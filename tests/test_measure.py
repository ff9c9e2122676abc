"""Areas: what is counted, out of what, and in which words."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi
from skimage.data import immunohistochemistry

import napari_wsiseg as ws
from maps import SIGMOID, SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import JobError, StoreError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import Cleanup, DecisionRule, LabelMap, decide, decide_masks
from napari_wsiseg.measure import (
    NOT_ANALYSED,
    TOTAL,
    UNCLASSIFIED,
    in_digits,
    measure,
    measure_labels,
    stain_readout,
    table_rows,
)
from napari_wsiseg.regions import NamedRegion, mask_of
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
    [
        (0, "0"),
        (8.75e-7, "0.000000875"),
        (1.25e-5, "0.0000125"),
        (0.0012345, "0.00123"),
        (12.345, "12.3"),
        (999.7, "1000"),
        (1875.4, "1875"),
    ],
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
        pytest.raises(
            StoreError, match=r"read in the rows 0 to 16, columns 0 to 30 .* \(.+\): the"
        ),
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


DOWNSAMPLE = YX(2.0, 3.0)


def a_shape(seed, size):
    """Any polygon, maybe beyond the slide."""
    corners = np.random.default_rng(seed).uniform(-0.3, 1.3, (7, 2)) * size
    return shapely.convex_hull(shapely.MultiPoint(corners[:4])).difference(
        shapely.convex_hull(shapely.MultiPoint(corners[4:]))
    )


class TestRegions:
    @settings(max_examples=20)
    @given(
        st.sampled_from([SOFTMAX, SIGMOID, STAIN, WITH_BACKGROUND]),
        st.integers(0, 2**31),
        st.booleans(),
        st.booleans(),
        st.sampled_from([0.0, 20.0]),
    )
    def test_what_lies_inside_is_counted(self, spec, seed, has_tissue, clip, least):
        rng = np.random.default_rng(seed)
        covered = rng.random((45, 200)) < 0.6
        covered[:16, 16:64] = False
        probabilities = ndi.uniform_filter(rng.random((len(spec.classes), 45, 200)), (0, 3, 3))
        pm = map_of(
            probabilities,
            spec,
            coverage=covered,
            tissue=rng.random((45, 200)) < 0.8 if has_tissue else None,
            downsample=DOWNSAMPLE,
            mpp=YX(2.0, 3.0),
        )
        tissue = np.ones_like(covered) if pm.tissue is None else pm.tissue[0].compute()
        rule, cleanup = DecisionRule(default=0.5, clip_to_tissue=clip), Cleanup(least, least)
        regions = [NamedRegion(f"R{i}", "Tumor", a_shape(seed + i, (600, 90))) for i in range(4)]
        tables = measure(pm, rule, cleanup, regions=regions)
        with LabelMap(pm, rule, cleanup) as labels:
            found = labels.read(Region(0, 0, pm.size)).labels
            assert measure_labels(labels, regions) == tables
        assert [(table.region, table.region_class) for table in tables] == [
            (region.name, "Tumor") for region in regions
        ]
        for table, region in zip(tables, regions, strict=True):
            inside = mask_of(region.shape, Region(0, 0, pm.size), DOWNSAMPLE)
            analysed = inside & covered & tissue
            assert table[TOTAL].pixels == np.count_nonzero(inside & tissue)
            assert table.analysed == np.count_nonzero(analysed)
            for row in table.classes:
                code = spec.classes.index(row.name) + 1
                pixels = np.count_nonzero((found == code).any(0) & analysed)
                assert row.pixels == pixels
                assert row.area_mm2 == pytest.approx(pixels * 6 / 1e6)
                assert row.fraction == (pixels / table.analysed if table.analysed else None)
            unclassified = np.count_nonzero(analysed & ~found.any(0))
            assert table[UNCLASSIFIED].pixels == unclassified

    @settings(max_examples=20)
    @given(st.sampled_from([SOFTMAX, STAIN]), st.integers(0, 2**31), st.integers(1, 199))
    def test_regions_that_part_the_slide_sum_to_it(self, spec, seed, cut):
        pm = random_map(spec, seed)
        boxes = [
            Region.from_bounds(0, 0, 45, cut),
            Region.from_bounds(0, cut, 20, 200),
            ((20.0, float(cut)), (20.0, 200.0), (45.0, 200.0), (45.0, float(cut))),
        ]
        whole, parts = measure(pm), measure(pm, regions=boxes)
        assert [part.region for part in parts] == ["Region 1", "Region 2", "Region 3"]
        for rows in zip(whole.rows, *(part.rows for part in parts), strict=True):
            assert rows[0].pixels == sum(row.pixels for row in rows[1:])

    def test_outside_the_slide_and_empty(self):
        pm = random_map(SOFTMAX, 1)
        shapes = [shapely.box(1000, 0, 1100, 50), shapely.box(-9, -9, 0, 0), shapely.Polygon()]
        tables = measure(pm, regions=[NamedRegion("x", None, shape) for shape in shapes])
        assert {row.pixels for table in tables for row in table.rows} == {0}
        assert {row.fraction for table in tables for row in table.rows} == {None}
        assert measure(pm, regions=[]) == []

    def test_only_chunks_that_a_region_meets_are_read(self, tmp_path):
        path = tmp_path / "map.ome.zarr"
        map_of(np.ones((3, 64, 64)), SOFTMAX, path=path).close()
        for place in ("0/c/0/0/3", "0/c/0/3/0", "0/c/0/2/2", "coverage/0/c/3/3"):
            # Reading it would fail.
            (path / place).write_bytes(b"nothing of ours")
        with ws.ProbabilityMap.open(path) as pm:
            box = Region(5, 5, Size(25, 25))
            assert measure(pm, regions=[box])[0]["Tumour"].pixels == 625
            with pytest.raises(StoreError):
                measure(pm)

    def test_many_results_make_one_table(self):
        pm = random_map(SOFTMAX, 1)
        tables = measure(pm, regions=[Region(0, 0, Size(9, 9)), Region(9, 9, Size(9, 9))])
        rows = list(table_rows([("a", tables[0]), ("a", tables[1]), ("b", measure(pm))]))
        assert len(rows) == 18
        assert [(row.result, row.table.region, row.row.name) for row in rows[5:13:6]] == [
            ("a", "Region 1", TOTAL),
            ("a", "Region 2", TOTAL),
        ]
        assert rows[-1] == ("b", measure(pm), measure(pm)[TOTAL])


class TestCleanup:
    def test_what_is_cleaned_away_is_unclassified(self):
        probabilities = np.zeros((3, 60, 60))
        probabilities[0, 10:13, 10:13] = 1
        probabilities[1, 20:50, 20:50] = 1
        probabilities[1, 30:32, 30:32] = 0
        pm = map_of(probabilities, SOFTMAX, mpp=YX(1.0, 1.0))
        rule = DecisionRule(default=0.5)
        plain = measure(pm, rule)
        cleaned = measure(pm, rule, Cleanup(min_object_um2=10, fill_hole_um2=4))
        assert [row.pixels for row in plain.classes] == [9, 896, 0]
        assert [row.pixels for row in cleaned.classes] == [0, 900, 0]
        assert cleaned[UNCLASSIFIED].pixels == 3600 - 900
        assert cleaned[TOTAL] == plain[TOTAL]

    def test_stains_then_say_nothing_of_other_thresholds(self):
        probabilities = np.zeros((2, 60, 60))
        probabilities[1, 10:40, 10:40] = 0.25
        probabilities[1, 50, 50] = 1
        pm = map_of(probabilities, STAIN, mpp=YX(1.0, 1.0), dtype="float32")
        areas = measure(pm, cleanup=Cleanup(min_object_um2=2))
        assert areas.stains[1].beside == ()
        assert stain_readout(areas)[1] == (
            "DAB-positive area 25.0 % of tissue (0.0009 of 0.0036 mm²) at DAB OD >= 0.25; "
            "mean DAB OD in positive area 0.50"
        )

    def test_it_needs_a_scale(self):
        with pytest.raises(JobError, match="no scale"):
            measure(map_of(np.ones((3, 9, 9)), SOFTMAX, mpp=None), cleanup=Cleanup(5))


def textured(seed, classes, side=2048):
    """Smooth fields with fine texture on them, of a strength that varies over the slide."""
    rng = np.random.default_rng(seed)

    def field(*sigma):
        noise = ndi.gaussian_filter(rng.standard_normal((classes, side // 8, side // 8)), sigma)
        wide = ndi.zoom(noise, (1, 8, 8), order=1)
        return wide / wide.std()

    fine = ndi.gaussian_filter(rng.standard_normal((classes, side, side)), (0, 0.5, 0.5))
    strength = 0.05 + 0.05 * np.clip(field(0, 12, 12), -1, 1)
    return np.clip(0.2 + 0.06 * field(0, 9, 9) + strength * fine / fine.std(), 0, 1)


class TestEstimates:
    def off(self, pm, rule=DecisionRule(), **options):  # noqa: B008
        """How far the worst class is off, in percentage points; and the estimate."""
        found = measure(pm, rule, estimate=True, **options)
        true = measure(pm, rule, **options)
        pairs = zip(found, true, strict=True) if options else [(found, true)]
        off = [
            abs(one.fraction - other.fraction)
            for estimate, area in pairs
            for one, other in zip(estimate.rows[:-2], area.rows[:-2], strict=True)
        ]
        return 100 * max(off), found

    @pytest.mark.parametrize("spec", [SOFTMAX, STAIN])
    @pytest.mark.parametrize("has_tissue", [False, True])
    def test_within_a_percentage_point(self, spec, has_tissue):
        probabilities = textured(3, len(spec.classes))
        rows, columns = np.mgrid[:2048, :2048]
        round_one = np.hypot(rows - 1000, columns - 1100) < 900
        tissue = round_one if has_tissue else None
        pm = map_of(probabilities, spec, tissue=tissue, coverage=columns > 300, chunk=128)
        averages = decide_masks(
            pm.levels[1].compute(), pm.coverage[1].compute(), None, spec, DecisionRule(default=0.3)
        )
        values, covered = pm.levels[0].compute(), pm.coverage[0].compute()
        fine = decide_masks(values, covered, None, spec, DecisionRule(default=0.3))
        # What the coarse level's averages alone would be off by.
        assert abs(averages.mean((1, 2)) - fine.mean((1, 2))).max() > 0.02
        for threshold in (0.05, 0.1, 0.2, 0.3):
            off, _ = self.off(pm, DecisionRule(default=threshold))
            assert off < 1, threshold

    def test_inside_regions_too(self):
        pm = map_of(textured(4, 3), SOFTMAX, chunk=128)
        shapes = [
            shapely.Point(1000, 1000).buffer(900),
            shapely.box(-100, 30, 1700, 1500),
            shapely.box(500, 500, 560, 1900),
        ]
        regions = [NamedRegion(f"{i}", None, shape) for i, shape in enumerate(shapes)]
        off, found = self.off(pm, DecisionRule(default=0.25), regions=regions)
        assert off < 1
        assert [table.region for table in found] == ["0", "1", "2"]
        # What few chunks hold is counted.
        assert found[2].rows == measure(pm, DecisionRule(default=0.25), regions=regions)[2].rows

    def test_the_demo_slide(self):
        import torch

        model = ws.load_model("hdab-stain", device="cpu")
        picture = immunohistochemistry()
        across = np.hstack([picture, picture[:, ::-1]])
        block = np.tile(np.vstack([across, across[::-1]]), (4, 4, 1))
        answer = np.concatenate(
            [
                model.predict(torch.from_numpy(block[None, top : top + 512]))[0].numpy()
                for top in range(0, 4096, 512)
            ],
            axis=1,
        )
        pm = map_of(answer, model.spec, chunk=512)
        assert pm.size.area > 8e6
        for density in (0.04, 0.1, 0.25, 0.3, 0.4, 0.6):
            off, estimate = self.off(pm, DecisionRule(default=density / 2))
            assert off < 1
        assert stain_readout(estimate)[1].startswith("DAB-positive area about ")

    def test_it_is_marked_and_the_same_every_time(self):
        pm = map_of(textured(5, 3), SOFTMAX, chunk=128)
        first, again = (measure(pm, estimate=True) for _ in range(2))
        assert first == again
        assert first.estimated
        assert not measure(pm).estimated
        assert first[TOTAL].pixels == pytest.approx(2048**2, rel=1e-3)

    def test_far_less_is_read_than_there_is(self, monkeypatch):
        pm = map_of(np.tile(textured(6, 2)[:, :1024, :512], (1, 2, 8)), STAIN, chunk=64)
        pixels = []
        read = pm.read

        def counted(region, level=0):
            pixels.append(region.size.area)
            return read(region, level)

        monkeypatch.setattr(pm, "read", counted)
        measure(pm, estimate=True)
        assert sum(pixels) < 0.5 * pm.size.area

    def test_small_and_empty_maps_are_counted(self):
        pm = random_map(STAIN, 1)
        assert measure(pm, estimate=True).rows == measure(pm).rows
        nothing = np.zeros((2048, 2048), bool)
        pm = map_of(np.ones((2, 2048, 2048)), STAIN, coverage=nothing, chunk=128)
        assert measure(pm, estimate=True).rows == measure(pm).rows

    def test_after_a_clean_up(self):
        pm = map_of(textured(7, 3, side=1024), SOFTMAX, chunk=128)
        cleanup = Cleanup(min_object_um2=3)
        assert measure(pm, cleanup=cleanup, estimate=True).rows == measure(pm, cleanup=cleanup).rows
        pm = map_of(ndi.gaussian_filter(textured(8, 3), (0, 6, 6)), SOFTMAX, chunk=128)
        found = measure(pm, cleanup=cleanup, estimate=True)
        true = measure(pm, cleanup=cleanup)
        for one, other in zip(found.classes, true.classes, strict=True):
            assert one.fraction == pytest.approx(other.fraction, abs=0.01)


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
