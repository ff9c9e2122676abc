"""Quantised in blocks, probabilities are what they are quantised at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.messages import Band
from napari_wsiseg.store.pyramid import Window
from napari_wsiseg.store.rows import RunRow


@given(
    height=st.integers(1, 100),
    width=st.integers(1, 40),
    cut=st.integers(0, 99),
    seed=st.integers(0),
)
def test_bytes_are_the_nearest_to_each_probability(
    height: int, width: int, cut: int, seed: int
) -> None:
    """In bands of any height, from views of a wider canvas, halves to even."""
    size, patch = Size(height, width), Size(1, 1)
    grid = PatchGrid(size, patch, patch, patch, chunk=128)
    rng = np.random.default_rng(seed)
    halves = (rng.integers(0, 255, (3, height, width)) + 0.5) / 255
    canvas = np.where(rng.random(halves.shape) < 0.5, rng.random(halves.shape), halves)
    wide = np.zeros((3, height, width + 7), np.float32)
    wide[..., :width] = canvas
    window = Window(
        Region(0, 0, size), np.zeros((3, height, width), np.uint8), np.zeros((height, width), bool)
    )
    row = RunRow(0, (0,), window)
    for top, bottom in ((0, min(cut, height)), (min(cut, height), height)):
        part = wide[:, top:bottom, :width]
        row.fill(Band(top, 0, part, np.ones(part.shape[1:], bool)), grid)
    plain = np.rint(wide[..., :width] * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(window.values, plain)
    assert window.coverage.all()
