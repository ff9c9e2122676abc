"""Coarser levels by the quick way are those of the plain one, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.reduce import covered_mean
from napari_wsiseg.store.pyramid import coarsen


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 20),
    left=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
    gaps=st.sampled_from([0, 1, 100]),
    dtype=st.sampled_from(["uint8", "float16", "float32"]),
)
def test_a_level_is_the_rounded_mean(
    height: int, width: int, left: int, seed: int, gaps: int, dtype: str
) -> None:
    """Few values, so that halves and quarters are common; a view that may begin anywhere."""
    rng = np.random.default_rng(seed)
    coverage = np.ones((height, left + width), bool)
    coverage[rng.integers(0, height, gaps), rng.integers(0, left + width, gaps)] = False
    whole = rng.choice([0, 1, 2, 3, 127, 128, 254, 255], (3, height, left + width)) * coverage
    values = (whole if dtype == "uint8" else whole / 255).astype(dtype)[:, :, left:]
    coarse, covered = coarsen(values, coverage[:, left:])
    means, expected = covered_mean(values, coverage[:, left:])
    np.testing.assert_array_equal(covered, expected)
    rounded = np.rint(means) if dtype == "uint8" else means
    np.testing.assert_array_equal(coarse, rounded.astype(dtype))
    assert coarse.dtype == dtype
