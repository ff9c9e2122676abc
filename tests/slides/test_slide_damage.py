"""A damaged tile costs the pixels that are made of it, and no others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.errors import SlideError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides import open_slide
from napari_wsiseg.slides.damage import read_with_gaps
from napari_wsiseg.slides.levels import TiledSlide
from napari_wsiseg.slides.openslide_reader import open_file as open_with_openslide
from napari_wsiseg.slides.scale import choose_scale, describe, make_levels


class Damaged(TiledSlide):
    """Two levels of noise in tiles, of which some cannot be decoded."""

    def __init__(self, size, tile, bad=()):
        pixels = np.random.default_rng(0).integers(0, 256, (size.height, size.width, 3), np.uint8)
        self._pixels = [pixels, pixels[::2, ::2]]
        levels = make_levels([Size(*p.shape[:2]) for p in self._pixels], [tile, tile])
        super().__init__(describe(None, "made", "0" * 16, levels, choose_scale(None, None, None)))
        self._bad = frozenset(bad)
        self.decoded = Counter()
        self.reads = []

    def read_at(self, region, downsample):
        self.reads.append(region)
        return super().read_at(region, downsample)

    def _decode(self, level, row, column):
        self.decoded[level, row, column] += 1
        if (level, row, column) in self._bad:
            raise ValueError("torn")
        return self._pixels[level][self._tile_region(level, row, column).slices]


def unreadable(slide, region, downsample):
    """Pixel by pixel, what cannot be read alone."""
    out = np.zeros((region.size.height, region.size.width), bool)
    for y, x in np.ndindex(out.shape):
        try:
            slide.read_at(Region(region.top + y, region.left + x, Size(1, 1)), downsample)
        except SlideError:
            out[y, x] = True
    return out


# Of those below 1, none puts an output exactly on a source pixel: its other taps weigh nothing.
FACTORS = st.sampled_from([1.0, 2.0, 3.0, 1.7, 2.004, 4.3, 0.5, 0.4])
TILES = st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 5))


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(3, 14), st.integers(3, 14), FACTORS,
    FACTORS, st.integers(-3, 30), st.integers(-3, 30), st.integers(1, 16), st.integers(1, 16),
    st.sets(TILES, max_size=9),
)  # fmt: skip
def test_gaps_are_the_pixels_that_cannot_be_read(
    height, width, tile_height, tile_width, fy, fx, top, left, h, w, bad
):
    size, tile = Size(height, width), Size(tile_height, tile_width)
    region, downsample = Region(top, left, Size(h, w)), YX(fy, fx)
    slide = Damaged(size, tile, bad)
    pixels, gaps = read_with_gaps(slide, region, downsample)
    covered = np.zeros(pixels.shape[:2], bool)
    for gap in gaps:
        assert gap.region.intersection(region) == gap.region
        assert "torn" in gap.reason
        covered[gap.region.shifted(-top, -left).slices] = True
    # Beyond the slide all is white, and nothing has to be read for it.
    reads = unreadable(slide, region, downsample)
    assert (covered >= reads).all()
    inside = region.clipped(Size(int(height / fy), int(width / fx))).shifted(-top, -left).slices
    np.testing.assert_array_equal(covered[inside], reads[inside])
    whole = Damaged(size, tile).read_at(region, downsample)
    np.testing.assert_array_equal(pixels[~covered], whole[~covered])
    assert (pixels[covered] == 255).all()


def test_a_whole_slide_is_read_once():
    slide = Damaged(Size(40, 40), Size(8, 8))
    region = Region(0, 0, Size(40, 40))
    assert read_with_gaps(slide, region, YX(1, 1))[1] == []
    assert slide.reads == [region]
    assert set(slide.decoded.values()) == {1}


def test_however_many_tiles_are_bad_none_is_tried_more_than_twice():
    bad = [(0, row, column) for row in range(20) for column in range(20) if (row + column) % 2]
    slide = Damaged(Size(160, 160), Size(8, 8), bad)
    for factor in (1.0, 1.7):
        slide.decoded.clear()
        size = Size(int(160 / factor), int(160 / factor))
        gaps = read_with_gaps(slide, Region(0, 0, size), YX(factor, factor))[1]
        assert len(gaps) == len(bad)
        assert max(slide.decoded.values()) <= 2


def test_a_closed_slide_is_all_gap():
    slide = Damaged(Size(8, 8), Size(8, 8))
    slide.close()
    _, gaps = read_with_gaps(slide, Region(0, 0, Size(8, 8)), YX(1, 1))
    assert [gap.region for gap in gaps] == [Region(0, 0, Size(8, 8))]
    assert "closed" in gaps[0].reason


@pytest.fixture
def torn(tmp_path, micrograph):
    """A TIFF that OpenSlide reads, of 2 x 2 tiles; the last one is no JPEG."""
    path = tmp_path / "torn.tif"
    tifffile.imwrite(
        path, np.ascontiguousarray(micrograph[:480, :430]), tile=(240, 240), compression="jpeg",
        photometric="ycbcr",
    )  # fmt: skip
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        start, count = page.dataoffsets[3], page.databytecounts[3]
    data = bytearray(path.read_bytes())
    data[start : start + count] = bytes(count)
    path.write_bytes(data)
    return path


def test_openslides_gaps_are_the_files_own_tiles(torn):
    region = Region(0, 0, Size(480, 430))
    with open_with_openslide(torn, None) as slide, open_slide(torn) as other:
        assert slide.info.levels[0].tile == Size(240, 240)
        pixels, gaps = read_with_gaps(slide, region, YX(1, 1))
        assert [gap.region for gap in gaps] == [Region(240, 240, Size(240, 190))]
        np.testing.assert_array_equal(pixels, read_with_gaps(other, region, YX(1, 1))[0])


def test_another_threads_bad_tile_costs_no_good_one(torn):
    """OpenSlide's handle fails for ever after an error, for all who share it."""
    with open_with_openslide(torn, None) as slide, open_slide(torn) as other:
        with pytest.raises(Exception, match="JPEG"):
            slide._handle.read_region((240, 240), 0, (190, 240))
        good = Region(0, 0, Size(240, 430))
        np.testing.assert_array_equal(slide.read_level(0, good), other.read_level(0, good))
        with pytest.raises(SlideError, match="torn cannot be read in rows 240 to 480"):
            slide.read_level(0, Region(240, 240, Size(240, 190)))
        handle = slide._handle
        with pytest.raises(SlideError, match="torn cannot be read in rows 240 to 480"):
            slide.read_level(0, Region(240, 240, Size(240, 190)))
        assert slide._handle is handle, "a known bad tile breaks no further handle"
