"""Rule 3: which probability makes a label, in every mode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maps import SIGMOID, SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import JobError
from napari_wsiseg.labels import MODELS_OWN, DecisionRule, decide, decide_masks, label_pyramid
from napari_wsiseg.spec import ModelSpec

WITH_BACKGROUND = ModelSpec("tissue", ("Background", "Tissue"), background=0)
OTHER_FIRST = ModelSpec("tissue", ("Tissue", "Background"), background=1)
THREE_WITH_BACKGROUND = ModelSpec("three", ("A", "Glass", "B"), background=1)
SIGMOID_WITH_BACKGROUND = ModelSpec("each", ("A", "Glass"), background=1, activation="sigmoid")

SPECS = {
    "exclusive": SOFTMAX,
    "exclusive, background": THREE_WITH_BACKGROUND,
    "two, background first": WITH_BACKGROUND,
    "two, background last": OTHER_FIRST,
    "independent": SIGMOID,
    "independent, background": SIGMOID_WITH_BACKGROUND,
    "stain": STAIN,
}


def label(spec, *stored, rule=MODELS_OWN):
    """The label of one covered pixel."""
    values = np.array(stored, np.uint8)[:, None, None]
    return int(decide(values, np.ones((1, 1), bool), None, spec, rule)[0, 0])


def plainly(values, spec, rule):
    """(masks, labels) of covered pixels by the words of rule 3, one pixel after the other."""
    as_float = values.astype(np.float32)
    p = as_float / np.float32(255) if values.dtype == np.uint8 else as_float
    masks = np.zeros(values.shape, bool)
    labels = np.zeros(values.shape[1:], np.uint8)
    against_background = len(spec.classes) == 2 and spec.background is not None
    usual = 0.0 if spec.exclusive and not against_background else 0.5
    for y, x in np.ndindex(labels.shape):
        passing = []
        for i, name in enumerate(spec.classes):
            unnamed = spec.thresholds.get(name, usual) if rule.default is None else rule.default
            threshold = np.float32(rule.thresholds.get(name, unnamed))
            if i != spec.background and p[i, y, x] >= threshold:
                passing.append(i)
        if spec.exclusive and not against_background:
            first = list(p[:, y, x]).index(max(p[:, y, x]))
            passing = [first] if first in passing else []
        masks[passing, y, x] = True
        if passing:
            labels[y, x] = max(passing, key=lambda i: (p[i, y, x], -i)) + 1
    return masks, labels


thresholds = st.floats(0, 1) | st.integers(0, 255).map(lambda v: v / 255)


@st.composite
def cases(draw):
    """A spec, a rule for it, and stored values with many ties."""
    spec = draw(st.sampled_from(list(SPECS.values())))
    dtype = draw(st.sampled_from([np.uint8, np.float16, np.float32]))
    shape = (len(spec.classes), *draw(st.tuples(st.integers(1, 5), st.integers(1, 5))))
    stored = draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 51, 127, 128, 254, 255])))
    values = stored if dtype == np.uint8 else (stored / 255).astype(dtype)
    names = [name for i, name in enumerate(spec.classes) if i != spec.background]
    rule = DecisionRule(
        draw(st.dictionaries(st.sampled_from(names), thresholds)),
        draw(st.none() | thresholds),
    )
    return spec, rule, values


@given(cases())
def test_every_mode_is_the_rule_word_by_word(case):
    spec, rule, values = case
    covered = np.ones(values.shape[1:], bool)
    masks, labels = plainly(values, spec, rule)
    np.testing.assert_array_equal(decide(values, covered, None, spec, rule), labels)
    np.testing.assert_array_equal(decide_masks(values, covered, None, spec, rule), masks)


@given(cases(), st.data())
def test_raising_a_threshold_never_makes_its_class_grow(case, data):
    spec, rule, values = case
    names = [name for i, name in enumerate(spec.classes) if i != spec.background]
    name = data.draw(st.sampled_from(names))
    index = spec.classes.index(name)
    low = rule.thresholds_for(spec)[index]
    high = data.draw(st.floats(low, 1))
    higher = replace(rule, thresholds={**rule.thresholds, name: high})
    covered = np.ones(values.shape[1:], bool)
    before = decide_masks(values, covered, None, spec, rule)[index]
    after = decide_masks(values, covered, None, spec, higher)[index]
    assert not (after & ~before).any()
    before = decide(values, covered, None, spec, rule) == index + 1
    after = decide(values, covered, None, spec, higher) == index + 1
    assert not (after & ~before).any()


@given(st.floats(0, 1), st.floats(0, 1))
def test_whole_numbers_compare_as_float32_does(first, second):
    stored = np.arange(256, dtype=np.uint8)
    values = np.stack([stored, stored])[:, None]
    covered = np.ones((1, 256), bool)
    rule = DecisionRule({"Nuclei": first, "Glands": second})
    expected = (values.astype(np.float32) / np.float32(255)) >= np.array(
        [first, second], np.float32
    )[:, None, None]
    np.testing.assert_array_equal(decide_masks(values, covered, None, SIGMOID, rule), expected)


class TestModes:
    def test_exclusive_is_argmax_and_a_tie_goes_to_the_lower_index(self):
        assert label(SOFTMAX, 80, 90, 85) == 2
        assert label(SOFTMAX, 85, 85, 85) == 1
        assert label(SOFTMAX, 10, 85, 85) == 2

    def test_exclusive_under_its_threshold_is_nothing_not_the_second(self):
        assert label(SOFTMAX, 90, 85, 80, rule=DecisionRule({"Tumour": 0.6})) == 0

    def test_two_classes_are_judged_by_the_other_one_alone(self):
        assert label(WITH_BACKGROUND, 127, 128) == 2
        assert label(WITH_BACKGROUND, 128, 127) == 0
        assert label(WITH_BACKGROUND, 178, 77, rule=DecisionRule({"Tissue": 0.3})) == 2
        assert label(OTHER_FIRST, 128, 127) == 1

    def test_a_background_that_wins_is_nothing(self):
        assert label(THREE_WITH_BACKGROUND, 80, 100, 75) == 0
        assert label(THREE_WITH_BACKGROUND, 80, 10, 90) == 3

    def test_independent_shows_the_highest_that_passes(self):
        assert label(SIGMOID, 200, 210) == 2
        assert label(SIGMOID, 200, 210, rule=DecisionRule({"Glands": 0.9})) == 1
        assert label(SIGMOID, 100, 100) == 0

    def test_a_models_own_thresholds_give_way_to_the_rules(self):
        assert STAIN.thresholds["DAB"] == 0.125
        assert label(STAIN, 0, 32) == 2
        assert label(STAIN, 0, 32, rule=DecisionRule(default=0.2)) == 0
        assert label(STAIN, 0, 32, rule=DecisionRule({"DAB": 0.1}, default=0.2)) == 2

    @pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
    def test_not_covered_is_nothing_whatever_the_threshold(self, spec):
        values = np.full((len(spec.classes), 40, 40), 255, np.uint8)
        covered = np.arange(1600).reshape(40, 40) % 3 == 0
        rule = DecisionRule(default=0)
        assert not decide(values, covered, None, spec, rule)[~covered].any()
        assert not decide_masks(values, covered, None, spec, rule)[:, ~covered].any()

    @pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
    def test_outside_the_tissue_only_without_clipping(self, spec):
        names = [name for i, name in enumerate(spec.classes) if i != spec.background]
        values = np.zeros((len(spec.classes), 1, 2), np.uint8)
        values[spec.classes.index(names[-1])] = 255
        covered, tissue = np.ones((1, 2), bool), np.array([[True, False]])
        clipped = decide(values, covered, tissue, spec, DecisionRule())
        assert (clipped > 0).tolist() == [[True, False]]
        open_rule = DecisionRule(clip_to_tissue=False)
        assert decide(values, covered, tissue, spec, open_rule).all()


class TestBadRules:
    def test_an_unknown_class_names_the_nearest(self):
        with pytest.raises(JobError, match=r"no class 'tumor'; did you mean 'Tumour'\?"):
            DecisionRule({"tumor": 0.5}).thresholds_for(SOFTMAX)

    def test_an_unknown_class_like_none_names_all(self):
        with pytest.raises(JobError, match="its classes are Tumour, Stroma, Other"):
            DecisionRule({"xyz": 0.5}).thresholds_for(SOFTMAX)

    def test_a_background_has_no_threshold(self):
        with pytest.raises(JobError, match=r"'Background' is the background .* are Tissue"):
            DecisionRule({"Background": 0.5}).thresholds_for(WITH_BACKGROUND)

    @pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan"), float("inf")])
    def test_a_threshold_outside_0_to_1(self, bad):
        with pytest.raises(JobError, match=r"Tumour cannot be (-0.1|1.5|nan|inf); it should be"):
            DecisionRule({"Tumour": bad})
        with pytest.raises(JobError, match="default cannot be"):
            DecisionRule(default=bad)

    def test_a_pyramid_of_an_unknown_class_fails_at_once(self):
        pm = map_of(np.ones((3, 8, 8)), SOFTMAX)
        with pytest.raises(JobError, match="no class 'Stromaa'"):
            label_pyramid(pm, DecisionRule({"Stromaa": 0.5}))


class TestPyramid:
    @pytest.mark.parametrize("clip", [True, False])
    @pytest.mark.parametrize("has_tissue", [True, False])
    @pytest.mark.parametrize("dtype", ["uint8", "float16"])
    def test_each_level_is_the_decision_on_its_own_values(self, clip, has_tissue, dtype):
        rng = np.random.default_rng(1)
        covered = rng.random((50, 70)) < 0.7
        tissue = rng.random((50, 70)) < 0.5 if has_tissue else None
        probabilities = rng.random((3, 50, 70))
        pm = map_of(probabilities, SOFTMAX, coverage=covered, tissue=tissue, dtype=dtype)
        rule = DecisionRule({"Stroma": 0.7}, clip_to_tissue=clip)
        pyramid = label_pyramid(pm, rule)
        assert [level.shape for level in pyramid] == [level.shape[1:] for level in pm.levels]
        assert len(pyramid) > 2
        for number, labels in enumerate(pyramid):
            values, coverage = pm.levels[number].compute(), pm.coverage[number].compute()
            mask = None if pm.tissue is None else pm.tissue[number].compute()
            got = labels.compute()
            assert labels.dtype == got.dtype == np.uint8
            assert labels.chunks == pm.coverage[number].chunks
            expected = plainly(values, SOFTMAX, rule)[1] * coverage
            if clip and mask is not None:
                expected = expected * mask
            np.testing.assert_array_equal(got, expected)
