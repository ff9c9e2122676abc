"""OpenSlide, OME-Zarr, pictures, arrays and layers; scales, fingerprints, refusals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numpy as np
import ome_zarr_models.v04
import ome_zarr_models.v05
import openslide
import pytest
import tifffile
import zarr
from PIL import Image

from napari_wsiseg.errors import JobError, SlideError, SlideWarning
from napari_wsiseg.geometry import YX, Region, Resolution, Size
from napari_wsiseg.slides import (
    READERS,
    Slide,
    fingerprint,
    open_slide,
    openslide_reader,
    picture,
)
from napari_wsiseg.slides.base import SlideInfo
from napari_wsiseg.slides.levels import whole
from napari_wsiseg.slides.scale import level_downsample, micrometres

VOLUME = "1.2.826.0.1.3680043.8.498.58740178995208579534253317996600852419.dcm"


def read_all(slide, level=0):
    return slide.read_level(level, whole(slide.info.levels[level].size))


@pytest.fixture
def dicom(shared_data):
    return shared_data / "CMU-1-Small-Region-dicom"


# OpenSlide


def test_dicom_reads_as_openslide_does(dicom):
    with openslide.OpenSlide(dicom / VOLUME) as reference:
        want = np.asarray(reference.read_region((0, 0), 0, reference.dimensions))[:, :, :3]
    with open_slide(dicom) as slide:
        assert isinstance(slide, Slide)
        assert slide.info.vendor == "dicom"
        assert slide.info.mpp == pytest.approx(YX(0.499, 0.499))
        np.testing.assert_array_equal(read_all(slide), want)
        out = slide.read(Region(2960, 2210, Size(20, 20)), Resolution.parse("baseline"))
        np.testing.assert_array_equal(out[:7, :10], want[2960:, 2210:])
        assert out[7:].min() == 255
        assert out[:, 10:].min() == 255


def test_dicom_shows_the_same_tissue_as_the_svs_it_was_made_from(dicom, real_slide):
    at, one = Resolution.parse("baseline 0.125"), Region(0, 0, Size(370, 277))
    with open_slide(dicom) as copy, open_slide(real_slide) as original:
        # The copy was compressed again (and its colours told otherwise): alike, not equal.
        off = copy.read(one, at).astype(int) - original.read(one, at)
    assert np.abs(off).mean() < 4


def test_eight_threads_read_dicom_as_one_does(dicom):
    boxes = [Region(t, x, Size(300, 300)) for t in range(0, 2700, 270) for x in (0, 900, 1800)]
    with open_slide(dicom) as slide:
        one = [slide.read_level(0, box) for box in boxes]
    with open_slide(dicom) as slide, ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda box: slide.read_level(0, box), boxes))
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_dicom_series_has_one_fingerprint_whatever_its_files_are_called(dicom, tmp_path):
    for number, file in enumerate(sorted(dicom.iterdir(), reverse=True)):
        shutil.copy(file, tmp_path / f"{number}.dcm")
    (tmp_path / "other.dcm").write_bytes(bytes(128) + b"DICM another series")
    prints = set()
    for path in (dicom, dicom / VOLUME, tmp_path / "0.dcm", tmp_path / "3.dcm"):
        with open_slide(path) as slide:
            prints.add(slide.info.fingerprint)
    assert len(prints) == 1


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ((10, 20, 300, 400), Region(10, 20, Size(300, 400))),
        ((900, 20, 300, 400), Region(900, 20, Size(100, 400))),
        ((0, 0, 1000, 2000), None),
        ((2000, 0, 5, 5), None),
        (("", 20, 300, 400), None),
    ],
)
def test_bounds_are_the_part_that_was_scanned(values, want):
    names = ("bounds-y", "bounds-x", "bounds-height", "bounds-width")
    properties = {f"openslide.{n}": str(v) for n, v in zip(names, values, strict=True)}
    assert openslide_reader._bounds(properties, Size(1000, 2000)) == want


# OME-Zarr


def write_ome_zarr(path, pixels, version, axes="cyx", unit="micrometer", mpp=(0.3, 0.25)):
    """Written plainly, then held against the format's own models."""
    array = pixels.transpose(2, 0, 1) if axes == "cyx" else pixels.transpose(2, 0, 1)[:, None]
    lead = len(axes) - 2
    multiscale = {
        "axes": [
            {
                "name": axis,
                "type": "channel" if axis == "c" else "space",
                **({"unit": unit} if axis in "yx" and unit else {}),
            }
            for axis in axes
        ],
        "datasets": [
            {
                "path": f"s{k}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [*[1.0] * lead, *(m * 2**k for m in mpp)]}
                ],
            }
            for k in range(3)
        ],
    }
    old = version == "0.4"
    attributes = (
        {"multiscales": [{"version": "0.4", **multiscale}]}
        if old
        else {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    )
    group = zarr.open_group(path, mode="w", zarr_format=2 if old else 3, attributes=attributes)
    for k in range(3):
        level = array[..., :: 2**k, :: 2**k]
        names = {} if old else {"dimension_names": list(axes)}
        stored = group.create_array(
            f"s{k}", shape=level.shape, dtype="uint8", chunks=(*[1] * lead, 64, 48), **names
        )
        stored[:] = level
    model = (ome_zarr_models.v04 if old else ome_zarr_models.v05).Image
    model.from_zarr(zarr.open_group(path, mode="r"))
    return path


@pytest.mark.parametrize("axes", ["cyx", "czyx"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_of_both_versions(tmp_path, micrograph, version, axes):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", micrograph, version, axes)
    with open_slide(path) as slide:
        info = slide.info
        assert info.vendor == "ome-zarr"
        assert info.stem == "s"
        assert info.mpp == YX(0.3, 0.25)
        assert [level.downsample for level in info.levels] == [YX(k, k) for k in (1, 2, 4)]
        assert info.levels[0].tile == Size(64, 48)
        for level in range(3):
            step = 2**level
            np.testing.assert_array_equal(read_all(slide, level), micrograph[::step, ::step])


@pytest.mark.parametrize(
    ("unit", "mpp"), [("nanometer", YX(3e-4, 2.5e-4)), ("millimeter", YX(300, 250)), (None, None)]
)
def test_ome_zarr_units_are_converted(tmp_path, micrograph, unit, mpp):
    path = write_ome_zarr(tmp_path / "s.zarr", micrograph[:100, :90], "0.5", unit=unit)
    with open_slide(path) as slide:
        assert slide.info.mpp == (mpp and pytest.approx(mpp))


def test_an_ome_zarr_copy_has_the_same_fingerprint(tmp_path, micrograph):
    a = write_ome_zarr(tmp_path / "a.zarr", micrograph, "0.5")
    shutil.copytree(a, tmp_path / "b.zarr")
    changed = micrograph.copy()
    changed[300:340, 200:240] = 0
    c = write_ome_zarr(tmp_path / "c.zarr", changed, "0.5")
    prints = [open_slide(p).info.fingerprint for p in (a, tmp_path / "b.zarr", c)]
    assert prints[0] == prints[1] != prints[2]


def _plain_zarr(path, attributes, **options):
    group = zarr.open_group(path, mode="w", zarr_format=2, attributes=attributes)
    array = group.create_array("0", **{"shape": (3, 8, 8), "dtype": "uint8", **options})
    if "chunks" not in options:
        array[:] = 7
    return path


MULTISCALES = [
    {
        "version": "0.4",
        "axes": [{"name": n, "type": "space"} for n in "cyx"],
        "datasets": [{"path": "0"}],
    }
]


STACKED = [{**MULTISCALES[0], "axes": [{"name": n, "type": "space"} for n in "zyx"]}]


@pytest.mark.parametrize(
    ("attributes", "options", "match"),
    [
        ({}, {}, "no picture"),
        ({"plate": {}}, {}, "a plate"),
        ({"multiscales": MULTISCALES, "napari_wsiseg": {}}, {}, "a result of napari-wsiseg"),
        ({"multiscales": MULTISCALES}, {"shape": (5, 8, 8)}, "5 channels"),
        ({"multiscales": MULTISCALES}, {"dtype": "uint16"}, "uint16"),
        ({"multiscales": STACKED}, {}, "a stack over z"),
        ({"multiscales": [{**MULTISCALES[0], "version": "0.9"}]}, {}, "OME-Zarr 0.9"),
        ({"multiscales": [{"version": "0.4"}]}, {}, "damaged or incomplete"),
        ({"multiscales": MULTISCALES}, {"shape": (3, 8, 8), "chunks": (3, 2**16, 2**14)}, "chunks"),
        ({"multiscales": MULTISCALES}, {"shape": (3, 99, 999), "chunks": (1, 1, 99)}, "too small"),
    ],
)
def test_zarr_folders_that_are_no_slide_say_why(tmp_path, attributes, options, match):
    path = _plain_zarr(tmp_path / "z.zarr", attributes, **options)
    with pytest.raises(SlideError, match=match):
        open_slide(path)


def test_coarse_levels_in_tiny_chunks_are_left_out(tmp_path):
    """As dask's `coarsen` makes them: it halves the chunks too."""
    datasets = [{"path": str(level)} for level in range(3)]
    attributes = {"multiscales": [{**MULTISCALES[0], "datasets": datasets}]}
    path = _plain_zarr(tmp_path / "z.zarr", attributes, shape=(3, 64, 64))
    for level in (1, 2):
        zarr.create_array(
            path / str(level),
            shape=(3, 64 >> level, 64 >> level),
            chunks=(3, 32 >> level, 32 >> level),
            dtype="uint8",
            zarr_format=2,
        )
    with open_slide(path) as slide:
        assert [level.size for level in slide.info.levels] == [Size(64, 64), Size(32, 32)]
        assert (slide.read(Region(0, 0, Size(64, 64)), Resolution.parse("level 0")) == 7).all()


def test_pickled_chunks_are_never_read(tmp_path):
    path = _plain_zarr(tmp_path / "z.zarr", {"multiscales": MULTISCALES}, compressors=None)
    meta = json.loads((path / "0/.zarray").read_text())
    meta["filters"] = [{"id": "pickle", "protocol": 5}]
    (path / "0/.zarray").write_text(json.dumps(meta))
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    for chunk in (path / "0").rglob("*"):
        if chunk.is_file() and not chunk.name.startswith("."):
            chunk.write_bytes(bomb)
    with pytest.raises(SlideError, match="pickle"):
        open_slide(path)
    assert not (tmp_path / "ran").exists()


# Plain pictures


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("png", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
        *(("jpg", mode) for mode in ("RGB", "L", "CMYK")),
    ],
)
def test_plain_pictures(tmp_path, micrograph, mode, kind):
    image = Image.fromarray(micrograph).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(np.arange(500 * 431, dtype=np.uint8).reshape(500, 431)))
    path = tmp_path / f"p.{kind}"
    image.save(path)
    with Image.open(path) as stored:
        rgba = stored.convert("RGBA")
    want = np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba))
    with open_slide(path) as slide:
        assert slide.info.vendor == {"png": "png", "jpg": "jpeg"}[kind]
        assert slide.info.mpp is None
        assert np.abs(read_all(slide).astype(int) - want[:, :, :3]).max() <= 1


def test_a_decompression_bomb_is_refused_at_once(tmp_path):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    )
    with pytest.raises(SlideError, match="60000 x 60000 px in one piece"):
        open_slide(path)


def test_a_picture_above_pillows_own_limit_opens(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = tmp_path / "p.png"
    Image.new("RGB", (300, 300)).save(path)
    assert open_slide(path).info.size == Size(300, 300)
    monkeypatch.setattr(picture, "MAX_PIXELS", 1000)
    with pytest.raises(SlideError, match="limit"):
        open_slide(path)


def test_content_decides_and_a_false_name_is_told(tmp_path, micrograph):
    path = tmp_path / "scan.svs"
    Image.fromarray(micrograph).save(path, format="PNG")
    with pytest.warns(SlideWarning, match="scan.svs is not what its name says"):
        slide = open_slide(path)
    np.testing.assert_array_equal(read_all(slide), micrograph)
    path = tmp_path / "scan.png"
    tifffile.imwrite(path, micrograph, photometric="rgb", tile=(64, 64))
    with pytest.warns(SlideWarning, match="opened as TIFF"), open_slide(path) as slide:
        np.testing.assert_array_equal(read_all(slide), micrograph)
    shutil.copy(path, tmp_path / "scan")
    open_slide(tmp_path / "scan").close()  # no suffix says nothing false


# Arrays and layers


def test_arrays_lists_and_dask(micrograph):
    levels = [micrograph, micrograph[::2, ::2], micrograph[::4, ::4]]
    lazy = [da.from_array(level, chunks=(100, 90, 3)) for level in levels]
    for source in (levels, lazy):
        with open_slide(source, mpp=0.5) as slide:
            assert slide.info.path is None
            assert slide.info.stem == "array"
            assert slide.info.mpp == YX(0.5, 0.5)
            assert [level.downsample.y for level in slide.info.levels] == [1, 2, 4]
            np.testing.assert_array_equal(read_all(slide, 1), levels[1])
    with open_slide(lazy[0]) as slide:
        assert slide.info.levels[0].tile == Size(100, 90)


def test_what_is_read_is_never_a_view_of_the_array(micrograph):
    source = micrograph.copy()
    with open_slide(source) as slide:
        read_all(slide)[:] = 0
    np.testing.assert_array_equal(source, micrograph)


def test_dask_is_computed_in_chunks_and_little_of_it_for_the_fingerprint():
    computed = []

    def block(block_info):
        where = block_info[None]["array-location"]
        computed.append(tuple(where))
        return np.full([b - a for a, b in where], 9, np.uint8)

    lazy = da.map_blocks(
        block,
        chunks=((500,) * 40, (500,) * 40, (3,)),
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), "u1"),
    )
    with open_slide(lazy) as slide:
        assert len(computed) <= 64
        computed.clear()
        for _ in range(3):
            slide.read_level(0, Region(400, 400, Size(200, 200)))
        assert len(computed) == 4


def test_kinds_of_arrays(micrograph):
    grey = micrograph[:, :, 0]
    floats = micrograph / 255
    odd = np.array([[np.nan, 1.2, -0.1]])
    clear = np.dstack([micrograph, np.zeros(micrograph.shape[:2], np.uint8)])
    for source, want in (
        (grey, np.repeat(grey[:, :, None], 3, axis=2)),
        (floats, micrograph),
        (odd, np.array([[[0] * 3, [255] * 3, [0] * 3]], np.uint8)),
        (clear, np.full_like(micrograph, 255)),
        (micrograph[:, ::-1], micrograph[:, ::-1]),
    ):
        with open_slide(source) as slide:
            np.testing.assert_array_equal(read_all(slide), want)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (np.zeros((5, 5, 5), np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "out of range"),
        (np.zeros((5, 5, 3), np.uint16), "uint16"),
        (np.zeros((5, 5, 3), object), "object"),
        ([np.zeros((9, 9, 3), np.uint8)] * 2, "each level must be smaller"),
        (da.zeros((9, 9, 3), np.uint8)[da.arange(9) > 3], "compute_chunk_sizes"),
        (np.full((5, 5, 3), 200.0), "reach 200, where floats in 0..1"),
        ([], "list is no slide"),
        (7, "int is no slide"),
        (None, "NoneType is no slide"),
    ],
)
def test_what_is_no_array_of_a_picture(source, match):
    with pytest.raises(SlideError, match=match):
        open_slide(source)


def layer(data, **values):
    return SimpleNamespace(
        **{"data": data, "name": "a", "scale": (1.0, 1.0), "rgb": True, "ndim": 2, **values}
    )


@pytest.mark.parametrize(
    ("units", "mpp"),
    [
        (("micrometer", "micrometer"), YX(0.3, 0.25)),
        (("µm", "um"), YX(0.3, 0.25)),
        (("millimeter", "nm"), YX(300, 0.00025)),
        (("pixel", "pixel"), None),
        (None, None),
    ],
)
def test_layers_bring_their_scale_where_it_is_a_length(micrograph, units, mpp):
    with open_slide(layer(micrograph, scale=(0.3, 0.25), units=units)) as slide:
        assert slide.info.mpp == (mpp and pytest.approx(mpp))
        assert slide.info.mpp_source == (mpp and "metadata")


# Scale and fingerprint


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf"), (1, 0), (1, 2, 3), "fine"])
def test_a_scale_out_of_range_is_refused(micrograph, mpp):
    with pytest.raises(JobError, match="mpp cannot be"):
        open_slide(micrograph, mpp=mpp)


@pytest.mark.parametrize("mpp", [(0.5, 0.4), [0.5, 0.4], np.array([0.5, 0.4])])
def test_a_scale_of_two_axes_comes_in_any_sequence(micrograph, mpp):
    assert open_slide(micrograph, mpp=mpp).info.mpp == YX(0.5, 0.4)


def test_a_given_scale_wins(real_slide):
    with open_slide(real_slide, mpp=0.4) as slide:
        assert slide.info.mpp == YX(0.4, 0.4)
        assert slide.info.mpp_source == "user"


@pytest.mark.parametrize(
    ("base", "level", "want"),
    [
        ((2967, 2220), (741, 555), (4, 4)),
        ((2967, 2220), (742, 555), (4, 4)),
        ((2967, 2220), (11, 8), (256, 256)),
        ((2967, 2220), (989, 740), (3, 3)),
        ((3000, 2000), (1000, 1000), (3, 2)),
        ((3000, 2000), (1300, 1300), (3000 / 1300, 2000 / 1300)),
    ],
)
def test_downsamples_are_whole_where_sizes_allow(base, level, want):
    assert level_downsample(Size(*base), Size(*level)) == YX(*want)


@pytest.mark.parametrize("mpp", [0.5, (0.1, 0.5)])
@pytest.mark.parametrize(
    ("resolution", "advice"),
    [("1e9 mpp", "finer"), ("baseline 1e-5", "finer"), ("1e-9 mpp", "coarser")],
)
def test_a_resolution_beyond_all_sense_is_refused(micrograph, mpp, resolution, advice):
    with open_slide(micrograph, mpp=mpp) as slide, pytest.raises(JobError, match=advice):
        slide.read(Region(0, 0, Size(3, 3)), Resolution.parse(resolution))


def test_units():
    assert [micrometres(u) for u in ("µm", "μm", "Micrometer", "um", "nm", "mm", "in")] == [
        1, 1, 1, 1, 1e-3, 1e3, 25400,
    ]  # fmt: skip
    assert micrometres("pixel") is None
    assert micrometres("") is None


def test_fingerprints_tell_content_not_names(real_slide, tmp_path):
    copy = tmp_path / "renamed.svs"
    shutil.copy(real_slide, copy)
    changed = tmp_path / real_slide.name
    data = bytearray(real_slide.read_bytes())
    data[700_000] ^= 1
    changed.write_bytes(data)
    prints = [open_slide(p).info.fingerprint for p in (real_slide, copy, changed)]
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 64


def test_of_a_huge_file_little_is_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**40)
    first = fingerprint.of_files([path])
    with path.open("r+b") as file:
        file.truncate(2**40 + 1)
    assert fingerprint.of_files([path]) != first


def test_arrays_of_other_pixels_have_other_fingerprints(micrograph):
    other = micrograph.copy()
    other[250, 200] ^= 1
    prints = {open_slide(a).info.fingerprint for a in (micrograph, micrograph.copy(), other)}
    assert len(prints) == 2


# What cannot be opened


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_what_none_can_read_names_what_was_tried(tmp_path):
    path = tmp_path / "notes.svs"
    path.write_text("not a slide")
    with pytest.raises(SlideError) as error:
        open_slide(path)
    text = one_sentence(error)
    for reader in READERS:
        assert f"{reader.name}: " in text


@pytest.mark.parametrize("keep", [3, 8, 100, 0.5])
def test_a_truncated_slide_is_one_clear_error(real_slide, tmp_path, keep):
    data = real_slide.read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: keep if keep > 1 else int(len(data) * keep)])
    with pytest.raises(SlideError) as error:
        open_slide(path)
    one_sentence(error)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_truncated_picture_is_one_clear_error(tmp_path, micrograph, kind):
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(micrograph).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SlideError, match="cut short or damaged") as error:
        open_slide(path)
    one_sentence(error)


def test_missing_empty_folder_and_unreadable(tmp_path):
    (tmp_path / "empty.svs").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a.txt").write_text("a")
    cases = {
        "no.svs": "There is no slide at",
        "empty.svs": "is empty",
        "folder": "is an empty folder",
        "files": "holds no DICOM slide",
    }
    for name, match in cases.items():
        with pytest.raises(SlideError, match=match) as error:
            open_slide(tmp_path / name)
        one_sentence(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SlideError, match="neither a file nor a folder"):
        open_slide(tmp_path / "pipe")


def test_a_file_without_rights(tmp_path, monkeypatch):
    path = tmp_path / "locked.svs"
    path.write_bytes(b"II*\0")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read any file: chmod shows nothing
    with pytest.raises(SlideError, match="Permission denied") as error:
        open_slide(path)
    one_sentence(error)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_headers_never_crash(real_slide, tmp_path, seed, recwarn):
    rng = np.random.default_rng(seed)
    data = bytearray(real_slide.read_bytes())
    spots = [0, 1275950, 1275950, 1275950]  # the header, and the first directory three times
    for spot in spots:
        data[spot + int(rng.integers(0, 300))] = int(rng.integers(0, 256))
    path = tmp_path / "fuzz.svs"
    path.write_bytes(data)
    with contextlib.suppress(SlideError), open_slide(path) as slide:
        assert isinstance(slide.info, SlideInfo)
        slide.read_level(0, Region(0, 0, Size(10, 10)).clipped(slide.info.size))
