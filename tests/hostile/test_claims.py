"""What OpenSlide would end the process over, or wait for without end, is refused before it."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import tifffile

import napari_wsiseg as ws
from hostile import vendors
from hostile.targets import TARGETS
from napari_wsiseg.errors import SlideError, SlideWarning
from napari_wsiseg.slides.claims import check, sakura
from napari_wsiseg.slides.levels import whole

SIDES = {"a.scn": 128}
SINGLE = {
    "a.scn": vendors.leica,
    "a.bif": vendors.ventana,
    "a.ndpi": vendors.ndpi,
    "a.svslide": vendors.sakura,
    "a.czi": vendors.zeiss,
}


@pytest.mark.parametrize("name", SINGLE)
def test_sound_files_of_each_maker_open(name, tmp_path):
    SINGLE[name](tmp_path / name)
    with ws.open_slide(tmp_path / name) as slide:
        side = SIDES.get(name, 64)
        assert slide.info.size == ws.Size(side, side)
        assert slide.read_level(0, whole(slide.info.size)).std() > 10


@pytest.mark.parametrize(
    ("make", "file"),
    [
        (lambda path: vendors.mrxs(path, packed=False), "a.mrxs"),
        (lambda path: vendors.mrxs(path, packed=True), "a.mrxs"),
        (vendors.vms, "a.vms"),
        (vendors.dicom, ""),
        (lambda path: vendors.dicom(path, sparse=True), "0.dcm"),
        (lambda path: vendors.dicom(path, jpeg=False), "1.dcm"),
    ],
)
def test_sound_folders_too(make, file, tmp_path):
    make(tmp_path / "a")
    with ws.open_slide(tmp_path / "a" / file) as slide:
        assert slide.info.size == ws.Size(64, 64)
        assert slide.read_level(0, whole(slide.info.size)).std() > 10


def test_raw_frames_are_read_as_written(tmp_path):
    vendors.dicom(tmp_path / "a", jpeg=False)
    with ws.open_slide(tmp_path / "a") as slide:
        read = slide.read_level(0, ws.Region(32, 0, ws.Size(32, 32)))
    np.testing.assert_array_equal(read, vendors.pixels(32, 2))


def put(path: Path, *changes: tuple[bytes, bytes]) -> None:
    data = path.read_bytes()
    for old, new in changes:
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)


POSITIONS = (b"NONHIER_COUNT=2", b"NONHIER_COUNT=0")
WIDE, HIGH = (b"IMAGENUMBER_X=2", b"IMAGENUMBER_X=%d"), (b"IMAGENUMBER_Y=2", b"IMAGENUMBER_Y=%d")
MRXS = {
    "levels": ([(b"HIER_0_COUNT=2", b"HIER_0_COUNT=2147483647")], "HIER_0_COUNT"),
    "files": ([(b"FILE_COUNT=1", b"FILE_COUNT=2147483647")], "FILE_COUNT"),
    "images": (
        [POSITIONS, (WIDE[0], WIDE[1] % 65536), (HIGH[0], HIGH[1] % 65536)],
        "65536 x 65536 images",
    ),
    "images across": ([POSITIONS, (WIDE[0], WIDE[1] % (2**31 - 1))], "IMAGENUMBER_X"),
    "divisions": ([(b"PerSide=1", b"PerSide=3")], "CameraImageDivisionsPerSide"),
    "sides": ([(b"_WIDTH=32", b"_WIDTH=46341"), (b"_HEIGHT=32", b"_HEIGHT=46341")], "46341 x"),
    "overlap": ([(b"OVERLAP_X=0", b"OVERLAP_X=31.9999")], "share"),
    "no overlap": ([(b"OVERLAP_Y=0", b"OVERLAP_Y=nan")], "share nan"),
    "the last counts": ([(b"FILE_COUNT=1", b"FILE_COUNT=1\n FILE_COUNT=2147483647")], "FILE_COUNT"),
}


@pytest.mark.parametrize(("changes", "match"), MRXS.values(), ids=MRXS)
def test_text_of_a_mrxs(changes, match, tmp_path):
    vendors.mrxs(tmp_path / "a", packed=False)
    put(tmp_path / "a/a/Slidedat.ini", *changes)
    with pytest.raises(SlideError, match=match):
        check(tmp_path / "a/a.mrxs")


@pytest.mark.parametrize("far", [10**6, -(2**31)])
def test_an_image_of_a_mrxs_that_lies_far_off(far, tmp_path):
    vendors.mrxs(tmp_path / "a", packed=False)
    one = struct.Struct("<Bii")
    put(tmp_path / "a/a/Data0000.dat", (one.pack(0, 32, 32), one.pack(0, far, 32)))
    with pytest.raises(SlideError, match=f"lies at {abs(far)} px, on a slide of 64 px"):
        check(tmp_path / "a/a.mrxs")


def test_a_list_of_places_beyond_all_images(tmp_path):
    vendors.mrxs(tmp_path / "a", packed=False)
    put(tmp_path / "a/a/Index.dat", (struct.pack("<i", 36), struct.pack("<i", 2**31 - 1)))
    with pytest.raises(SlideError, match="list of places is longer"):
        check(tmp_path / "a/a.mrxs")


BIF = {
    "rows": (('NumRows="2"', 'NumRows="1000000"'), "1000000 tiles from 0 px"),
    "origin": (('OriginX="0"', 'OriginX="64"'), "2 tiles from 64 px on, of 64 px"),
    "left of it": (('OriginX="0"', 'OriginX="-32"'), "no OriginX"),
    "overlap": (('OverlapX="0"', 'OverlapX="31"'), "one upon the other"),
    "words": (("<EncodeInfo", '<!DOCTYPE a [<!ENTITY b "c">]><EncodeInfo'), "words of its own"),
}


@pytest.mark.parametrize(("change", "match"), BIF.values(), ids=BIF)
def test_xml_of_a_bif(change, match, tmp_path, monkeypatch):
    monkeypatch.setattr(vendors, "_STITCHED", vendors._STITCHED.replace(*change))
    vendors.ventana(tmp_path / "a.bif")
    with pytest.raises(SlideError, match=match):
        check(tmp_path / "a.bif")


def test_a_tile_of_an_scn_of_more_bytes_than_there_are(tmp_path):
    vendors.leica(tmp_path / "a.scn")
    with tifffile.TiffFile(tmp_path / "a.scn", mode="r+") as tif:
        tag = tif.pages.first.tags["TileByteCounts"]
        tag.overwrite([2**50, *tag.value[1:]], dtype="Q")
    with pytest.raises(SlideError, match=f"a tile of {2**50} bytes"):
        check(tmp_path / "a.scn")
    own = tmp_path / "own.tif"
    pixels = np.zeros((64, 64, 3), np.uint8)
    tifffile.imwrite(own, pixels, bigtiff=True, photometric="rgb", tile=(32, 32))
    with tifffile.TiffFile(own, mode="r+") as tif:
        tag = tif.pages.first.tags["TileByteCounts"]
        tag.overwrite([2**50, *tag.value[1:]], dtype="Q")
    with pytest.warns(SlideWarning, match="1 of its 4 tiles"):
        slide = ws.open_slide(own)
    with slide:  # it costs that tile
        assert slide.read_level(0, ws.Region(32, 32, ws.Size(32, 32))).max() == 0


@pytest.mark.parametrize("name", ["a.ndpi", "a.tif"])
def test_an_ndpi_in_one_piece(name, tmp_path, monkeypatch):
    """Whatever it is called: by its name tifffile finds other pages than OpenSlide."""
    monkeypatch.setattr("napari_wsiseg.slides.claims.tiff._MAX_TILE_PIXELS", 64 * 64 - 1)
    vendors.ndpi(tmp_path / name)
    with pytest.raises(SlideError, match="64 x 64 px in tiles of 4096 px"):
        check(tmp_path / name)


@pytest.mark.parametrize("side", [0, 60000])
def test_an_ndpi_whose_jpeg_is_larger_than_it_says(side, tmp_path):
    vendors.ndpi(tmp_path / "a.ndpi")
    start = b"\xff\xc0\0\x11\x08"
    size = struct.pack(">HH", 64, 64)
    put(tmp_path / "a.ndpi", (start + size, start + struct.pack(">HH", side, 60000)))
    with pytest.raises(SlideError, match="picture of 64 x 64 px in tiles of 3"):
        check(tmp_path / "a.ndpi")


def test_a_jpeg_of_a_vms_in_one_piece(tmp_path):
    vendors.vms(tmp_path / "a")
    check(tmp_path / "a/a.vms")
    map_file = tmp_path / "a/map.jpg"
    size = struct.pack(">HH", 32, 32)
    put(map_file, (b"\xff\xc0\0\x11\x08" + size, b"\xff\xc0\0\x11\x08" + b"\xea\x60" * 2))
    check(tmp_path / "a/a.vms")  # it can be read in parts
    put(map_file, (b"\xff\xdd\0\4\0\2", b"\xff\xdd\0\4\0\0"))
    with pytest.raises(SlideError, match=r"map\.jpg claims 3600000000 px"):
        check(tmp_path / "a/a.vms")


def x(size: int, stored: int) -> bytes:
    return struct.pack("<4siifi", b"X", 0, size, 0, stored)


def y(stored: int) -> bytes:
    return struct.pack("<4siifi", b"Y", 0, stored, 0, stored)


DIMENSIONS = struct.Struct("<4xi4sii")
CZI = {
    "none": (x(32, 32), x(32, 0), "0 (for 32) x 32"),
    "negative": (x(32, 32), x(-32, -32), "-32 (for -32) x 32"),
    "wide": (x(32, 32), x(2**31 - 1, 2**31 - 1), "2147483647"),
    "large": (x(32, 32) + y(32), x(32768, 32768) + y(32768), "32768 (for 32768) x 32768"),
    "stored larger than it is": (x(32, 32), x(32, 256), "256 (for 32) x 32"),
    "dimensions": (DIMENSIONS.pack(3, b"X", 0, 32), DIMENSIONS.pack(99, b"X", 0, 32),
                   "99 dimensions"),
    "count": (struct.pack("<i124x", 5), struct.pack("<i124x", 6), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "match"), CZI.values(), ids=CZI)
def test_pieces_of_a_czi(old, new, match, tmp_path):
    vendors.zeiss(tmp_path / "a.czi")
    put(tmp_path / "a.czi", (old, new))
    with pytest.raises(SlideError, match=re.escape(match)):
        check(tmp_path / "a.czi")


def test_pieces_of_a_czi_in_a_czi(tmp_path):
    vendors.zeiss(tmp_path / "a.czi")
    outer = (tmp_path / "a.czi").read_bytes()
    inner = outer.replace(x(32, 32), x(32, 0))
    place = len(outer)
    attached = struct.pack("<2s10xq108x", b"A1", place)
    # The list of attachments stands last.
    listed = outer[:-256] + struct.pack("<i252x", 1) + attached
    place += len(attached)
    listed = listed.replace(attached, struct.pack("<2s10xq108x", b"A1", place))
    (tmp_path / "a.czi").write_bytes(listed + bytes(32 + 256) + inner)
    with pytest.raises(SlideError, match="a piece of 0"):
        check(tmp_path / "a.czi")


COLUMNS = struct.pack("<HH2sHH", 0x28, 0x11, b"US", 2, 32)
ROWS = struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 32)
FRAMES = struct.pack("<HH2sH", 0x28, 8, b"IS", 2)
TOTAL = struct.pack("<HH2sHI", 0x48, 6, b"UL", 4, 64)
PER_FRAME = struct.pack("<HH2s", 0x5200, 0x9230, b"SQ")
SPACING_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 22)
BOT = struct.pack("<HHII", 0xFFFE, 0xE000, 16, 0)  # of four frames, the first at 0
DICOM = {
    "frames": ([(ROWS, ROWS[:-2] + b"\xff\xff"), (COLUMNS, COLUMNS[:-2] + b"\xff\xff")], "65535 x"),
    "no frames": ([(FRAMES + b"4 ", FRAMES + b"-1")], "-1 frames"),
    "tiles": ([(COLUMNS, COLUMNS[:-2] + b"\1\0"), (ROWS, ROWS[:-2] + b"\1\0"),
               (TOTAL, TOTAL[:-4] + b"\xff" * 4)], "in frames of 1 x 1 px"),
    "places missing": ([(PER_FRAME, struct.pack("<HH2s", 0x5200, 0x9231, b"SQ"))], "scattered"),
    "too many places": ([(FRAMES + b"4 ", FRAMES + b"3 ")], "tells of 4 frames, and has 3"),
    "an item too long": ([(SPACING_ITEM, SPACING_ITEM[:-4] + b"\x90\0\0\0")], "reaches too far"),
    "a frame": ([(BOT, BOT[:8] + b"\xff\xff\xff\0")], "a frame lies beyond its end"),
    "no kind": ([(b"UI\x08\x001.2.3.9\0", b"XX\x08\x001.2.3.9\0")], "no known kind"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "match"), DICOM.values(), ids=DICOM)
@pytest.mark.parametrize("opened", ["0.dcm", "1.dcm"])
def test_header_of_a_dicom(changes, match, opened, tmp_path):
    """Also of a file beside the one that is opened."""
    vendors.dicom(tmp_path / "a", sparse=True)
    put(tmp_path / "a/0.dcm", *changes)
    with pytest.raises(SlideError, match=re.escape(match)):
        check(tmp_path / "a" / opened)


def test_a_dicom_file_in_another_syntax_is_left_alone(tmp_path):
    """What is none of OpenSlide's stands beside a series, and its header is read otherwise."""
    vendors.dicom(tmp_path / "a", jpeg=False)
    put(tmp_path / "a/0.dcm", (b"10008.1.2.1\0", b"10008.1.2.2\0"), *DICOM["no kind"][0])
    check(tmp_path / "a/1.dcm")


ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"
HEADER = (
    f"UPDATE t SET data = x'{struct.pack('<5I', 46341, 64, 64, 0, 1).hex()}' WHERE id = 'Header'"
)
SVSLIDE = {
    "view": (["ALTER TABLE t RENAME TO u", f"CREATE VIEW t AS {ENDLESS}"], "computes"),
    "names": ([
        "DROP TABLE DataManagerSQLiteConfigXPO",
        f"CREATE VIEW DataManagerSQLiteConfigXPO AS SELECT ({ENDLESS}) AS TableName",
    ], "computes"),
    "computed": (["ALTER TABLE t ADD x AS (zeroblob(1000000000))"], "computes"),
    "no magic": (["UPDATE t SET data = NULL WHERE id = '++MagicBytes'"], "no slide"),
    "no name": (["INSERT INTO t VALUES (NULL, 1)"], "no names"),
    "tiles": ([HEADER], "46341 px a side"),
    "written to": (["PRAGMA journal_mode=WAL"], "still written to"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "match"), SVSLIDE.values(), ids=SVSLIDE)
def test_tables_of_a_svslide(changes, match, tmp_path):
    vendors.sakura(tmp_path / "a.svslide")
    base = sqlite3.connect(tmp_path / "a.svslide", isolation_level=None)
    for change in changes:
        base.execute(change)
    base.close()
    with pytest.raises(SlideError, match=match):
        check(tmp_path / "a.svslide")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svslide"]


def test_a_damaged_svslide_whose_error_is_no_text(tmp_path):
    vendors.sakura(tmp_path / "a.svslide")
    put(tmp_path / "a.svslide", (b"tablett", b"table\xff\xff"))  # kind and names of a table
    with pytest.raises(SlideError, match="it is damaged"):
        check(tmp_path / "a.svslide")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes there")
@pytest.mark.parametrize(
    ("target", "name", "file"),
    [
        ("mrxs", "plain/a/Data0000.dat", "plain/a.mrxs"),
        ("mrxs", "plain/a/Index.dat", "plain/a.mrxs"),
        ("mrxs", "plain/a/Slidedat.ini", "plain/a.mrxs"),
        ("mrxs", "vms/a.jpg", "vms/a.vms"),
        ("dicom", "full/beside.dcm", "full/0.dcm"),
        ("dicom", "full/beside.dcm", "full"),
    ],
)
def test_a_pipe_beside_a_slide_is_not_waited_for(target, name, file, tmp_path):
    TARGETS[target].seeds(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(SlideError, match="pipe or a device"):
        ws.open_slide(tmp_path / file)


def test_of_an_ndpi_no_strip_is_too_long(tmp_path, monkeypatch):
    """OpenSlide reads parts of it; a slide's level may take some GB."""
    monkeypatch.setattr("napari_wsiseg.slides.claims._MOST_BYTES", 100)
    vendors.ndpi(tmp_path / "a.ndpi")
    check(tmp_path / "a.ndpi")
    vendors.leica(tmp_path / "a.scn")
    with pytest.raises(SlideError, match="claims a tile of"):
        check(tmp_path / "a.scn")


@pytest.mark.parametrize("name", ["a.ndpi", "A.NDPI"])
def test_a_large_ndpi_is_read_with_long_offsets(name, tmp_path, monkeypatch):
    """In whatever letters its name is written."""
    asked = []
    opened = tifffile.TiffFile

    def noted(path, *, is_ndpi):
        asked.append(is_ndpi)
        return opened(path, is_ndpi=False)  # this one is small

    monkeypatch.setattr("napari_wsiseg.slides.claims.tiff.tifffile.TiffFile", noted)
    vendors.ndpi(tmp_path / name)
    check(tmp_path / name)
    monkeypatch.setattr("napari_wsiseg.slides.claims.tiff._SHORT_OFFSETS", 0)
    check(tmp_path / name)
    assert asked == [False, True]


def test_more_attachments_than_a_czi_has(tmp_path):
    vendors.zeiss(tmp_path / "a.czi")
    data = (tmp_path / "a.czi").read_bytes()
    listed = struct.pack("<i252x", 257) + bytes(257 * 128)
    (tmp_path / "a.czi").write_bytes(data[:-256] + listed)
    with pytest.raises(SlideError, match="claims 257 attachments"):
        check(tmp_path / "a.czi")


def test_an_attachment_of_a_czi_may_be_empty_and_last(tmp_path):
    vendors.zeiss(tmp_path / "a.czi")
    data = (tmp_path / "a.czi").read_bytes()
    attached = struct.pack("<2s10xq108x", b"A1", len(data) + 128)
    listed = struct.pack("<i252x", 1) + attached
    (tmp_path / "a.czi").write_bytes(data[:-256] + listed + bytes(32 + 256))
    check(tmp_path / "a.czi")


@pytest.mark.parametrize(
    ("path", "address"),
    [
        (PurePosixPath("/slides/a b.svslide"), "file:///slides/a%20b.svslide"),
        (PureWindowsPath("C:/slides/a.svslide"), "file:///C:/slides/a.svslide"),
        # With a host SQLite refuses it.
        (PureWindowsPath("//server/slides/a.svslide"), "file:////server/slides/a.svslide"),
    ],
)
def test_where_a_database_lies(path, address):
    assert sakura._address(path) == address


def test_what_may_not_be_read_beside_a_dicom_slide(tmp_path, monkeypatch):
    vendors.dicom(tmp_path / "a")
    (tmp_path / "a/private").touch()
    opened = Path.open

    def refusing(path, *args):
        if path.name == "private":
            raise PermissionError(13, "Permission denied")
        return opened(path, *args)

    monkeypatch.setattr(Path, "open", refusing)
    for name in ("a/0.dcm", "a"):
        ws.open_slide(tmp_path / name).close()


def test_a_value_in_a_vms_that_is_too_long_for_a_name(tmp_path):
    vendors.vms(tmp_path / "a")
    put(tmp_path / "a/a.vms", (b"LayerSpacing=0", b"LayerSpacing=0\nComment=" + b"x" * 300))
    ws.open_slide(tmp_path / "a/a.vms").close()
