"""The merged map is the plain weighted mean, whatever the grid, the batches and the memory."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.memory import Workspace
from napari_wsiseg.merge import Canvas, RowMerger, held_batches, window_weights

CLASSES = 2


@st.composite
def grids(draw: st.DrawFn) -> PatchGrid:
    """Any canvas, patch, stride (also below half the output), scale and mask of kept patches."""

    def axis() -> tuple[int, int, int, int]:
        output = draw(st.integers(1, 17))
        return (
            draw(st.integers(1, 60)),
            output + draw(st.integers(0, 9)),
            output,
            draw(st.integers(1, output)),
        )

    (h, ih, oh, sh), (w, iw, ow, sw) = axis(), axis()
    grid = PatchGrid(
        Size(h, w), Size(ih, iw), Size(oh, ow), Size(sh, sw), scale=draw(st.integers(1, 3))
    )
    seed = draw(st.integers(0, 2**32 - 1))
    kept = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return replace(grid, keep=np.random.default_rng(seed).random(grid.shape) < kept)


def predictions_of(grid: PatchGrid, patches: NDArray[np.intp]) -> NDArray[np.float32]:
    """Answers that depend on the place in the patch and on the patch: an offset shows."""
    size = grid.patch_output
    y, x = np.mgrid[: size.height, : size.width]
    number = patches @ np.array([31, 7])
    answers = np.stack(
        [
            (number[:, None, None] * 0.37 + y * 0.11 + x * 0.05) % 1,
            (number[:, None, None] + y * x) % 13 / 13,
        ],
        axis=1,
    )
    return answers.astype(np.float32)


def plain_mean(
    grid: PatchGrid,
    patches: NDArray[np.intp],
    predictions: NDArray[np.float32],
    window: str,
    dtype: type[np.floating] = np.float64,
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """sum(w p) / sum(w) over whole arrays, added in grid order."""
    canvas = (grid.canvas.height, grid.canvas.width)
    sums, total = np.zeros((CLASSES, *canvas), dtype), np.zeros(canvas, dtype)
    weights = window_weights(window, grid.patch_output).astype(dtype)  # type: ignore[arg-type]
    for (row, column), answer in zip(patches, predictions, strict=True):
        top, left = row * grid.stride.height, column * grid.stride.width
        bottom = min(top + grid.patch_output.height, canvas[0])
        right = min(left + grid.patch_output.width, canvas[1])
        w = weights[: bottom - top, : right - left]
        sums[:, top:bottom, left:right] += answer[:, : bottom - top, : right - left] * w
        total[top:bottom, left:right] += w
    return sums / np.where(total > 0, total, dtype(1)), total > 0


def merge(
    grid: PatchGrid,
    patches: NDArray[np.intp],
    predictions: NDArray[np.float32] | torch.Tensor,
    window: str,
    canvas_of: Canvas,
    cuts: list[int],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[tuple[int, int, int, int]]]:
    """Run a merger over batches that end at `cuts` and put its bands together.

    Also the places of the bands, as (top, left, bottom, right).
    """
    merger = RowMerger(grid, patches, CLASSES, window, canvas_of)  # type: ignore[arg-type]
    canvas = (grid.canvas.height, grid.canvas.width)
    values, coverage = np.zeros((CLASSES, *canvas), np.float32), np.zeros(canvas, bool)
    given = np.zeros(canvas, bool)
    places = []
    for start, stop in zip([0, *cuts], [*cuts, len(patches)], strict=True):
        final = merger.final
        for band in merger.add(patches[start:stop], predictions[start:stop]):
            right = band.left + band.coverage.shape[1]
            place = np.s_[band.top : band.bottom, band.left : right]
            assert band.top >= final, "rows that were final come again"
            assert not given[place].any(), "two bands overlap"
            given[place] = True
            values[(slice(None), *place)] = band.probabilities
            coverage[place] = band.coverage
            places.append((band.top, band.left, band.bottom, right))
        assert merger.final >= final
    assert merger.final == grid.canvas.height
    merger.close()
    return values, coverage, places


@given(grids(), st.sampled_from(["uniform", "gaussian"]), st.data())
def test_the_map_is_the_plain_weighted_mean(
    tmp_path_factory: pytest.TempPathFactory, grid: PatchGrid, window: str, data: st.DataObject
) -> None:
    patches = np.argwhere(grid.keep)
    predictions = predictions_of(grid, patches)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(patches)), max_size=4)))
    with Workspace(10**9, tmp_path_factory.getbasetemp()) as workspace:
        values, coverage, places = merge(grid, patches, predictions, window, workspace, cuts)
    expected, covered = plain_mean(grid, patches, predictions, window)
    np.testing.assert_array_equal(coverage, covered)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    # That a block is added up at once, and only what covers something, changes no bit.
    same, _ = plain_mean(grid, patches, predictions, window, np.float32)
    np.testing.assert_array_equal(values, same)
    assert all(top % grid.scale == left % grid.scale == 0 for top, left, _, _ in places)
    # No stored pixel lies in two bands: what is below or beside it is not begun by another.
    scale = grid.scale
    pixels = [
        (y, x)
        for top, left, bottom, right in places
        for y in range(top // scale, -(-bottom // scale))
        for x in range(left // scale, -(-right // scale))
    ]
    assert len(pixels) == len(set(pixels))


@given(grids(), st.data())
def test_batches_and_spilling_do_not_change_a_bit(
    tmp_path_factory: pytest.TempPathFactory, grid: PatchGrid, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    patches = np.argwhere(grid.keep)
    predictions = predictions_of(grid, patches)
    with Workspace(10**9, folder) as in_memory, Workspace(0, folder) as on_disk:
        whole, _, places = merge(grid, patches, predictions, "gaussian", in_memory, [])
        cuts = sorted(data.draw(st.lists(st.integers(0, len(patches)), max_size=4)))
        split, _, split_places = merge(grid, patches, predictions, "gaussian", on_disk, cuts)
        assert not in_memory.spilled
        assert on_disk.spilled
    np.testing.assert_array_equal(whole, split)
    assert places == split_places


class TorchCanvas:
    """Holds tensors, as a GPU's memory does."""

    def take(self, shape: tuple[int, ...], dtype: type[np.float32]) -> torch.Tensor:
        return self.place(np.zeros(shape, dtype))

    def place(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(array)

    def settle(self, array: torch.Tensor) -> torch.Tensor:
        return array

    def release(self, array: torch.Tensor) -> None:
        pass


@given(grids(), st.sampled_from(["uniform", "gaussian"]), st.data())
def test_tensors_merge_to_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, grid: PatchGrid, window: str, data: st.DataObject
) -> None:
    patches = np.argwhere(grid.keep)
    predictions = predictions_of(grid, patches)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(patches)), max_size=4)))
    with Workspace(10**9, tmp_path_factory.getbasetemp()) as workspace:
        values, coverage, places = merge(grid, patches, predictions, window, workspace, [])
    tensors = torch.from_numpy(predictions)
    others = merge(grid, patches, tensors, window, TorchCanvas(), cuts)
    np.testing.assert_array_equal(others[0], values)
    np.testing.assert_array_equal(others[1], coverage)
    assert others[2] == places


@given(grids(), st.integers(1, 5))
def test_no_more_answers_are_held_than_foretold(
    tmp_path_factory: pytest.TempPathFactory, grid: PatchGrid, batch_size: int
) -> None:
    patches, most = np.argwhere(grid.keep), 1
    batches: list[weakref.ref[NDArray[np.float32]]] = []
    with Workspace(10**9, tmp_path_factory.getbasetemp()) as workspace:
        merger = RowMerger(grid, patches, CLASSES, "uniform", workspace)
        for start in range(0, len(patches), batch_size):
            part = patches[start : start + batch_size]
            answers = predictions_of(grid, part)
            batches.append(weakref.ref(answers))
            most = max(most, sum(batch() is not None for batch in batches))
            for _ in merger.add(part, list(answers)):
                pass
            del answers
    assert not any(batch() is not None for batch in batches)
    foretold = held_batches(grid, batch_size)
    assert most <= foretold
    if batch_size == 1 and grid.keep.all() and grid.stride.width % grid.scale == 0:
        assert most == foretold


def test_a_canvas_moves_to_disk_in_the_middle_of_a_run(tmp_path: Path) -> None:
    grid = PatchGrid(Size(40, 30), Size(8, 8), Size(8, 8), Size(3, 5))
    patches = np.argwhere(grid.keep)
    predictions = predictions_of(grid, patches)

    class Pressed(Workspace):
        """Runs short of memory after a few batches."""

        looks = 0

        def settle(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
            self.looks += 1
            self._pressed = self.looks > 9
            return super().settle(array)

    cuts = list(range(5, len(patches), 5))
    with Workspace(10**9, tmp_path) as calm, Pressed(10**9, tmp_path) as pressed:
        expected, _, _ = merge(grid, patches, predictions, "uniform", calm, cuts)
        actual, _, _ = merge(grid, patches, predictions, "uniform", pressed, cuts)
        assert pressed.spilled
    np.testing.assert_array_equal(actual, expected)
    assert list(tmp_path.iterdir()) == []


def test_the_gaussian_window_is_nnu_nets() -> None:
    """Standard deviation: an eighth of each side; symmetric, and never nothing."""
    weights = window_weights("gaussian", Size(64, 33))
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert weights[:, 16].max() == weights.max()
    # A standard deviation of 8 rows; rows 31.5 - 8 = 23.5 lie between these two.
    low, high = weights[23, 16] / weights[31, 16], weights[24, 16] / weights[31, 16]
    assert low < np.exp(-0.5) / np.exp(-0.5 * (0.5 / 8) ** 2) < high
    assert weights.min() == np.float32(1e-3)
    assert (window_weights("uniform", Size(3, 4)) == 1).all()


def test_a_failed_patch_is_left_uncovered(tmp_path: Path) -> None:
    grid = PatchGrid(Size(8, 12), Size(4, 4), Size(4, 4), Size(4, 4))
    patches = np.argwhere(grid.keep)
    with Workspace(10**9, tmp_path) as workspace:
        merger = RowMerger(grid, patches, CLASSES, "uniform", workspace)
        predictions = np.full((len(patches), CLASSES, 4, 4), np.nan, np.float32)
        failed = frozenset(range(len(patches)))
        bands = list(merger.add(patches, predictions, failed))
        assert merger.final == 8
    assert not any(band.coverage.any() or band.probabilities.any() for band in bands)


def test_more_than_255_overlaps_add_up() -> None:
    """A byte would wrap round; the original's counts did."""
    grid = PatchGrid(Size(20, 20), Size(20, 20), Size(20, 20), Size(1, 1))
    patches = np.argwhere(grid.keep)
    predictions = np.full((len(patches), CLASSES, 20, 20), 0.75, np.float32)
    with Workspace(10**9, Path()) as workspace:
        values, _, _ = merge(grid, patches, predictions, "uniform", workspace, [])
    np.testing.assert_allclose(values, 0.75, atol=1e-5)


@pytest.mark.parametrize(
    ("patch_input", "patch_output", "stride", "words"),
    [
        (8, 9, 4, "larger than its input"),
        (8, 8, 9, "would leave gaps"),
        (8, 8, 0, "at least 1 px"),
    ],
)
def test_impossible_shapes_are_refused(
    patch_input: int, patch_output: int, stride: int, words: str
) -> None:
    sizes = (Size(n, n) for n in (patch_input, patch_output, stride))
    with pytest.raises(JobError, match=words):
        PatchGrid(Size(20, 20), *sizes)
