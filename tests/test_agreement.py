"""Agreement with annotations: counted as one would by hand, and swept as the rule decides."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from maps import SIGMOID, SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import JobError, StoreError
from napari_wsiseg.export import QUPATH_CLASSES
from napari_wsiseg.geometry import YX, Region
from napari_wsiseg.labels import DecisionRule, decide, decide_masks
from napari_wsiseg.measure.agreement import agreement
from napari_wsiseg.regions import NamedRegion, mask_of
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import ProbabilityMap

AGAINST = ModelSpec("one", ("Background", "Tissue"), background=0)
AMONG = ModelSpec("some", ("Tumour", "Glass", "Stroma"), background=1)
MODES = [SOFTMAX, AMONG, AGAINST, SIGMOID, STAIN]


def drawn(kind, *bounds):
    """An annotation: a box of (left, top, right, bottom)."""
    return NamedRegion("", kind, box(*bounds))


def certain(labels, spec=SOFTMAX):
    """Probabilities of a model that is sure of these labels; 0 is nothing."""
    return (labels == np.arange(1, len(spec.classes) + 1)[:, None, None]).astype(np.float32)


@st.composite
def cases(draw, spec):
    """A map's values with many equals and many that lie at a threshold, and what was drawn."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    height, width = draw(st.tuples(st.integers(5, 40), st.integers(5, 40)))
    steps = np.array([0, 1, *(k / 40 for k in range(41)), *(k / 255 for k in range(256))])
    values = random.choice(steps, (len(spec.classes), height, width)).astype(np.float32)
    coverage = random.random((height, width)) < 0.9
    tissue = random.random((height, width)) < 0.9 if draw(st.booleans()) else None
    kinds = [*spec.classes, "Exclude", "nonsense", *(["Region*"] if draw(st.booleans()) else [])]
    annotations = [drawn(spec.classes[-1], 0, 0, width / 2, height)]
    for _ in range(draw(st.integers(1, 6))):
        points = random.uniform(-3, 1.1, (3, 2)) * [width, height]
        triangle = shapely.Polygon(np.abs(points))
        annotations.append(NamedRegion("", draw(st.sampled_from(kinds)), triangle))
    return values, coverage, tissue, annotations


def painted(spec, annotations, shape):
    """(height, width) bool of what is compared, (classes, height, width) of the reference."""

    def mask(region):
        return mask_of(region.shape, Region.from_bounds(0, 0, *shape), YX(1, 1))

    area, reference = np.zeros(shape, bool), np.zeros((len(spec.classes), *shape), bool)
    for region in sorted(annotations, key=lambda region: -region.shape.area):
        if region.kind not in spec.classes:
            continue
        index = spec.classes.index(region.kind)
        if spec.exclusive or index == spec.background:
            reference[:, mask(region)] = False
        if index != spec.background:
            reference[index] |= mask(region)
        area |= mask(region)
    bounds = [mask(region) for region in annotations if region.kind == "Region*"]
    if bounds:
        area = np.any(bounds, axis=0)
    for region in annotations:
        if region.kind == "Exclude":
            area &= ~mask(region)
    return area, reference


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("spec", MODES, ids=lambda spec: spec.name)
@settings(max_examples=20)
@given(data=st.data())
def test_every_count_is_that_of_the_rule_at_that_threshold(spec, dtype, data):
    values, coverage, tissue, annotations = data.draw(cases(spec))
    labelled = [name for i, name in enumerate(spec.classes) if i != spec.background]
    thresholds = data.draw(
        st.dictionaries(st.sampled_from(labelled), st.sampled_from([0.0, 0.1, 0.3333, 0.5, 1.0]))
    )
    rule = DecisionRule(thresholds)
    area, reference = painted(spec, annotations, coverage.shape)
    with map_of(
        values, spec, coverage=coverage, tissue=tissue, dtype=dtype, chunk=data.draw(chunks)
    ) as pm:
        stored = pm.read(Region.from_bounds(0, 0, *coverage.shape))
        inside = area & stored.analysed
        if not inside.any():
            with pytest.raises(JobError, match=r"None of the|none covers"):
                agreement(pm, annotations, rule)
            return
        found = agreement(pm, annotations, rule)
    assert (found.area, found.evaluated) == (area.sum(), inside.sum())

    def decided(name, threshold):
        other = DecisionRule({**rule.thresholds, name: threshold})
        masks = decide_masks(stored.values, inside, None, spec, other)
        return masks[spec.classes.index(name)]

    full = 2.0 if spec is STAIN else 1.0
    assert [row.name for row in found.classes] == labelled
    for row in found.classes:
        truth = reference[spec.classes.index(row.name)] & inside
        in_use = rule.thresholds_for(spec)[spec.classes.index(row.name)]
        assert row.in_use.threshold == pytest.approx(in_use * full)
        assert row.in_use in row.sweep
        assert 19 <= len(row.sweep) <= 21
        for step in row.sweep:
            mask = decided(row.name, step.threshold / full)
            overlap = step.overlap
            assert overlap.reference == truth.sum()
            assert overlap.predicted == mask.sum()
            assert overlap.both == (truth & mask).sum()
    if not spec.exclusive:
        assert found.confusion is None
        return
    predicted = decide(stored.values, inside, None, spec, rule)[inside]
    codes = [*(spec.classes.index(name) + 1 for name in labelled), 0]
    expected = (reference * np.arange(1, len(spec.classes) + 1)[:, None, None]).sum(0)[inside]
    assert found.confusion == tuple(
        tuple(int(((expected == row) & (predicted == column)).sum()) for column in codes)
        for row in codes
    )
    assert found.accuracy == pytest.approx((expected == predicted).mean())


chunks = st.sampled_from([6, 16, 64])


class TestWhatIsDrawn:
    def test_the_smaller_of_two_lies_on_top_whichever_was_drawn_first(self):
        large, small = drawn("Tumour", 0, 0, 20, 20), drawn("Stroma", 5, 5, 10, 10)
        with map_of(certain(np.ones((20, 20))), SOFTMAX) as pm:
            for annotations in ([large, small], [small, large]):
                found = agreement(pm, annotations)
                assert found["Tumour"].overlap.reference == 400 - 25
                assert found["Stroma"].overlap.reference == 25

    def test_independent_classes_share_pixels(self):
        both = [drawn("Nuclei", 0, 0, 20, 20), drawn("Glands", 5, 5, 10, 10)]
        with map_of(np.ones((2, 20, 20)), SIGMOID) as pm:
            found = agreement(pm, both)
        assert [row.overlap.reference for row in found.classes] == [400, 25]
        assert found.confusion is None
        assert found.kappa is None

    def test_outside_the_annotations_nothing_is_judged(self):
        with map_of(certain(np.ones((20, 20))), SOFTMAX) as pm:
            found = agreement(pm, [drawn("Tumour", 0, 0, 5, 5), drawn("Stroma", 5, 0, 10, 5)])
        assert found.evaluated == 50
        assert found.confusion == ((25, 0, 0, 0), (25, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))
        assert found["Tumour"].overlap.precision == 0.5

    @pytest.mark.parametrize("name", ["Region*", "REGION*"])
    def test_in_a_region_what_is_not_annotated_is_of_no_class(self, name):
        annotations = [drawn("Tumour", 0, 0, 5, 5), drawn(name, 0, 0, 10, 10)]
        # Outside the region, annotations do not count.
        annotations.append(drawn("Stroma", 12, 12, 20, 20))
        with map_of(certain(np.ones((20, 20))), SOFTMAX) as pm:
            found = agreement(pm, annotations)
        assert found.evaluated == 100
        assert found.regions == 1
        assert found.confusion[3] == (75, 0, 0, 0)
        assert found["Tumour"].overlap.precision == 0.25
        assert found["Stroma"].overlap.reference == 0

    def test_excluded_pixels_are_gone_from_everything(self):
        annotations = [drawn("Tumour", 0, 0, 10, 10), drawn("exclude", 0, 0, 10, 4)]
        with map_of(certain(np.ones((20, 20))), SOFTMAX) as pm:
            assert agreement(pm, annotations).evaluated == 60
            annotations.append(drawn("Region*", 0, 0, 20, 20))
            found = agreement(pm, annotations)
        assert found.area == 400 - 40
        assert found["Tumour"].overlap.reference == 60

    def test_the_background_is_none_of_the_classes(self):
        annotations = [drawn("Stroma", 0, 0, 20, 10), drawn("Glass", 0, 0, 10, 5)]
        with map_of(certain(np.full((20, 20), 3)), AMONG) as pm:
            found = agreement(pm, annotations)
        assert [row.name for row in found.classes] == ["Tumour", "Stroma"]
        assert found.confusion == ((0, 0, 0), (0, 150, 0), (0, 50, 0))
        assert found.used == {"Glass": 1, "Stroma": 1}

    def test_coordinates_are_the_slides(self):
        labels = np.zeros((20, 30))
        labels[5:10, 6:12] = 1
        annotations = [
            drawn("Tumour", 6 * 4, 5 * 2, 12 * 4, 10 * 2),
            drawn("Region*", 0, 0, 120, 40),
        ]
        with map_of(certain(labels), SOFTMAX, downsample=YX(2.0, 4.0)) as pm:
            found = agreement(pm, annotations, DecisionRule(default=0.5))
        assert found["Tumour"].overlap.dice == 1
        assert found.evaluated == 600
        assert found.accuracy == 1
        assert found.mm2(600) == pytest.approx(600 * 0.25 / 1e6)


class TestNames:
    @pytest.mark.parametrize("kind", ["Tumour", "tumour", "TUMOR", "Tumor"])
    def test_case_and_qupaths_own_names(self, kind):
        with map_of(certain(np.ones((8, 8))), SOFTMAX) as pm:
            assert agreement(pm, [drawn(kind, 0, 0, 8, 8)]).used == {"Tumour": 1}

    def test_what_was_exported_for_qupath_comes_back(self):
        spec = ModelSpec("all", tuple(QUPATH_CLASSES))
        annotations = [drawn(theirs, 0, 0, 8, 8) for theirs in QUPATH_CLASSES.values()]
        with map_of(np.ones((len(spec.classes), 8, 8)), spec) as pm:
            assert agreement(pm, annotations).used == dict.fromkeys(spec.classes, 1)

    def test_aliases_of_the_user_come_first(self):
        annotations = [drawn("Nest", 0, 0, 4, 8), drawn("Tumor", 4, 0, 8, 8)]
        with map_of(certain(np.ones((8, 8))), SOFTMAX) as pm:
            found = agreement(pm, annotations, aliases={"nest": "tumour", "Tumor": "Other"})
        assert found.used == {"Tumour": 1, "Other": 1}
        assert found["Tumour"].overlap.recall == 1

    def test_unknown_classes_are_listed_and_left_out(self):
        annotations = [drawn("Stroma", 0, 0, 4, 8), drawn(None, 4, 0, 8, 8)]
        annotations += [drawn("Tumeur", 4, 0, 8, 8), drawn("Tumeur", 4, 0, 6, 6)]
        with map_of(certain(np.ones((8, 8))), SOFTMAX) as pm:
            found = agreement(pm, annotations)
        assert found.left_out == {"(no class)": 1, "Tumeur": 2}
        assert found.evaluated == 32
        words = " ".join(found.remarks)
        assert "2 of class 'Tumeur'" in words
        assert "Tumeur=Tumour" in words

    @pytest.mark.parametrize(
        ("annotations", "aliases", "words"),
        [
            ([("Tumeur", 0)], {}, r"are of Tumeur; .*Tumeur=Tumour"),
            ([("Region*", 0)], {}, r"\(Tumour, Stroma, Other\); .*are of Region\*"),
            ([(None, 0)], {}, "are of no class at all"),
            ([], {}, "are of no class at all"),
            ([("Stroma", 0)], {"a": "Fat"}, "alias a=Fat .*classes are Tumour, Stroma, Other"),
            ([("Stroma", 0)], {"Stroma": "Fat"}, "write Fat=Stroma"),
            ([("Stroma", 100)], {}, "Of 1 annotations none covers"),
            ([("Stroma", 0), ("Exclude", 0)], {}, "not excluded"),
        ],
    )
    def test_what_cannot_be_compared_says_why(self, annotations, aliases, words):
        regions = [drawn(kind, at, at, at + 4, at + 4) for kind, at in annotations]
        with (
            map_of(certain(np.ones((8, 8))), SOFTMAX) as pm,
            pytest.raises(JobError, match=words) as error,
        ):
            agreement(pm, regions, aliases=aliases)
        assert "\n" not in str(error.value)

    def test_an_unknown_class_in_the_rule(self):
        with (
            map_of(certain(np.ones((8, 8))), SOFTMAX) as pm,
            pytest.raises(JobError, match="'Fat'"),
        ):
            agreement(pm, [drawn("Stroma", 0, 0, 4, 4)], DecisionRule({"Fat": 0.5}))


class TestHonesty:
    def test_what_was_not_analysed_is_told_and_not_compared(self):
        coverage, tissue = np.ones((20, 20), bool), np.ones((20, 20), bool)
        coverage[:5], tissue[:, :10] = False, False
        annotations = [drawn("Tumour", 0, 0, 20, 10), drawn("Stroma", 0, 10, 20, 20)]
        made = {"coverage": coverage, "tissue": tissue}
        with map_of(certain(np.ones((20, 20))), SOFTMAX, **made) as pm:
            # Also for a rule that gives labels outside the tissue.
            for clip in (True, False):
                found = agreement(pm, annotations, DecisionRule(clip_to_tissue=clip))
                assert (found.area, found.evaluated) == (400, 150)
                assert "62.5 % of that area" in " ".join(found.remarks)

    def test_nothing_analysed(self):
        nothing = np.zeros((8, 8), bool)
        with (
            map_of(certain(np.ones((8, 8))), SOFTMAX, coverage=nothing) as pm,
            pytest.raises(JobError, match="None of the 16 annotated pixels was analysed"),
        ):
            agreement(pm, [drawn("Tumour", 0, 0, 4, 4)])

    def test_one_class_alone_shows_no_false_positives(self):
        alone = [drawn("Tumour", 0, 0, 8, 4)]
        warning = "Only Tumour is annotated"
        with map_of(np.full((3, 8, 8), 0.3), SOFTMAX) as pm:
            found = agreement(pm, alone)
            assert warning in " ".join(found.remarks)
            # The lowest threshold would always win.
            assert found["Tumour"].overlap.dice == 1
            assert found["Tumour"].best is None
            for more in ("Region*", "Stroma"):
                found = agreement(pm, [*alone, drawn(more, 0, 0, 8, 8)])
                assert warning not in " ".join(found.remarks)
                assert found["Tumour"].best is not None

    def test_background_alone_shows_no_misses(self):
        with map_of(np.full((2, 8, 8), 0.5), AGAINST) as pm:
            found = agreement(pm, [drawn("Background", 0, 0, 8, 4)])
        assert "what is missed cannot be seen" in " ".join(found.remarks)
        assert found["Tissue"].best is None
        assert found["Tissue"].overlap.predicted == 32

    def test_annotations_beside_the_slide_are_counted(self):
        annotations = [drawn("Tumour", 0, 0, 4, 4), drawn("Stroma", 50, 0, 60, 9)]
        with map_of(certain(np.ones((8, 8))), SOFTMAX) as pm:
            assert "1 of 2 annotations" in " ".join(agreement(pm, annotations).remarks)

    def test_neither_reference_nor_prediction_is_no_figure(self):
        with map_of(certain(np.ones((8, 8))), SOFTMAX) as pm:
            found = agreement(pm, [drawn("Tumour", 0, 0, 8, 8)])
        overlap = found["Stroma"].overlap
        assert (overlap.dice, overlap.precision, overlap.recall) == (None, None, None)
        assert found["Stroma"].best is None
        assert found.accuracy == 1
        # All is of one class: chance would agree as well.
        assert found.kappa is None


def test_kappa_of_the_textbook():
    # Two readers of 50 cases: 20 yes by both, 15 no by both, 5 and 10 not: kappa is 0.4.
    reference = [1] * 25 + [2] * 25
    predicted = [1] * 20 + [2] * 5 + [1] * 10 + [2] * 15
    annotations = [
        drawn(SOFTMAX.classes[code - 1], i, 0, i + 1, 1) for i, code in enumerate(reference)
    ]
    with map_of(certain(np.array([predicted])), SOFTMAX) as pm:
        found = agreement(pm, annotations)
    assert found.accuracy == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)


def test_best_is_the_highest_dice_of_equals_the_one_in_use():
    values = np.zeros((1, 8, 8), np.float32)
    values[0, :4], values[0, 4:] = 0.8, 0.3
    spec = ModelSpec("one", ("Nuclei",), activation="sigmoid")
    annotations = [drawn("Nuclei", 0, 0, 8, 4), drawn("Region*", 0, 0, 8, 8)]
    with map_of(values, spec, dtype="float32") as pm:
        for threshold, best in ((0.1, 0.35), (0.62, 0.62), (0.9, 0.35)):
            row = agreement(pm, annotations, DecisionRule({"Nuclei": threshold}))["Nuclei"]
            assert row.best.threshold == pytest.approx(best)
            assert row.best.overlap.dice == 1
            assert row.in_use.threshold == threshold


def test_only_chunks_with_annotations_are_read(tmp_path):
    path = tmp_path / "map.ome.zarr"
    values = np.random.default_rng(0).random((3, 64, 64))
    map_of(values, SOFTMAX, path=path).close()
    (chunk,) = (path / "0" / "c" / "0").glob("2/3")
    chunk.write_bytes(b"nonsense")
    near, far = drawn("Tumour", 1, 33, 30, 47), drawn("Stroma", 50, 33, 60, 47)
    with ProbabilityMap.open(path) as pm:
        assert agreement(pm, [near]).evaluated == 29 * 14
        with pytest.raises(StoreError, match="damaged"):
            agreement(pm, [near, far])
