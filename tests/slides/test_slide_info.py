"""Which level is read, and what is said of a scale."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from napari_wsiseg.errors import SlideWarning
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides import open_slide
from napari_wsiseg.slides.scale import choose_scale, describe, make_levels

INSIDE, OUTSIDE = 1.0099, 1.0101


def grey(side, value):
    return np.full((side, side, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("downsample", "level"),
    [
        (YX(4, 4), 2),
        (YX(4 / INSIDE, 4 / INSIDE), 2),
        (YX(4 / OUTSIDE, 4 / OUTSIDE), 1),
        (YX(4 / OUTSIDE, 4), 1),
        (YX(4, 4 / OUTSIDE), 1),
        (YX(2, 2), 1),
        (YX(2 / INSIDE, 2 / INSIDE), 1),
        (YX(2 / OUTSIDE, 2 / OUTSIDE), 0),
        (YX(2 / OUTSIDE, 9), 0),
        (YX(1, 1), 0),
        (YX(0.25, 0.25), 0),
        (YX(100, 100), 2),
    ],
)
def test_the_coarsest_level_is_read_that_is_at_most_1_percent_too_coarse(downsample, level):
    values = (10, 90, 200)
    levels = [grey(64 // 2**index, value) for index, value in enumerate(values)]
    with open_slide(levels) as slide:
        assert slide.info.level_for(downsample) == level
        # Far from the slide's edges, where an enlarged reading is white in parts.
        y, x = (int(32 / factor) for factor in downsample)
        pixel = slide.read_at(Region(y, x, Size(1, 1)), downsample)
        if max(downsample) <= 4:
            assert pixel.tolist() == [[[values[level]] * 3]]


def info(power, mpp=None, given=None):
    levels = make_levels([Size(9, 9)], [Size(9, 9)])
    return describe(None, "made", "0", levels, choose_scale(given, mpp, power))


def test_a_nominal_scale_is_told_in_one_sentence_wherever_it_is_told():
    with pytest.warns(SlideWarning, match="40x") as caught:
        nominal = info(40.0)
    assert nominal.mpp == YX(0.25, 0.25)
    assert nominal.mpp_source == "nominal"
    assert nominal.scale_warning == (
        "array does not say its µm per pixel; 0.25 is taken from its 40x objective and may be "
        "off by several percent, as may areas; give it (--mpp, or mpp=...) if you know it."
    )
    assert [str(warning.message) for warning in caught] == [nominal.scale_warning]


@pytest.mark.parametrize(
    ("scale", "source"),
    [
        ({"given": YX(0.3, 0.3), "mpp": YX(0.5, 0.5), "power": 40.0}, "user"),
        ({"mpp": YX(0.5, 0.5), "power": 40.0}, "metadata"),
        ({"power": None}, None),
    ],
)
def test_nothing_is_said_of_another_scale(scale, source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = info(**scale)
    assert known.mpp_source == source
    assert known.mpp == scale.get("given", scale.get("mpp"))
    assert known.objective_power == scale["power"]
    assert known.scale_warning is None
