"""A damaged tile costs the patches whose input meets it; all others are as in a whole slide."""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from engine.engine_cases import PositionModel, picture
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import run
from napari_wsiseg.errors import SlideWarning
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.slides.openslide_reader import open_file as open_with_openslide
from napari_wsiseg.slides.tiff import TiffSlide
from napari_wsiseg.store import ProbabilityMap

TILE = 240


@pytest.fixture
def made_slide(tmp_path: Path) -> Path:
    path = tmp_path / "whole.tif"
    pixels = np.ascontiguousarray(picture(1300, 1100))
    tifffile.imwrite(path, pixels, tile=(TILE, TILE), compression="jpeg", photometric="ycbcr")
    return path


def zeroed(path: Path, tiles: Sequence[int], folder: Path, part: float = 1.0) -> Path:
    """A copy of a slide, with nothing but zeros in the last part of these tiles' bytes."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        for tile in tiles:
            start, count = page.dataoffsets[tile], page.databytecounts[tile]
            bad = round(part * count)
            data[start + count - bad : start + count] = bytes(bad)
    torn = folder / f"torn{path.suffix}"
    torn.write_bytes(data)
    return torn


def spoiled_chunk(path: Path, tile: int, folder: Path) -> Path:
    """A copy of an OME-Zarr slide with a chunk that is no longer what its codec wrote."""
    torn = folder / f"torn-{path.name}"
    shutil.copytree(path, torn)
    chunk = torn.joinpath("0", "c", *map(str, divmod(tile, -(-1100 // TILE))), "0")
    chunk.write_bytes(chunk.read_bytes()[:100])
    return torn


def place_of(tile: int, size: Size) -> Region:
    """The level-0 pixels of a tile."""
    row, column = divmod(tile, -(-size.width // TILE))
    return Region(row * TILE, column * TILE, Size(TILE, TILE)).clipped(size)


def meets(box: Region, tile: Region, downsample: YX) -> bool:
    """Whether the pixels of a box, at `downsample`, are made of any of a level-0 tile."""
    return all(
        _touches(first, last, start, stop, factor)
        for first, last, start, stop, factor in (
            (box.top, box.bottom, tile.top, tile.bottom, downsample.y),
            (box.left, box.right, tile.left, tile.right, downsample.x),
        )
    )


def _touches(first: int, last: int, start: int, stop: int, factor: float) -> bool:
    if factor >= 1:
        return first * factor < stop and start < last * factor
    # Bicubic: two pixels on either side of the first and of the last pixel's centre.
    low = np.floor((first + 0.5) * factor - 0.5) - 1
    high = np.floor((last - 0.5) * factor - 0.5) + 2
    return bool(low < stop and start <= high)


Reader = Callable[[Path], Slide]


def with_openslide(path: Path) -> Slide:
    """As OpenSlide reads it, whose handle refuses all after one bad tile."""
    return open_with_openslide(path, None)


def run_of(
    path: Path, model: PositionModel, resolution: str, reader: Reader = open_slide
) -> ProbabilityMap:
    job = SegmentationJob(resolution=resolution, tissue="none", dtype="float32")
    with reader(path) as slide:
        return run(job, slide, model)


def check(
    path: Path,
    torn: Path,
    tiles: Sequence[int],
    model: PositionModel,
    resolution: str,
    reader: Reader = open_slide,
) -> tuple[int, int]:
    """Hold a run over the damaged slide against one over the whole: patches failed, and all."""
    whole, result = (run_of(each, model, resolution, reader) for each in (path, torn))
    grid = result.grid
    with open_slide(path) as slide:
        places = [place_of(tile, slide.info.size) for tile in tiles]
    failed = []
    covered = np.ones((grid.canvas.height, grid.canvas.width), bool)
    for row, column in np.argwhere(grid.keep).tolist():
        box = grid.input_region(row, column).clipped(grid.canvas)
        if any(meets(box, place, result.downsample) for place in places):
            failed.append((row, column))
            covered[grid.output_region(row, column).slices] = False
    assert sorted((p.row, p.column) for p in result.failed_patches) == failed
    assert all("cannot be read" in p.reason for p in result.failed_patches)
    assert result.status == "complete"
    np.testing.assert_array_equal(result.coverage[0].compute(), covered)
    values, expected = (each.probabilities().compute() for each in (result, whole))
    np.testing.assert_array_equal(values[:, covered], expected[:, covered])
    return len(failed), int(grid.keep.sum())


@pytest.mark.parametrize(
    ("resolution", "tiles"),
    [
        ("baseline 1.0", [12]),
        ("baseline 0.6", [12]),
        ("baseline 0.6", [0, 14]),
        ("baseline 0.25", [12]),
        ("baseline 0.25", [29]),
    ],
)
def test_patches_that_meet_a_bad_tile_fail(
    made_slide: Path, tmp_path: Path, resolution: str, tiles: list[int]
) -> None:
    """Without overlap of outputs, so that a patch that is left out changes no other's map."""
    torn = zeroed(made_slide, tiles, tmp_path)
    model = PositionModel(Size(100, 84), Size(80, 70), Size(80, 70))
    failed, patches = check(made_slide, torn, tiles, model, resolution)
    assert 0 < failed < patches


def test_a_bad_chunk_of_an_ome_zarr_costs_no_more(tmp_path: Path) -> None:
    """Its fingerprint is made of pixels, some of which lie in the chunk."""
    path = tmp_path / "whole.ome.zarr"
    axes = [{"name": n, "type": "channel" if n == "c" else "space"} for n in "yxc"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    multiscale = {
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    attributes = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    group = zarr.open_group(path, mode="w", attributes=attributes)
    group.create_array("0", data=picture(1300, 1100), chunks=(TILE, TILE, 3))
    torn = spoiled_chunk(path, 12, tmp_path)
    model = PositionModel(Size(100, 84), Size(80, 70), Size(80, 70))
    failed, patches = check(path, torn, [12], model, "baseline 1.0")
    assert 0 < failed < patches
    with open_slide(path) as whole, open_slide(torn) as one, open_slide(torn) as other:
        assert whole.info.fingerprint != one.info.fingerprint == other.info.fingerprint


@pytest.mark.parametrize("resolution", ["baseline 1.0", "baseline 0.6"])
def test_so_they_do_through_openslide(made_slide: Path, tmp_path: Path, resolution: str) -> None:
    torn = zeroed(made_slide, [0, 12, 14], tmp_path)
    model = PositionModel(Size(100, 84), Size(80, 70), Size(80, 70))
    failed, patches = check(made_slide, torn, [0, 12, 14], model, resolution, with_openslide)
    assert 0 < failed < patches


@pytest.mark.parametrize("part", [0.02, 0.5])
def test_a_tile_that_breaks_off_is_no_grey_one(
    made_slide: Path, tmp_path: Path, part: float
) -> None:
    """Its decoder would answer with grey for what is missing, and the model for that."""
    torn = zeroed(made_slide, [12], tmp_path, part)
    patch = Size(120, 120)
    failed, _ = check(made_slide, torn, [12], PositionModel(patch, patch, patch), "baseline 1.0")
    assert failed == 4


def test_a_slide_that_is_cut_short(made_slide: Path, tmp_path: Path) -> None:
    """OpenSlide opens none such: it hashes the last level's tiles."""
    with tifffile.TiffFile(made_slide) as tif:
        offsets = tif.pages[0].aspage().dataoffsets
    assert list(offsets) == sorted(offsets)
    torn = tmp_path / "torn.tif"
    torn.write_bytes(made_slide.read_bytes()[: offsets[17] + 100])
    model = PositionModel(Size(100, 84), Size(80, 70), Size(80, 70))
    with warnings.catch_warnings():
        # Told when it is opened: tests of the readers look at that.
        warnings.simplefilter("ignore", SlideWarning)
        tiles = range(17, len(offsets))
        failed, patches = check(made_slide, torn, tiles, model, "baseline 1.0")
    assert 0 < failed < patches


def test_so_they_do_where_a_slide_is_enlarged(made_slide: Path, tmp_path: Path) -> None:
    torn = zeroed(made_slide, [12], tmp_path)
    model = PositionModel(Size(200, 160), Size(180, 150), Size(180, 150))
    failed, patches = check(made_slide, torn, [12], model, "baseline 1.3")
    assert 0 < failed < patches / 5


@pytest.mark.parametrize(("resolution", "side"), [("baseline 0.5", 128), ("4 mpp", 64)])
def test_one_tile_of_a_real_slide(
    real_slide: Path, tmp_path: Path, resolution: str, side: int
) -> None:
    torn = zeroed(real_slide, [44], tmp_path)
    patch = Size(side, side)
    failed, _ = check(real_slide, torn, [44], PositionModel(patch, patch, patch), resolution)
    assert failed == 4


@pytest.mark.parametrize(
    ("tiles", "most"), [([], 1.1), ([12], 1.2), (range(15, 30), 1.8), (range(0, 30, 2), 1.8)]
)
def test_bad_tiles_are_not_tried_again_and_again(
    made_slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiles: Sequence[int],
    most: float,
) -> None:
    decoded: Counter[tuple[int, int, int]] = Counter()
    decode = TiffSlide._decode

    def counted(self: TiffSlide, level: int, row: int, column: int) -> NDArray[np.uint8]:
        decoded[level, row, column] += 1
        return decode(self, level, row, column)

    monkeypatch.setattr(TiffSlide, "_decode", counted)
    patch = Size(128, 128)
    run_of(zeroed(made_slide, tiles, tmp_path), PositionModel(patch, patch, patch), "baseline 1.0")
    assert len(decoded) == 30
    assert decoded.total() <= most * len(decoded)
