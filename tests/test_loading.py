"""Patches cut from blocks equal patches read alone, and every block is read once."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_wsiseg import loading
from napari_wsiseg.errors import SlideError
from napari_wsiseg.geometry import YX, Region, Size, size_at
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.loading import PatchLoader, block_size
from napari_wsiseg.memory import Workspace
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.slides.base import Level


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


class Counting:
    """Notes what is read of a slide."""

    def __init__(self, slide: Slide) -> None:
        self._slide = slide
        self.info = slide.info
        self.reads: list[Region] = []

    def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
        self.reads.append(region)
        return self._slide.read_at(region, downsample)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    output=st.tuples(st.integers(2, 30), st.integers(2, 30)),
    margin=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    factor=st.sampled_from([1.0, 2.0, 1.7, 0.5]),
    batch=st.integers(1, 5),
    budget=st.sampled_from([0, 10**9]),
    seed=st.integers(0, 99),
)
def test_patches_equal_those_read_alone(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    height: int,
    width: int,
    output: tuple[int, int],
    margin: tuple[int, int],
    factor: float,
    batch: int,
    budget: int,
    seed: int,
) -> None:
    monkeypatch.setattr(loading, "_BLOCK", 16)
    downsample = YX(factor, factor)
    slide = Counting(open_slide(noise(height, width)))
    size = Size(*output)
    grid = PatchGrid(
        size_at(slide.info.size, downsample),
        Size(output[0] + margin[0], output[1] + margin[1]),
        size,
        Size(max(output[0] // 2, 1), output[1]),
    )
    grid = replace(grid, keep=np.random.default_rng(seed).random(grid.shape) < 0.6)
    patches = np.argwhere(grid.keep)
    seen = []
    with (
        Workspace(budget, tmp_path_factory.getbasetemp()) as workspace,
        PatchLoader(slide, downsample, grid, patches, batch, workspace) as loader,  # type: ignore[arg-type]
    ):
        for part in loader:
            assert part.failed == ()
            for (row, column), pixels in zip(part.indices, part.pixels, strict=True):
                seen.append((int(row), int(column)))
                alone = slide._slide.read_at(grid.input_region(row, column), downsample)
                inside = _inside(grid, int(row), int(column))
                np.testing.assert_array_equal(pixels[inside], alone[inside])
                outside = np.ones(pixels.shape[:2], bool)
                outside[inside] = False
                assert (pixels[outside] == 255).all()
        assert workspace.in_memory == 0
    assert seen == [tuple(p) for p in patches]
    assert max(Counter(slide.reads).values(), default=1) == 1


def _inside(grid: PatchGrid, row: int, column: int) -> tuple[slice, slice]:
    box = grid.input_region(row, column)
    return box.clipped(grid.canvas).shifted(-box.top, -box.left).slices


@pytest.mark.parametrize(
    ("tile", "factor", "expected"),
    [(240, 1.0, 720), (256, 1.0, 512), (512, 2.0, 512), (240, 1.5, 640), (240, 1 / 0.499, 512)],
)
def test_blocks_lie_on_the_files_tiles(tile: int, factor: float, expected: int) -> None:
    info = open_slide(noise(8, 8)).info
    level = Level(Size(9000, 9000), YX(1, 1), Size(tile, tile))
    info = replace(info, size=Size(9000, 9000), levels=(level,))
    assert block_size(info, YX(factor, factor), Size(9000, 9000)) == Size(expected, expected)


def test_a_part_that_cannot_be_read_fails_its_patches_only(tmp_path: Path) -> None:
    class Torn(Counting):
        def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
            if region.top >= 512:
                raise SlideError("damaged")
            return super().read_at(region, downsample)

    slide = Torn(open_slide(noise(1024, 512)))
    size = Size(256, 256)
    grid = PatchGrid(Size(1024, 512), size, size, size)
    patches = np.argwhere(grid.keep)
    with (
        Workspace(10**9, tmp_path) as workspace,
        PatchLoader(slide, YX(1, 1), grid, patches, 3, workspace) as loader,  # type: ignore[arg-type]
    ):
        failed = [patch for batch in loader for patch in batch.failed]
    assert [(p.row, p.column) for p in failed] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert {p.reason for p in failed} == {"damaged"}


def test_any_other_error_ends_the_iteration(tmp_path: Path) -> None:
    class Broken(Counting):
        def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
            raise ZeroDivisionError

    slide = Broken(open_slide(noise(64, 64)))
    size = Size(16, 16)
    grid = PatchGrid(Size(64, 64), size, size, size)
    with (
        Workspace(10**9, tmp_path) as workspace,
        PatchLoader(slide, YX(1, 1), grid, np.argwhere(grid.keep), 3, workspace) as loader,  # type: ignore[arg-type]
        pytest.raises(ZeroDivisionError),
    ):
        list(loader)


def test_leaving_early_stops_the_threads(tmp_path: Path) -> None:
    slide = open_slide(noise(400, 400))
    size = Size(8, 8)
    grid = PatchGrid(Size(400, 400), size, size, size)
    before = set(threading.enumerate())
    with (
        Workspace(10**9, tmp_path) as workspace,
        PatchLoader(slide, YX(1, 1), grid, np.argwhere(grid.keep), 2, workspace) as loader,
    ):
        next(iter(loader))
    assert set(threading.enumerate()) <= before


def test_leaving_early_does_not_wait_for_the_batch(tmp_path: Path) -> None:
    """A batch may be seconds of decoding; nobody wants it any more."""
    reading, left, noticed = threading.Event(), threading.Event(), threading.Event()
    waited_for_all: list[bool] = []

    class Slow(Counting):
        def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
            first = not reading.is_set()
            reading.set()
            waited_for_all.append((left if first else noticed).wait(5))
            return super().read_at(region, downsample)

    class Watched(PatchLoader):
        """Lets the reader go on once nobody wants what it reads, and the loader knows."""

        @property
        def _is_stopped(self) -> bool:
            if left.is_set():
                noticed.set()
            return left.is_set()

        @_is_stopped.setter
        def _is_stopped(self, stopped: bool) -> None:
            if stopped:
                left.set()

    slide = Slow(open_slide(noise(512 * 32, 512)))
    size = Size(512, 512)
    grid = PatchGrid(slide.info.size, size, size, size)
    with (
        Workspace(10**9, tmp_path) as workspace,
        Watched(slide, YX(1, 1), grid, np.argwhere(grid.keep), 32, workspace, 1),  # type: ignore[arg-type]
    ):
        assert reading.wait(10)
    assert all(waited_for_all)
    assert len(slide.reads) < 16, "of 32"


def test_reasons_name_no_folder(tmp_path: Path) -> None:
    """They are kept in the result, which travels."""

    class Gone(Counting):
        def __init__(self, slide: Slide) -> None:
            super().__init__(slide)
            self.info = replace(slide.info, path=tmp_path / "a.svs")

        def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
            raise OSError(5, "Input/output error", str(tmp_path / "a.svs"))

    slide = Gone(open_slide(noise(16, 16)))
    size = Size(16, 16)
    grid = PatchGrid(size, size, size, size)
    with (
        Workspace(10**9, tmp_path) as workspace,
        PatchLoader(slide, YX(1, 1), grid, np.argwhere(grid.keep), 1, workspace) as loader,  # type: ignore[arg-type]
    ):
        reasons = [patch.reason for batch in loader for patch in batch.failed]
    assert reasons == ["Input/output error"]
