"""Levels for display: own ones, averaged ones, and the cache that keeps them."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile

from napari_wsiseg.errors import SlideError, SlideWarning
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides import display_cache, open_slide, pyramid
from napari_wsiseg.slides.base import Level, SlideInfo
from napari_wsiseg.slides.levels import LevelSlide


def info_of(*levels):
    made = tuple(Level(Size(*size), YX(k, k), Size(256, 256)) for size, k in levels)
    return SlideInfo(None, made[0].size, None, None, None, made, "x", None, "f" * 64)


@pytest.mark.parametrize(
    ("levels", "want"),
    [
        ([((300, 500), 1)], [("own", 1)]),
        ([((3000, 2000), 1)], [("own", 1), ("made", 2), ("made", 4), ("made", 8)]),
        (
            [((16000, 16000), 1), ((4000, 4000), 4), ((1000, 1000), 16)],
            [("own", 1), ("own", 4), ("own", 16), ("made", 32)],
        ),
        (
            [((8000, 8000), 1), ((500, 500), 16)],
            [("own", 1), ("made", 2), ("made", 4), ("own", 16)],
        ),
        (
            [((60000, 60000), 1)],
            [("own", 1), *(("made", k) for k in (4, 8, 16, 32, 64, 128))],
        ),
    ],
)
def test_which_levels_are_shown(levels, want):
    shown = pyramid.plan_levels(info_of(*levels))
    assert [("made" if s.own is None else "own", s.downsample.y) for s in shown] == want
    assert max(shown[-1].size.height, shown[-1].size.width) <= 512


def test_the_real_slide_gets_averaged_levels_from_a_cache_file(real_slide, monkeypatch):
    with open_slide(real_slide) as slide:
        shown = slide.pyramid()
        assert all(isinstance(level, da.Array) and level.dtype == np.uint8 for level in shown)
        assert [level.shape for level in shown] == [
            (2967, 2220, 3), (1484, 1110, 3), (742, 555, 3), (371, 278, 3),
        ]  # fmt: skip
        half = slide.read_at(Region(0, 0, Size(1484, 1110)), YX(2.0, 2.0))
        np.testing.assert_array_equal(shown[1].compute(), half)
        quarter = slide.read_at(Region(0, 0, Size(742, 555)), YX(4.0, 4.0))
        assert np.abs(shown[2].compute().astype(int) - quarter).max() <= 1
        full = slide.read_level(0, Region(0, 0, slide.info.size))
        np.testing.assert_array_equal(
            shown[0][900:1500, 33:1000].compute(), full[900:1500, 33:1000]
        )
        assert len(list(display_cache.folder().iterdir())) == 1
    monkeypatch.setattr(pyramid, "_build", None)  # a second time nothing is computed
    with open_slide(real_slide) as slide:
        again = slide.pyramid()
        np.testing.assert_array_equal(again[-1].compute(), shown[-1].compute())
        assert slide.pyramid()[0] is again[0]


@pytest.mark.parametrize("is_there", [False, True])
def test_levels_that_another_process_makes_meanwhile_stay(monkeypatch, is_there):
    """At the last moment, and in place of some that were not whole."""
    sizes, replace = [Size(4, 4)], Path.replace

    def build(value, group, *, whole=True):
        display_cache.create(group, "0", sizes[0], 4)[:] = value
        if not whole:
            display_cache.mark_incomplete(group)

    def quicker(self, name):
        if self.is_dir():
            monkeypatch.setattr(Path, "replace", replace)
            display_cache.make("f" * 64, sizes, partial(build, 2))
        return replace(self, name)

    if is_there:
        display_cache.make("f" * 64, sizes, partial(build, 1, whole=False))
    monkeypatch.setattr(Path, "replace", quicker)
    (level,) = display_cache.make("f" * 64, sizes, partial(build, 3))
    assert (level[:] == 2).all()
    assert len(list(display_cache.folder().iterdir())) == 1


def test_no_level_is_a_graph_over_level_0(real_slide, monkeypatch):
    with open_slide(real_slide) as slide:
        coarse = slide.pyramid()[-1]
        monkeypatch.setattr(slide, "_read_level", None)
        assert coarse.compute().shape == (371, 278, 3)


@pytest.fixture
def one_level(tmp_path, micrograph):
    path = tmp_path / "one.tif"
    tifffile.imwrite(path, np.tile(micrograph, (3, 3, 1)), photometric="rgb", tile=(64, 64))
    return path


def test_a_cache_that_is_damaged_is_made_again(one_level):
    with open_slide(one_level) as slide:
        want = [level.compute() for level in slide.pyramid()]
    entry = next(display_cache.folder().iterdir())
    (entry / "1/zarr.json").write_text("{}")
    with open_slide(one_level) as slide:
        for level, expected in zip(slide.pyramid(), want, strict=True):
            np.testing.assert_array_equal(level.compute(), expected)
    assert [p.name for p in display_cache.folder().iterdir()] == [entry.name]


def test_without_a_cache_folder_small_levels_stay_in_memory(one_level, tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    monkeypatch.setenv(display_cache.VARIABLE, str(blocked))
    with open_slide(one_level) as slide:
        assert [level.shape[0] for level in slide.pyramid()] == [1500, 750, 375]
        assert slide.pyramid()[-1].compute().std() > 0
    monkeypatch.setattr(pyramid, "_MEMORY_BYTES", 1000)
    with (
        open_slide(one_level) as slide,
        pytest.raises(SlideError, match=display_cache.VARIABLE),
    ):
        slide.pyramid()


def test_a_failed_build_leaves_nothing(one_level, monkeypatch):
    def fail(*_):
        raise MemoryError

    with open_slide(one_level) as slide:
        monkeypatch.setattr(slide, "_read_level", fail)
        with pytest.raises(MemoryError):
            slide.pyramid()
    assert list(display_cache.folder().iterdir()) == []


def test_a_tile_that_cannot_be_read_is_grey_and_the_rest_shows(one_level):
    with open_slide(one_level) as slide:
        want = [level.compute() for level in slide.pyramid()]
    with tifffile.TiffFile(one_level) as tif:
        offsets = tif.pages[0].dataoffsets
    data = bytearray(one_level.read_bytes())
    with tifffile.TiffFile(one_level) as tif:
        place = tif.pages[0].tags["TileOffsets"].valueoffset + 4 * 30  # tile (1, 9)
    assert int.from_bytes(data[place : place + 4], "little") == offsets[30]
    data[place : place + 4] = (2**31).to_bytes(4, "little")
    one_level.write_bytes(data)
    for _ in range(2):  # what is incomplete is not kept for another time
        with (
            pytest.warns(SlideWarning, match="cut short"),
            open_slide(one_level) as slide,
            pytest.warns(SlideWarning, match="one cannot be read in 1 places"),
        ):
            got = [level.compute() for level in slide.pyramid()]
        for k, (a, b) in enumerate(zip(got, want, strict=True)):
            off = (a != b).any(axis=2)
            rows, columns = np.nonzero(off)
            row, column = divmod(30, 21)
            assert rows.min() >= row * 64 // 2**k - 1
            assert rows.max() <= (row + 1) * 64 // 2**k + 1
            assert columns.min() >= column * 64 // 2**k - 1
            assert columns.max() <= (column + 1) * 64 // 2**k + 1
        assert (got[0][row * 64 + 5, column * 64 + 5] == 200).all()


def test_the_oldest_goes_when_the_cache_is_full(one_level, monkeypatch):
    root = display_cache.folder()
    long_ago = time.time() - 30 * 24 * 3600
    for name, age in (("old.zarr", 2), ("older.zarr", 3), ("x.zarr-1.partial", 1), ("new.zarr", 0)):
        (root / name).mkdir(parents=True)
        (root / name / "data").write_bytes(bytes(1000))
        if age:
            os.utime(root / name, (long_ago - age * 3600,) * 2)
    with open_slide(one_level) as slide:
        own = f"{slide.info.fingerprint[:32]}.zarr"
        monkeypatch.setattr(display_cache, "MAX_BYTES", 10**9)
        slide.pyramid()
    assert {p.name for p in root.iterdir()} == {own, "old.zarr", "older.zarr", "new.zarr"}
    monkeypatch.setattr(display_cache, "MAX_BYTES", display_cache._bytes(root) - 500)
    display_cache._trim(root, root / own)
    assert {p.name for p in root.iterdir()} == {own, "old.zarr", "new.zarr"}
    monkeypatch.setattr(display_cache, "MAX_BYTES", 0)
    display_cache._trim(root, root / own)
    assert {p.name for p in root.iterdir()} == {own, "new.zarr"}  # perhaps on somebody's screen


def test_arrays_are_averaged_in_memory(micrograph):
    with open_slide(np.tile(micrograph, (3, 3, 1))) as slide:
        assert slide.pyramid()[-1].shape == (375, 323, 3)
    assert not display_cache.folder().exists()


class Stripes(LevelSlide):
    """A large slide that is nowhere, and counts what is read of it."""

    def __init__(self, height, width):
        super().__init__(info_of(((height, width), 1)))
        self.largest = self.total = 0

    def _read_level(self, level, region):
        self.largest = max(self.largest, region.size.area)
        self.total += region.size.area
        rows = np.arange(region.top, region.bottom) // 64 % 256
        shape = (region.size.height, region.size.width, 3)
        return np.broadcast_to(rows.astype(np.uint8)[:, None, None], shape).copy()


def test_averaging_streams_and_reads_level_0_once():
    with Stripes(9000, 7000) as slide:
        shown = slide.pyramid()
        assert slide.total == 9000 * 7000
        assert slide.largest <= 1024 * 1024
        column = shown[-1][:, 0, 0].compute()
    assert shown[-1].shape == (281, 219, 3)
    np.testing.assert_array_equal(column[:281], np.arange(281) * 32 // 64 % 256)
