"""Boxes against sets of pixels, and resolutions as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Region, Resolution, Size, Unit, size_at

REGIONS = st.builds(
    lambda top, left, height, width: Region(top, left, Size(height, width)),
    *[st.integers(-6, 6)] * 2,
    *[st.integers(0, 7)] * 2,
)


def pixels(region: Region) -> set[tuple[int, int]]:
    return {
        (row, column)
        for row in range(region.top, region.bottom)
        for column in range(region.left, region.right)
    }


@given(REGIONS, REGIONS)
def test_an_intersection_holds_the_pixels_of_both(one: Region, other: Region) -> None:
    both = one.intersection(other)
    assert pixels(both) == pixels(one) & pixels(other)
    assert both.is_empty == (not pixels(both))
    assert min(both.size.height, both.size.width) >= 0


@given(REGIONS, st.integers(-5, 5), st.integers(-5, 5))
def test_a_shift_moves_every_pixel(region: Region, rows: int, columns: int) -> None:
    moved = pixels(region.shifted(rows, columns))
    assert moved == {(y + rows, x + columns) for y, x in pixels(region)}


@given(REGIONS, st.integers(0, 6), st.integers(0, 6))
def test_clipping_keeps_what_lies_in_the_image(region: Region, height: int, width: int) -> None:
    image = {(y, x) for y in range(height) for x in range(width)}
    assert pixels(region.clipped(Size(height, width))) == pixels(region) & image
    assert region.size.area == len(pixels(region))


def test_slices_are_rows_then_columns() -> None:
    assert Region(1, 2, Size(3, 5)).slices == (slice(1, 4), slice(2, 7))


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("0.5 mpp", 0.5, "mpp"),
        (" .25MPP ", 0.25, "mpp"),
        ("2 µm/px", 2, "mpp"),
        ("2 um/px", 2, "mpp"),
        ("20x", 20, "power"),
        ("40 power", 40, "power"),
        ("level 1", 1, "level"),
        ("level 0", 0, "level"),
        ("baseline 0.5", 0.5, "baseline"),
        ("baseline", 1, "baseline"),
        ("baseline 1e-3", 1e-3, "baseline"),
    ],
)
def test_resolutions_as_people_write_them(text: str, value: float, unit: Unit) -> None:
    assert Resolution.parse(text) == Resolution(value, unit)


@pytest.mark.parametrize("text", ["", "0.5", "mpp", "level", "-1 mpp", "20 y", "1 2 mpp", "x"])
def test_what_is_no_resolution(text: str) -> None:
    with pytest.raises(JobError, match="is not a resolution; write it like"):
        Resolution.parse(text)


@pytest.mark.parametrize("text", ["0 mpp", "0x", "baseline 0", "level 1.5", "1e999 mpp"])
def test_resolutions_out_of_range(text: str) -> None:
    with pytest.raises(JobError, match="out of range"):
        Resolution.parse(text)


@given(st.floats(1e-9, 1e9), st.sampled_from(["mpp", "power", "baseline"]))
def test_a_resolution_reads_back_exactly(value: float, unit: Unit) -> None:
    resolution = Resolution(value, unit)
    assert Resolution.parse(str(resolution)) == resolution
    assert Resolution.parse(resolution) is resolution


def test_sizes_are_rounded_and_never_nothing() -> None:
    assert size_at(Size(2967, 2220), YX(4, 3)) == Size(742, 740)
    assert size_at(Size(100, 100), YX(0.5, 0.25)) == Size(200, 400)
    assert size_at(Size(3, 1000), YX(100, 100)) == Size(1, 10)
