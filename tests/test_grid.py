"""Where patches and chunks lie, against plain loops over boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid


@st.composite
def grids(draw: st.DrawFn) -> PatchGrid:
    output = [draw(st.integers(1, 12)) for _ in "yx"]
    grid = PatchGrid(
        Size(draw(st.integers(1, 50)), draw(st.integers(1, 50))),
        Size(*(o + draw(st.integers(0, 9)) for o in output)),
        Size(*output),
        Size(*(draw(st.integers(1, o)) for o in output)),
        scale=draw(st.integers(1, 3)),
        chunk=8,
    )
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return replace(grid, keep=rng.random(grid.shape) < draw(st.sampled_from([0.2, 1.0])))


@given(grids())
def test_outputs_cover_the_canvas_and_start_inside_it(grid: PatchGrid) -> None:
    covered = np.zeros((grid.canvas.height, grid.canvas.width), bool)
    for row, column in np.ndindex(grid.shape):
        box = grid.output_region(row, column)
        assert not box.is_empty
        covered[box.slices] = True
    assert covered.all()


@given(grids())
def test_inputs_lie_centred_around_outputs(grid: PatchGrid) -> None:
    for row, column in np.ndindex(grid.shape):
        box = grid.input_region(row, column)
        assert box.size == grid.patch_input
        assert grid.tops[row] - box.top == (grid.patch_input.height - grid.patch_output.height) // 2
        assert (
            grid.lefts[column] - box.left == (grid.patch_input.width - grid.patch_output.width) // 2
        )


@given(grids(), st.integers(0, 999))
def test_chunks_are_owed_the_kept_patches_that_meet_them(grid: PatchGrid, seed: int) -> None:
    owed = np.zeros(grid.chunk_shape, int)
    meets: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for row, column in np.argwhere(grid.keep):
        for chunk in np.ndindex(grid.chunk_shape):
            if not grid.output_region(row, column).intersection(grid.chunk_region(*chunk)).is_empty:
                owed[chunk] += 1
                meets.setdefault(chunk, set()).add((int(row), int(column)))
    np.testing.assert_array_equal(grid.owed, owed)
    chosen = np.random.default_rng(seed).random(grid.chunk_shape) < 0.3
    expected: set[tuple[int, int]] = set()
    for chunk in map(tuple, np.argwhere(chosen)):
        expected |= meets.get(chunk, set())
    assert [tuple(p) for p in grid.patches_for(chosen)] == sorted(expected)


@given(
    grids(),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.3, 0.9]),
    st.integers(0, 999),
)
def test_a_patch_is_kept_for_the_tissue_its_input_touches(
    grid: PatchGrid, height: int, width: int, ratio: float, seed: int
) -> None:
    mask: NDArray[np.bool_] = np.random.default_rng(seed).random((height, width)) < 0.1
    kept = grid.masked(mask, ratio).keep
    for row, column in np.ndindex(grid.shape):
        box = grid.input_region(row, column)
        touched = [
            mask[i, j]
            for i in range(height)
            for j in range(width)
            if _overlap(i, height, box.top, box.bottom, grid.canvas.height)
            and _overlap(j, width, box.left, box.right, grid.canvas.width)
        ]
        expected = grid.keep[row, column] and sum(touched) > ratio * len(touched)
        assert kept[row, column] == expected


def _overlap(pixel: int, pixels: int, first: int, end: int, canvas: int) -> bool:
    """Whether a mask pixel shares more than an edge with [first, end) of the canvas."""
    return pixel * canvas < end * pixels and (pixel + 1) * canvas > first * pixels


@given(grids())
def test_the_frame_is_the_bounding_box_on_whole_stored_pixels(grid: PatchGrid) -> None:
    patches = np.argwhere(grid.keep)
    frame = grid.frame(patches)
    if len(patches) == 0:
        assert frame.is_empty
        return
    boxes = [grid.output_region(*patch) for patch in patches]
    tight = Region.from_bounds(
        min(b.top for b in boxes),
        min(b.left for b in boxes),
        max(b.bottom for b in boxes),
        max(b.right for b in boxes),
    )
    assert tight.intersection(frame) == tight
    assert frame.top % grid.scale == 0
    assert frame.left % grid.scale == 0
    assert tight.top - frame.top < grid.scale
    assert frame.right - tight.right < grid.scale


def test_the_layout_of_the_golden_run() -> None:
    grid = PatchGrid(Size(2967, 2220), Size(1024, 1024), Size(512, 512), Size(450, 450))
    assert grid.shape == (7, 5)
    assert grid.tops.tolist() == [0, 450, 900, 1350, 1800, 2250, 2700]
    assert grid.input_region(0, 1) == Region(-256, 194, Size(1024, 1024))
