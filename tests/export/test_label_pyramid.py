"""Label pyramids: exactly the mode of level 0, however the rows come."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from maps import SIGMOID, SOFTMAX, map_of
from napari_wsiseg.export.label_pyramid import fill
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.labels import DecisionRule, LabelMap
from napari_wsiseg.labels.pyramid import LabelPyramid, histogram, level_arrays, pyramid_sizes
from plain_labels import mode_under


def pyramid_of(labels, heights, *, chunk=8, largest=1):
    sizes = pyramid_sizes(Size(*labels.shape), largest)
    pyramid = LabelPyramid(level_arrays(MemoryStore(), "", sizes, chunk))
    top = 0
    while top < len(labels):
        height = heights[top % len(heights)]
        pyramid.add(labels[top : top + height])
        top += height
    pyramid.finish()
    return pyramid


@given(
    st.integers(1, 40), st.integers(1, 40), st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.integers(1, 33), st.integers(1, 9), st.integers(0, 10**6),
)  # fmt: skip
def test_every_level_is_the_mode_of_level_0(height, width, heights, chunk, block, seed):
    rng = np.random.default_rng(seed)
    values = rng.permutation([0, 1, 2, 7, 254, 255])[: rng.integers(1, 7)]
    coarse = rng.choice(values, (-(-height // block), -(-width // block)))
    labels = np.kron(coarse, np.ones((block, block)))[:height, :width].astype(np.uint8)
    pyramid = pyramid_of(labels, heights, chunk=chunk)
    assert pyramid.arrays[-1].shape == (1, 1)
    for level, array in enumerate(pyramid.arrays):
        expected = mode_under(labels, level)
        np.testing.assert_array_equal(array[:], expected)
        np.testing.assert_array_equal(
            pyramid.counts[level], np.bincount(expected.ravel(), minlength=256)
        )


@pytest.mark.parametrize("shape", [(1040, 1537), (2, 3000), (1023, 512)])
def test_tiles_of_one_label_and_mixed_ones_agree(shape):
    """Wider than the tiles in which uniform labels are counted without a look at each."""
    labels = np.full(shape, 3, np.uint8)
    labels[: shape[0] // 3, 600:700] = 1
    labels[shape[0] // 2 :, :500] = 0
    labels[1::7, 20::13] = 2
    pyramid = pyramid_of(labels, [512], chunk=512, largest=16)
    for level in (1, 3, len(pyramid.arrays) - 1):
        np.testing.assert_array_equal(pyramid.arrays[level][:], mode_under(labels, level))


def test_it_is_no_mode_of_modes():
    """Left two quarters with a bare majority of 1, right two that are 2 all over."""
    labels = np.array([[1, 1, 2, 2], [1, 2, 2, 2], [1, 1, 2, 2], [1, 2, 2, 2]], np.uint8)
    pyramid = pyramid_of(labels, [4])
    np.testing.assert_array_equal(pyramid.arrays[1][:], [[1, 2], [1, 2]])
    assert pyramid.arrays[2][:].item() == 2


def test_of_equals_the_lower_value_wins():
    pyramid = pyramid_of(np.array([[255, 2], [2, 255]], np.uint8), [1])
    assert pyramid.arrays[1][:].item() == 2
    pyramid = pyramid_of(np.array([[0, 9], [9, 0]], np.uint8), [2])
    assert pyramid.arrays[1][:].item() == 0


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_sizes_are_those_of_the_maps_levels(height, width, largest):
    sizes = pyramid_sizes(Size(height, width), largest)
    for finer, coarser in pairwise(sizes):
        assert coarser == Size((finer.height + 1) // 2, (finer.width + 1) // 2)
        assert max(finer.height, finer.width) > largest
    assert max(sizes[-1].height, sizes[-1].width) <= largest


def test_sizes_are_those_that_the_map_has():
    with map_of(np.zeros((3, 100, 37)), SOFTMAX, chunk=16) as pm:
        assert tuple(pyramid_sizes(pm.size, 16)) == pm.layout.sizes


def random_request(spec, codes, seed=0, **options):
    rng = np.random.default_rng(seed)
    shape = (90, 150)
    values = rng.random((len(spec.classes), *shape))
    covered, tissue = rng.random(shape) < 0.7, rng.random(shape) < 0.6
    pm = map_of(values, spec, coverage=covered, tissue=tissue, chunk=16)
    labels = LabelMap(pm, DecisionRule(default=0.4, **options))
    return ExportRequest(labels, codes, {code: f"c{code}" for code in codes}, "slide")


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["exclusive", "independent"])
def test_what_is_filled_in_is_the_label_map(spec, clip):
    request = random_request(spec, (1, 2), clip_to_tissue=clip)
    whole = request.labels.read(Region(0, 0, request.labels.size))
    used = range(len(request.layers))
    for not_analysed in (None, 255):
        pyramids = {
            layer: LabelPyramid(level_arrays(MemoryStore(), "", request.pm.layout.sizes, 16))
            for layer in used
        }
        parts = list(fill(request, pyramids, not_analysed))
        assert parts == sorted(parts)
        assert parts[-1] == 1
        for layer in used:
            expected = request.exported(whole.labels[layer])
            assert 3 not in expected
            if not_analysed:
                expected[~(whole.block.analysed if clip else whole.block.coverage)] = 255
                assert (expected == 255).any()
            for level, array in enumerate(pyramids[layer].arrays):
                np.testing.assert_array_equal(array[:], mode_under(expected, level))


@given(st.sampled_from(["uint8", "float32"]), st.integers(0, 9), st.integers(0, 99))
def test_histograms_count_every_byte(dtype, height, seed):
    values = np.random.default_rng(seed).random((height, 5)).astype(dtype)
    expected = np.bincount(np.frombuffer(values.tobytes(), np.uint8), minlength=256)
    np.testing.assert_array_equal(histogram(values), expected)
    np.testing.assert_array_equal(histogram(values[:, ::2]), histogram(values[:, ::2].copy()))


def test_memory_is_that_of_strips_whatever_the_height():
    peaks = []
    for rows in (1024, 4096):
        sizes = pyramid_sizes(Size(rows, 1024), 128)
        pyramid = LabelPyramid(level_arrays(MemoryStore(), "", sizes, 128))
        strip = np.ones((128, 1024), np.uint8)
        strip[::3, ::5] = 2
        tracemalloc.start()
        for _top in range(0, rows, 128):
            pyramid.add(strip)
        pyramid.finish()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What the store in memory holds, compressed, is all that grows.
    assert peaks[1] < peaks[0] + 2**20
