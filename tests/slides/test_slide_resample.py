"""Rule 1: any window of a reading is the cut of the whole, and the numbers are right."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides import resample as module
from napari_wsiseg.slides.resample import average_whole, resample, weigh


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read_at(pixels, region, factor):
    size = Size(*pixels.shape[:2])

    def read(part):
        assert part.clipped(size) == part, "asked for pixels outside the image"
        assert not part.is_empty
        return pixels[part.slices]

    return resample(read, size, region, factor)


def area_reference(pixels, region, factor):
    """Integrals of a white plane with the image on it, by linear interpolation of their sums."""
    means = pixels.astype(np.float64) - 255
    for axis, (first, last, f) in enumerate(
        ((region.top, region.bottom, factor.y), (region.left, region.right, factor.x))
    ):
        sums = np.concatenate([np.zeros_like(means.take([0], axis)), means.cumsum(axis)], axis)
        edges = np.clip(np.arange(first, last + 1) * f, 0, pixels.shape[axis])
        low = np.floor(edges).astype(int).clip(0, pixels.shape[axis] - 1)
        part = (edges - low).reshape([-1 if a == axis else 1 for a in range(3)])
        whole = sums.take(low, axis) * (1 - part) + sums.take(low + 1, axis) * part
        means = np.diff(whole, axis=axis) / f
    return means + 255


factors = st.one_of(
    st.integers(1, 9).map(float),
    st.floats(0.15, 9.0),
    st.sampled_from([1.0, 0.5, 1.5, 2.5, 0.25, 1 / 3, 2.004008016]),
)


@given(
    st.integers(1, 70), st.integers(1, 70), factors, factors,
    st.integers(-15, 90), st.integers(-15, 90), st.integers(0, 60), st.integers(0, 60),
    st.integers(1, 40),
)  # fmt: skip
def test_any_window_is_the_cut_of_the_whole(height, width, fy, fx, top, left, h, w, side):
    pixels, factor = noise(height, width), YX(fy, fx)
    whole = Region.from_bounds(-15, -15, 155, 155)
    expected = read_at(pixels, whole, factor)
    window = Region(top, left, Size(h, w))
    with mock.patch.multiple(module, _OUTPUT_SIDE=side, _STRIP_PIXELS=side * 16):
        part = read_at(pixels, window, factor)
    np.testing.assert_array_equal(part, expected[window.shifted(15, 15).slices])
    assert part.dtype == np.uint8


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20),
    st.integers(0, 12), st.integers(0, 12), st.integers(1, 12), st.integers(1, 12),
)  # fmt: skip
def test_whole_factors_take_a_fast_path_to_equal_pixels(height, width, ky, kx, top, left, h, w):
    pixels, size = noise(height, width), Size(height, width)
    region, factor = Region(top, left, Size(h, w)), YX(float(ky), float(kx))
    fast, plain = np.empty((2, h, w, 3), np.uint8)
    average_whole(lambda part: pixels[part.slices], size, region, factor, fast)
    weigh(lambda part: pixels[part.slices], size, region, factor, plain)
    np.testing.assert_array_equal(fast, plain)


@given(st.integers(1, 50), st.integers(1, 50), st.floats(1, 12), st.floats(1, 12))
def test_area_average_is_the_exact_integral(height, width, fy, fx):
    pixels, region = noise(height, width), Region(-2, -2, Size(20, 20))
    reference = area_reference(pixels, region, YX(fy, fx))
    got = read_at(pixels, region, YX(fy, fx))
    assert np.abs(got - reference).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("k", [2, 3, 4, 17])
def test_whole_factors_are_means_rounded_half_to_even(k):
    pixels = noise(6 * k, 5 * k)
    means = pixels.reshape(6, k, 5, k, 3).mean(axis=(1, 3), dtype=np.float64)
    got = read_at(pixels, Region(0, 0, Size(6, 5)), YX(float(k), float(k)))
    np.testing.assert_array_equal(got, np.rint(means).astype(np.uint8))


def test_half_goes_to_even():
    pixels = np.repeat(np.array([[[1], [2]], [[2], [1]]], np.uint8), 3, axis=2)  # mean 1.5
    other = pixels + 1  # mean 2.5
    one = Region(0, 0, Size(1, 1))
    assert read_at(pixels, one, YX(2.0, 2.0)).max() == 2
    assert read_at(other, one, YX(2.0, 2.0)).min() == 2


@pytest.mark.parametrize(("fy", "fx"), [(2, 2), (4, 3), (2, 1)])
def test_enlargement_is_keys_bicubic_as_pillow_computes_it(fy, fx):
    pixels = noise(20, 24)
    got = read_at(pixels, Region(0, 0, Size(20 * fy, 24 * fx)), YX(1 / fy, 1 / fx))
    for channel in range(3):
        image = Image.fromarray(pixels[:, :, channel].astype(np.float32))
        want = np.asarray(image.resize((24 * fx, 20 * fy), Image.Resampling.BICUBIC))
        inside = (slice(3 * fy, -3 * fy), slice(3 * fx, -3 * fx))  # the edges differ by intent
        off = np.abs(got[inside][..., channel] - np.clip(want[inside], 0, 255))
        assert off.max() <= 0.5 + 1e-3


def test_identity_and_all_but_identity():
    pixels = noise(30, 20)
    region = Region(-3, -4, Size(40, 30))
    got = read_at(pixels, region, YX(1 + 1e-12, 1 - 1e-12))
    np.testing.assert_array_equal(got[3:33, 4:24], pixels)
    got[3:33, 4:24] = 255
    assert got.min() == 255


@given(factors, factors)
def test_white_stays_white(fy, fx):
    pixels = np.full((40, 40, 3), 255, np.uint8)
    assert read_at(pixels, Region(-9, -9, Size(60, 60)), YX(fy, fx)).min() == 255


def test_memory_of_a_huge_reduction_stays_small():
    asked = []

    def read(part):
        asked.append(part.size.area)
        return np.zeros((part.size.height, part.size.width, 3), np.uint8)

    out = resample(read, Size(20_000, 30_000), Region(0, 0, Size(625, 938)), YX(32.0, 32.0))
    assert out[:, :937].max() == 0
    assert max(asked) <= 2048 * 2048
    assert sum(asked) == 20_000 * 30_000
