"""Coarser pixels are the plain mean of what is covered, and do not depend on how a map is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_wsiseg.reduce import covered_mean


def covered_values(
    height: int, width: int, seed: int, dtype: str = "float32"
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Values of two classes, 0 where they are not covered."""
    rng = np.random.default_rng(seed)
    coverage = rng.random((height, width)) < 0.6
    values = rng.random((2, height, width)) * (255 if dtype == "uint8" else 1) * coverage
    return values.astype(dtype), coverage


@given(
    st.integers(1, 13),
    st.integers(1, 13),
    st.integers(1, 5),
    st.integers(0, 999),
    st.sampled_from(["uint8", "float16", "float32"]),
)
def test_a_coarse_pixel_is_the_mean_of_the_covered_ones(
    height: int, width: int, factor: int, seed: int, dtype: str
) -> None:
    values, coverage = covered_values(height, width, seed, dtype)
    means, covered = covered_mean(values, coverage, factor)
    assert means.dtype == np.float32
    assert means.shape == (2, -(-height // factor), -(-width // factor))
    for row, column in np.ndindex(*covered.shape):
        block = (
            slice(row * factor, (row + 1) * factor),
            slice(column * factor, (column + 1) * factor),
        )
        assert covered[row, column] == coverage[block].any()
        for name in range(2):
            inside = values[name][block][coverage[block]].astype(float)
            expected = inside.mean() if inside.size else 0
            assert means[name, row, column] == pytest.approx(expected, abs=2e-5, rel=1e-6)


@given(st.integers(1, 4), st.integers(0, 999), st.integers(1, 3))
def test_a_cut_between_coarse_pixels_does_not_change_a_bit(
    factor: int, seed: int, cut: int
) -> None:
    values, coverage = covered_values(4 * factor, 5 * factor, seed)
    whole, _ = covered_mean(values, coverage, factor)
    row = cut * factor
    upper, _ = covered_mean(values[:, :row], coverage[:row], factor)
    lower, _ = covered_mean(values[:, row:], coverage[row:], factor)
    np.testing.assert_array_equal(whole, np.concatenate([upper, lower], axis=1))


def test_inputs_are_left_as_they_are() -> None:
    values, coverage = covered_values(4, 4, 0)
    before = values.copy()
    covered_mean(values, coverage)
    np.testing.assert_array_equal(values, before)
