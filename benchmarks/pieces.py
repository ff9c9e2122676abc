"""The inner pieces of the engine, each alone, by pytest-benchmark.

    PYTHONPATH=src:tests:benchmarks python -m pytest benchmarks/pieces.py

Patches of 512 px at stride 256 and 5 classes, as in `engine.py`; microseconds are for what the
test's name says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiled_slide import write
from virtual import TrivialModel

from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.labels import DecisionRule
from napari_wsiseg.labels.decide import decide
from napari_wsiseg.loading import PatchLoader
from napari_wsiseg.memory import Workspace
from napari_wsiseg.merge import RowMerger
from napari_wsiseg.messages import Band
from napari_wsiseg.models import predict
from napari_wsiseg.models.place import value_range
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.store.chunks import encoded
from napari_wsiseg.store.pyramid import Window, coarsen
from napari_wsiseg.store.rows import RunRow

Benchmark = Callable[..., Any]
CLASSES, PATCH, STRIDE = 5, 512, 256
SIZE = Size(1024, 4096)
GRID = PatchGrid(SIZE, *(Size(side, side) for side in (PATCH, PATCH, STRIDE)))
PATCHES = np.argwhere(GRID.keep)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace(2 * 10**9, tmp_path_factory.mktemp("work")) as space:
        yield space


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    path: Path = tmp_path_factory.mktemp("slide") / "slide.tif"
    write(path, SIZE)
    with open_slide(path, mpp=0.5) as opened:
        yield opened


@pytest.fixture(scope="module")
def answers(slide: Slide) -> np.ndarray:
    """What a model says of four patches."""
    regions = [GRID.input_region(0, column) for column in range(4)]
    return predict(TrivialModel(), np.stack([slide.read_at(r, YX(1.0, 1.0)) for r in regions]))


def chunk_of(answers: np.ndarray) -> np.ndarray:
    return np.rint(answers[0] * 255).astype(np.uint8)


def test_load_a_row_of_patches(benchmark: Benchmark, slide: Slide, workspace: Workspace) -> None:
    """Decode, keep and cut, with all threads, for 16 patches."""
    row = PATCHES[PATCHES[:, 0] == 0]

    def load() -> int:
        with PatchLoader(slide, YX(1.0, 1.0), GRID, row, 2, workspace) as loader:
            return sum(len(batch.indices) for batch in loader)

    assert benchmark(load) == 16


def test_look_at_the_range_of_an_answer(benchmark: Benchmark, answers: np.ndarray) -> None:
    low, high = benchmark(value_range, answers[0])
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
def test_merge_a_slide_of_64_patches(
    benchmark: Benchmark, answers: np.ndarray, workspace: Workspace, window: str
) -> None:
    def merge() -> int:
        merger = RowMerger(GRID, PATCHES, CLASSES, window, workspace)
        bands = 0
        for start in range(0, len(PATCHES), 2):
            part = PATCHES[start : start + 2]
            bands += sum(1 for _ in merger.add(part, answers[start % 4 : start % 4 + 2]))
        merger.close()
        return bands

    assert benchmark(merge) == 64


def test_round_a_band(benchmark: Benchmark, answers: np.ndarray, workspace: Workspace) -> None:
    """256 x 256 px of 5 classes into the chunk row that is being filled."""
    window = Window.take(workspace, Region(0, 0, Size(512, 4096)), CLASSES, "uint8")
    row = RunRow(0, tuple(range(8)), window)
    part = np.ascontiguousarray(answers[0][:, :STRIDE, :STRIDE])
    band = Band(0, STRIDE, part, np.ones(part.shape[1:], bool))
    benchmark(row.fill, band, GRID)
    window.release(workspace)


def test_make_a_chunk_coarser(benchmark: Benchmark, answers: np.ndarray) -> None:
    covered = np.ones((PATCH, PATCH), bool)
    values, _ = benchmark(coarsen, chunk_of(answers), covered)
    assert values.shape == (CLASSES, PATCH // 2, PATCH // 2)


def test_encode_a_chunk(benchmark: Benchmark, answers: np.ndarray) -> None:
    chunk = chunk_of(answers)
    assert len(benchmark(encoded, chunk, chunk.shape)) < chunk.nbytes


def test_decide_the_labels_of_a_chunk(benchmark: Benchmark, answers: np.ndarray) -> None:
    spec = TrivialModel().spec
    rule = DecisionRule(default=0.2)
    covered = np.ones((PATCH, PATCH), bool)
    labels = benchmark(decide, chunk_of(answers), covered, None, spec, rule)
    assert labels.any()
