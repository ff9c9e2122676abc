"""TIFF slides, written by tifffile and read beside OpenSlide."""

from __future__ import annotations

import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_wsiseg.errors import SlideError, SlideWarning
from napari_wsiseg.geometry import YX, Region, Resolution, Size
from napari_wsiseg.slides import open_slide, tiff
from napari_wsiseg.slides.levels import whole
from napari_wsiseg.slides.openslide_reader import open_file as open_with_openslide

TILED = {"photometric": "rgb", "tile": (64, 48)}
LOSSLESS = {
    "uncompressed": {**TILED},
    "deflate": {**TILED, "compression": "zlib", "predictor": True},
    "lzw": {**TILED, "compression": "lzw"},
    "planar": {"photometric": "rgb", "tile": (64, 48), "planarconfig": "separate"},
    "jpeg2000": {**TILED, "compression": 33005, "compressionargs": {"level": 0}},
    "one strip": {"photometric": "rgb", "rowsperstrip": 500},
    "strips": {"photometric": "rgb", "rowsperstrip": 37, "compression": "zlib"},
}
SVS = "Aperio Image Library v11.2.1 \r\n500x431|AppMag = 40|MPP = 0.2520|Left = 25.6"


def read_all(slide, level=0):
    return slide.read_level(level, whole(slide.info.levels[level].size))


def with_openslide(path, level=0):
    with openslide.OpenSlide(path) as slide:
        picture = slide.read_region((0, 0), level, slide.level_dimensions[level])
    return np.asarray(picture)[:, :, :3]


def write_pyramid(path, pixels, description=None, reduced=1, **options):
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as tif:
        for level in range(3):
            tif.write(
                pixels[:: 2**level, :: 2**level],
                subfiletype=reduced if level else 0,
                description=description,
                metadata=None,
                **options,
            )
    return path


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("options", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_pixels_come_back(tmp_path, micrograph, options, bigtiff, byteorder):
    pixels = micrograph
    if options.get("planarconfig"):
        pixels = np.ascontiguousarray(micrograph.transpose(2, 0, 1))
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, bigtiff=bigtiff, byteorder=byteorder, **options)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(read_all(slide), micrograph)
        assert slide.info.size == Size(500, 431)
        assert slide.info.mpp is None
        assert slide.info.mpp_source is None
        part = Region(130, 77, Size(90, 210))
        np.testing.assert_array_equal(slide.read_level(0, part), micrograph[part.slices])


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_generic_jpeg_pyramid_equals_openslide_bit_for_bit(tmp_path, micrograph, bigtiff):
    path = write_pyramid(
        tmp_path / "pyramid.tif", micrograph, bigtiff=bigtiff, compression="jpeg",
        photometric="rgb", tile=(128, 128),
    )  # fmt: skip
    with open_slide(path) as slide:
        assert slide.info.vendor == "tiff"
        assert [level.downsample for level in slide.info.levels] == [YX(k, k) for k in (1, 2, 4)]
        assert {level.tile for level in slide.info.levels} == {Size(128, 128)}
        for level in range(3):
            np.testing.assert_array_equal(read_all(slide, level), with_openslide(path, level))


def test_aperio_levels_scale_and_objective(tmp_path, micrograph):
    path = write_pyramid(
        tmp_path / "a.svs", micrograph, SVS, reduced=0, compression="jpeg",
        photometric="rgb", tile=(240, 240),
    )  # fmt: skip
    with open_slide(path) as slide:
        info = slide.info
        assert info.vendor == "aperio"
        assert info.mpp == YX(0.252, 0.252)
        assert info.mpp_source == "metadata"
        assert info.objective_power == 40
        assert len(info.levels) == 3
        for level in range(3):
            np.testing.assert_array_equal(read_all(slide, level), with_openslide(path, level))


@pytest.mark.parametrize(("code", "mct"), [(33003, False), (33005, True)])
def test_aperio_jpeg_2000_equals_openslide(tmp_path, micrograph, code, mct):
    pixels = micrograph[:480, :240]
    stored = pixels
    if code == 33003:
        r, g, b = np.moveaxis(pixels.astype(float), 2, 0)
        y = 0.299 * r + 0.587 * g + 0.114 * b
        ycc = np.stack([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402], axis=2)
        stored = np.clip(np.rint(ycc), 0, 255).astype(np.uint8)
    tiles = [
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(stored[i : i + 240]), level=0, codecformat="j2k", mct=mct
        )
        for i in (0, 240)
    ]
    path = tmp_path / "j2k.svs"
    tifffile.imwrite(
        path, iter(tiles), shape=pixels.shape, dtype=np.uint8, photometric="rgb",
        tile=(240, 240), compression=code, description=SVS, metadata=None,
    )  # fmt: skip
    with open_slide(path) as slide:
        assert isinstance(slide, tiff.TiffSlide)
        got = read_all(slide).astype(int)
    assert np.abs(got - pixels).max() <= (2 if code == 33003 else 0)
    assert np.abs(got - with_openslide(path)).max() <= (1 if code == 33003 else 0)


@pytest.mark.parametrize("separate", [False, True], ids=["samples", "pages"])
def test_ome_tiff_with_sub_ifds(tmp_path, micrograph, separate):
    path = tmp_path / "slide.ome.tif"
    metadata = {
        "axes": "CYX" if separate else "YXS",
        "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.3, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    options = {"tile": (64, 64), "photometric": "minisblack" if separate else "rgb"}

    def stored(step):
        part = micrograph[::step, ::step]
        return np.ascontiguousarray(part.transpose(2, 0, 1)) if separate else part

    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(np.zeros((40, 40), np.uint8), photometric="minisblack", metadata={"axes": "YX"})
        tif.write(stored(1), subifds=2, metadata=metadata, **options)
        for step in (2, 4):
            tif.write(stored(step), subfiletype=1, metadata=None, **options)
    with open_slide(path) as slide:
        assert slide.info.vendor == "ome-tiff"
        assert slide.info.stem == "slide"
        assert slide.info.mpp == YX(0.3, 0.25)
        for level, step in enumerate((1, 2, 4)):
            np.testing.assert_array_equal(read_all(slide, level), micrograph[::step, ::step])


def test_the_objective_of_an_ome_tiff_gives_a_nominal_scale(tmp_path, micrograph):
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="I:0">'
        '<Objective ID="O:0" NominalMagnification="20.0"/></Instrument>'
        '<Image ID="Image:0"><ObjectiveSettings ID="O:0"/><Pixels ID="P:0" DimensionOrder="XYCZT" '
        'Type="uint8" SizeX="431" SizeY="500" SizeC="3" SizeZ="1" SizeT="1">'
        '<Channel ID="C:0" SamplesPerPixel="3"/><TiffData/></Pixels></Image></OME>'
    )
    path = tmp_path / "slide.ome.tif"
    tifffile.imwrite(path, micrograph, photometric="rgb", description=xml, metadata=None)
    with pytest.warns(SlideWarning, match="20x"):
        slide = open_slide(path)
    assert slide.info.mpp == YX(0.5, 0.5)
    assert slide.info.mpp_source == "nominal"
    given = open_slide(path, mpp=(0.6, 0.7))  # no warning: the scale is known
    assert given.info.mpp == YX(0.6, 0.7)
    assert given.info.mpp_source == "user"


@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [
        ((20_000, 40_000), "CENTIMETER", YX(0.25, 0.5)),
        ((50_800, 50_800), "INCH", YX(0.5, 0.5)),
        ((72, 72), "INCH", None),
        ((300, 300), "INCH", None),
        ((28, 28), "CENTIMETER", None),
        ((20_000, 20_000), "NONE", None),
        ((0, 0), "CENTIMETER", None),
    ],
)
def test_resolution_tags_are_a_scale_only_where_they_are_a_microscopes(
    tmp_path, micrograph, resolution, unit, mpp
):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, micrograph, photometric="rgb", tile=(64, 64), resolution=resolution,
        resolutionunit=unit,
    )  # fmt: skip
    got = open_slide(path).info.mpp
    assert got == mpp if mpp is None else got == pytest.approx(mpp)


def test_grey_palette_and_alpha(tmp_path, micrograph):
    grey = micrograph[:, :, 0]
    cases = {}
    path = tmp_path / "grey.tif"
    tifffile.imwrite(path, grey, photometric="minisblack")
    cases[path] = np.repeat(grey[:, :, None], 3, axis=2)
    path = tmp_path / "white.tif"
    tifffile.imwrite(path, 255 - grey, photometric="miniswhite")
    cases[path] = np.repeat(grey[:, :, None], 3, axis=2)
    path = tmp_path / "palette.tif"
    table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    tifffile.imwrite(path, grey, photometric="palette", colormap=table)
    cases[path] = (table.T // 257).astype(np.uint8)[grey]
    path = tmp_path / "alpha.tif"
    alpha = np.linspace(0, 255, 431).astype(np.uint8) * np.ones((500, 1), np.uint8)
    rgba = np.dstack([micrograph, alpha])
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64))
    a = alpha[:, :, None] / 255
    cases[path] = np.rint(micrograph * a + 255 * (1 - a)).astype(np.uint8)
    for path, want in cases.items():
        with open_slide(path) as slide:
            off = np.abs(read_all(slide).astype(int) - want)
            assert off.max() <= (1 if path.name == "alpha.tif" else 0), path.name
            assert (off > 0).mean() < 1e-3


def test_colours_that_are_weighed_with_alpha_already(tmp_path):
    rgba = np.full((8, 8, 4), (100, 50, 0, 128), np.uint8)
    path = tmp_path / "premultiplied.tif"
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["assocalpha"])
    with open_slide(path) as slide:
        assert (read_all(slide) == (227, 177, 127)).all()


def test_the_real_slide_equals_openslide_bit_for_bit(real_slide):
    with open_slide(real_slide) as slide:
        assert isinstance(slide, tiff.TiffSlide)
        assert slide.info.mpp == YX(0.499, 0.499)
        assert slide.info.objective_power == 20
        np.testing.assert_array_equal(read_all(slide), with_openslide(real_slide))


@pytest.mark.parametrize("resolution", ["baseline", "1 mpp", "10x", "baseline 0.5", "0.4 mpp"])
def test_windows_of_the_real_slide_are_cuts_of_the_whole(real_slide, resolution):
    at = Resolution.parse(resolution)
    rng = np.random.default_rng(1)
    with open_slide(real_slide) as slide:
        size = slide.info.size_at(at)
        full = slide.read(whole(size), at)
        for _ in range(12):
            top, left = rng.integers(0, (size.height, size.width))
            window = Region(int(top), int(left), Size(300, 200))
            inside = window.clipped(size)
            got = slide.read(window, at)[: inside.size.height, : inside.size.width]
            np.testing.assert_array_equal(got, full[inside.slices])


def test_eight_threads_read_what_one_reads(real_slide):
    rng = np.random.default_rng(2)
    corners = rng.integers(-100, 2300, (64, 2))
    jobs = [(Region(int(t), int(x), Size(200, 260)), YX(1.7, 1.7)) for t, x in corners]
    with open_slide(real_slide) as slide:
        one = [slide.read_at(*job) for job in jobs]
    with open_slide(real_slide) as slide, ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda job: slide.read_at(*job), jobs))
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


@given(st.integers(-30, 520), st.integers(-30, 450), st.floats(0.3, 9), st.floats(0.3, 9))
@settings(max_examples=40)
def test_windows_over_levels_are_cuts_of_the_whole(tmp_path_factory, top, left, fy, fx):
    path = tmp_path_factory.getbasetemp() / "levels.tif"
    if not path.exists():
        rng = np.random.default_rng(0)
        write_pyramid(path, rng.integers(0, 256, (500, 431, 3), np.uint8), **TILED)
    factor = YX(fy, fx)
    with open_slide(path) as slide:
        around = Region.from_bounds(top - 20, left - 20, top + 50, left + 60)
        large = slide.read_at(around, factor)
        small = slide.read_at(Region(top, left, Size(30, 40)), factor)
    np.testing.assert_array_equal(small, large[20:50, 20:60])


def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path, micrograph):
    path = write_pyramid(tmp_path / "p.tif", micrograph, **TILED)
    with open_slide(path) as slide:
        third = slide.read_at(Region(0, 0, Size(125, 108)), YX(4.0, 4.0))
        np.testing.assert_array_equal(third, micrograph[::4, ::4])
        near = slide.read_at(Region(0, 0, Size(50, 50)), YX(3.99, 3.99))
        assert np.abs(near.astype(int) - third[:50, :50]).max() < 60  # level 2, not level 1
        with_levels = slide.read(Region(0, 0, Size(10, 10)), Resolution.parse("level 1"))
        np.testing.assert_array_equal(with_levels, micrograph[:20:2, :20:2])


def test_a_tile_is_decoded_once_for_reads_side_by_side(real_slide, monkeypatch):
    decoded = []
    original = tiff.TiffSlide._decode
    monkeypatch.setattr(
        tiff.TiffSlide,
        "_decode",
        lambda self, *key: decoded.append(key) or original(self, *key),
    )
    with open_slide(real_slide) as slide:
        for top in range(0, 2967, 100):
            for left in range(0, 2220, 300):
                slide.read_level(0, Region(top, left, Size(100, 300)).clipped(slide.info.size))
    assert len(decoded) == len(set(decoded)) == 13 * 10


def test_a_broken_tile_costs_only_the_reads_that_meet_it(real_slide, tmp_path):
    data = bytearray(real_slide.read_bytes())
    with tifffile.TiffFile(real_slide) as tif:
        page = tif.pages[0]
        start, count = page.dataoffsets[44], page.databytecounts[44]
    data[start : start + count] = b"\xff" * count
    path = tmp_path / "broken.svs"
    path.write_bytes(data)
    tile = Region(4 * 240, 4 * 240, Size(240, 240))
    with open_slide(path) as slide, open_slide(real_slide) as good:
        for _ in range(2):
            with pytest.raises(SlideError, match=r"broken cannot be read in rows 960 to 1200"):
                slide.read_level(0, tile)
        beside = tile.shifted(240, 0)
        np.testing.assert_array_equal(slide.read_level(0, beside), good.read_level(0, beside))
    with open_with_openslide(path, None) as slide:  # its handle fails for ever after an error
        with pytest.raises(SlideError, match="broken cannot be read"):
            slide.read_level(0, tile)
        far = Region(0, 0, Size(300, 300))
        assert slide.read_level(0, far).shape == (300, 300, 3)


def test_a_slide_cut_short_warns_and_fails_only_where_it_is_short(tmp_path, micrograph):
    path = tmp_path / "short.tif"
    tifffile.imwrite(path, micrograph, photometric="rgb", tile=(64, 48))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.warns(SlideWarning, match="short.tif is cut short: [0-9]+ of its 72 tiles"):
        slide = open_slide(path)
    top, bottom = Region(0, 0, Size(64, 48)), Region(490, 400, Size(5, 5))
    np.testing.assert_array_equal(slide.read_level(0, top), micrograph[top.slices])
    with pytest.raises(SlideError, match="cut short"):
        slide.read_level(0, bottom)


@pytest.mark.parametrize("tag", ["TileOffsets", "TileByteCounts"])
@pytest.mark.parametrize("kind", [2, 7, 11, 12])
def test_a_list_of_tiles_that_holds_no_numbers_is_refused(tmp_path, micrograph, tag, kind):
    """Of a type that is text, bytes or of fractions."""
    path = tmp_path / "spoiled.tif"
    tifffile.imwrite(path, micrograph, photometric="rgb", tile=(64, 48))
    with tifffile.TiffFile(path) as tif:
        place = tif.pages.first.tags[tag].offset + 2
    data = bytearray(path.read_bytes())
    data[place : place + 2] = kind.to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"cannot be opened as a slide"):
        open_slide(path)


def test_a_directory_that_is_cut_short_is_told(real_slide, tmp_path):
    data = real_slide.read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[:-1000])  # the tiles are whole, the last page is not
    with (
        pytest.warns(SlideWarning, match="cut.svs is cut short: its directory"),
        open_slide(path) as slide,
    ):
        np.testing.assert_array_equal(read_all(slide), with_openslide(real_slide))


def test_a_tile_that_was_never_written_is_white(tmp_path):
    path = tmp_path / "sparse.tif"
    tiles = iter([b"", np.zeros((64, 64, 3), np.uint8).tobytes()])
    tifffile.imwrite(
        path, tiles, shape=(64, 128, 3), dtype=np.uint8, photometric="rgb", tile=(64, 64)
    )
    with open_slide(path) as slide:
        got = read_all(slide)
    assert got[:, :64].min() == 255
    assert got[:, 64:].max() == 0


def test_a_tile_that_claims_to_be_huge_is_refused(real_slide, tmp_path):
    bomb = imagecodecs.jpeg_encode(np.zeros((4000, 4000, 3), np.uint8), level=50)
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path, iter([bomb]), shape=(64, 64, 3), dtype=np.uint8, photometric="rgb", tile=(64, 64),
        compression="jpeg",
    )  # fmt: skip
    with open_slide(path) as slide, pytest.raises(SlideError, match="claims 4000 x 4000"):
        read_all(slide)


@pytest.mark.parametrize("codecformat", ["j2k", "jp2"])
def test_so_is_one_of_jpeg_2000_before_it_is_decoded(tmp_path, monkeypatch, codecformat):
    pixels = np.zeros((4000, 3000, 3), np.uint8)
    bomb = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat=codecformat)
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path, iter([bomb]), shape=(64, 64, 3), dtype=np.uint8, photometric="rgb", tile=(64, 64),
        compression=33005,
    )  # fmt: skip
    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", None)
    with open_slide(path) as slide, pytest.raises(SlideError, match="claims 3000 x 4000"):
        read_all(slide)


def jpeg_of(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def slide_of_one_tile(path, data, side):
    tifffile.imwrite(
        path, iter([data]), shape=(side, side, 3), dtype=np.uint8, photometric="ycbcr",
        tile=(side, side), compression="jpeg",
    )  # fmt: skip
    return open_slide(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, at: data[:at],
        lambda data, at: data[:at] + bytes(len(data) - at),
        lambda data, at: data[:at] + b"\xff" * (len(data) - at),
        lambda data, at: data[:at] + b"\xff" * 64 + data[at + 64 :],
        lambda data, at: data[:at] + b"II*\0\xff\xc8\0\0" + data[at + 8 :],
        lambda data, _: data[: data.index(b"\xff\xda")] + b"\xff\xd9",
    ],
    ids=["cut", "zeros from there on", "ones from there on", "ones", "a marker", "no pixels"],
)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_jpeg_that_a_decoder_would_paint_over_is_damage(tmp_path, micrograph, damage, part):
    """libjpeg fills what is missing with grey, and only warns."""
    good = jpeg_of(np.ascontiguousarray(micrograph[:128, :128]))
    with slide_of_one_tile(tmp_path / "good.tif", good, 128) as slide:
        read_all(slide)
    bad = damage(good, int(part * len(good)))
    with (
        slide_of_one_tile(tmp_path / "bad.tif", bad, 128) as slide,
        pytest.raises(SlideError, match=r"bad cannot be read in .*: a tile's JPEG is"),
    ):
        read_all(slide)


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ({"progressive": True}, b""),
        ({"restart_marker_blocks": 3}, b""),
        ({"progressive": True, "restart_marker_blocks": 1, "optimize": True}, b"\0"),
        ({}, b"\0\0\0"),
        ({}, b"\xff"),
        ({"comment": b"\xff\xda and \xff\xc8 are no markers here"}, b""),
    ],
)
def test_a_jpeg_of_another_make_is_none(tmp_path, micrograph, options, after):
    pixels = np.ascontiguousarray(micrograph[:128, :128])
    data = jpeg_of(pixels, **options)
    with slide_of_one_tile(tmp_path / "a.tif", data + after, 128) as slide:
        np.testing.assert_array_equal(read_all(slide), imagecodecs.jpeg8_decode(data))


@pytest.mark.parametrize("layout", ["samples", "pages", "white is zero"])
def test_floats_are_shown_as_their_bytes(tmp_path, micrograph, layout):
    path, floats = tmp_path / "float.ome.tif", (micrograph / 255).astype(np.float32)
    want = micrograph
    if layout == "samples":
        tifffile.imwrite(path, floats, photometric="rgb", tile=(64, 64))
    elif layout == "pages":
        planes = np.ascontiguousarray(floats.transpose(2, 0, 1))
        tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "CYX"})
    else:
        tifffile.imwrite(path, 1 - floats[:, :, 0], photometric="miniswhite", metadata=None)
        want = np.repeat(micrograph[:, :, :1], 3, axis=2)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(read_all(slide), want)


def test_a_stack_of_pictures_is_told(tmp_path, micrograph):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([micrograph] * 3), photometric="rgb")
    with (
        pytest.warns(SlideWarning, match="stack.tif holds 3 pictures of one size; only the first"),
        open_slide(path) as slide,
    ):
        np.testing.assert_array_equal(read_all(slide), micrograph)


def test_a_mask_beside_the_picture_is_none_of_a_stack(tmp_path, micrograph):
    path = tmp_path / "masked.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(micrograph, photometric="rgb", metadata=None)
        mask = micrograph[:, :, 0] > 100
        tif.write(mask, photometric="minisblack", subfiletype=4, metadata=None)
    open_slide(path).close()  # a warning would be an error


def test_an_ome_tiff_without_physical_sizes_keeps_its_tags_scale(tmp_path, micrograph):
    path = tmp_path / "slide.ome.tif"
    tifffile.imwrite(
        path, micrograph, photometric="rgb", resolution=(20_000, 40_000),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    with open_slide(path) as slide:
        assert slide.info.vendor == "ome-tiff"
        assert slide.info.mpp == pytest.approx(YX(0.25, 0.5))


@pytest.mark.parametrize(
    ("pixels", "options", "match"),
    [
        (np.zeros((64, 64, 3), np.uint16), {"photometric": "rgb"}, "uint16"),
        (np.zeros((64, 64, 4), np.uint8), {"photometric": "separated"}, "colour space"),
        (np.zeros((5, 64, 64), np.uint8), {"ome": True, "metadata": {"axes": "ZYX"}}, "stack"),
        (np.zeros((4, 64, 64), np.uint8), {"ome": True, "metadata": {"axes": "CYX"}}, "channels"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_with_the_reason(tmp_path, pixels, options, match):
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    with pytest.raises(SlideError, match=match):
        open_slide(path)


def test_reads_after_close_raise(tmp_path, micrograph):
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, micrograph, photometric="rgb", tile=(64, 64))
    slide = open_slide(path)
    lazy = slide.pyramid()[0]
    slide.close()
    slide.close()
    with pytest.raises(SlideError, match="s is closed; open it again"):
        slide.read(Region(0, 0, Size(4, 4)), Resolution.parse("baseline"))
    with pytest.raises(SlideError, match="closed"):
        lazy[:5, :5].compute()
    path.unlink()  # nothing holds the file


def test_closing_waits_for_who_reads(tmp_path, micrograph, monkeypatch):
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, micrograph, photometric="rgb", tile=(64, 64))
    reading, closed = threading.Event(), threading.Event()
    original = tiff.TiffSlide._decode

    def slow(self, *key):
        reading.set()
        assert closed.wait(10)
        return original(self, *key)

    monkeypatch.setattr(tiff.TiffSlide, "_decode", slow)
    slide = open_slide(path)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(read_all, slide)
        assert reading.wait(10)
        slide.close()
        closed.set()
        np.testing.assert_array_equal(future.result(), micrograph)
    assert slide._file._file.closed


def test_opening_is_quiet_for_a_good_slide(real_slide):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_slide(real_slide).close()
