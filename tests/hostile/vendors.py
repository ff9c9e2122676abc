"""The smallest files that OpenSlide opens of the makers' formats, written by hand."""

from __future__ import annotations

import io
import sqlite3
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""Of a tile, in pixels; the slides are two by two tiles, with a second level of one."""

_BRIGHTFIELD = (
    "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>"
    "<illuminationSettings><illuminationSource>brightfield</illuminationSource>"
    "</illuminationSettings></scanSettings>"
)
_SCN = (
    '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
    '<collection sizeX="64000" sizeY="64000"><image>'
    '<view sizeX="32000" sizeY="32000" offsetX="16000" offsetY="16000"/><pixels>'
    '<dimension ifd="0" sizeX="64" sizeY="64"/><dimension ifd="1" sizeX="32" sizeY="32"/>'
    f"</pixels>{_BRIGHTFIELD}</image></collection></scn>"
)
_ISCAN = '<iScan Magnification="20" ScanRes="0.5" Z-layers="1"/>'
_JOINT = (
    '<TileJointInfo FlagJoined="1" Confidence="100" Direction="{}" Tile1="{}" Tile2="{}" '
    'OverlapX="0" OverlapY="0"/>'
)
_STITCHED = (
    '<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" NumRows="2" '
    f'NumCols="2" Width="{SIDE}" Height="{SIDE}" Pos-X="0" Pos-Y="0">'
    f"{_JOINT.format('RIGHT', 1, 2)}{_JOINT.format('UP', 1, 4)}</ImageInfo></SlideStitchInfo>"
    '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
)

_CZI = (
    b"<ImageDocument><Metadata><Information><Image><SizeX>64</SizeX><SizeY>64</SizeY>"
    b"<SizeS>1</SizeS></Image></Information><Scaling><Items>"
    b'<Distance Id="X"><Value>5e-7</Value></Distance>'
    b'<Distance Id="Y"><Value>5e-7</Value></Distance></Items></Scaling></Metadata></ImageDocument>'
)


def pixels(side: int, seed: int = 0) -> NDArray[np.uint8]:
    """(side, side, 3) uint8 of noise."""
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)


def _jpeg(side: int, mode: str = "RGB", seed: int = 0) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels(side, seed)).convert(mode)
    picture.save(file, "JPEG", subsampling=0, restart_marker_blocks=2)
    return file.getvalue()


def leica(path: Path) -> None:
    """SCN: what lies where is told in XML."""
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for side in (64, 32):
            tif.write(
                pixels(side), photometric="rgb", tile=(SIDE, SIDE), compression="jpeg",
                description=_SCN if side == 64 else None, metadata=None,
                resolution=(20000, 20000), resolutionunit="CENTIMETER",
            )  # fmt: skip


def ventana(path: Path) -> None:
    """BIF: the tiles overlap as XML says."""
    pages = [
        ("Label Image", _ISCAN, 16),
        ("level=0 mag=20", _STITCHED, 64),
        ("level=1 mag=10", "", 32),
    ]
    with tifffile.TiffWriter(path) as tif:
        for description, xml, side in pages:
            tags = [(700, "B", len(xml), xml.encode(), True)] if xml else []
            tiled = {"tile": (SIDE, SIDE)} if side > 16 else {}
            tif.write(
                pixels(side), photometric="rgb", compression="jpeg", description=description,
                metadata=None, extratags=tags, **tiled,
            )  # fmt: skip


def ndpi(path: Path) -> None:
    """NDPI: one JPEG a level."""
    with tifffile.TiffWriter(path) as tif:
        for side, lens in ((64, 20.0), (32, 10.0), (16, -1.0)):
            tags = [
                (271, "s", 0, "Hamamatsu", True),
                (65420, "I", 1, 1, True),
                (65421, "f", 1, lens, True),
                (65424, "i", 1, 0, True),
            ]
            tif.write(
                pixels(side), photometric="rgb", compression="jpeg", rowsperstrip=side,
                metadata=None, extratags=tags, resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
            )  # fmt: skip


def vms(folder: Path) -> None:
    """VMS: a text that names JPEG files."""
    folder.mkdir()
    for name, side in (("a.jpg", 64), ("map.jpg", 32), ("macro.jpg", 16)):
        (folder / name).write_bytes(_jpeg(side))
    (folder / "a.vms").write_text(
        "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\n"
        "ImageFile=a.jpg\nMapFile=map.jpg\nMacroImage=macro.jpg\nPhysicalWidth=32000\n"
        "PhysicalHeight=32000\nSourceLens=20\nLayerSpacing=0\nOptimisationFile=\n"
    )


def mrxs(folder: Path, *, packed: bool) -> None:
    """MRXS: images in data files, found by an index, at places that are listed.

    Parameters
    ----------
    folder
        Made, with `a.mrxs` and what belongs to it.
    packed
        Whether the list of places is packed, as newer scanners do.
    """
    inner = folder / "a"
    inner.mkdir(parents=True)
    (folder / "a.mrxs").write_bytes(b"MRXS")
    layer = "StitchingIntensityLayer" if packed else "VIMSLIDE_POSITION_BUFFER"
    section = (
        f"OVERLAP_X=0\nOVERLAP_Y=0\nMICROMETER_PER_PIXEL_X=0.5\nMICROMETER_PER_PIXEL_Y=0.5\n"
        f"IMAGE_FILL_COLOR_BGR=16777215\nDIGITIZER_WIDTH={SIDE}\nDIGITIZER_HEIGHT={SIDE}\n"
        "IMAGE_FORMAT=JPEG\n"
    )
    (inner / "Slidedat.ini").write_text(
        "[GENERAL]\nSLIDE_VERSION=01.02\nSLIDE_ID=ABCDEF\nIMAGENUMBER_X=2\nIMAGENUMBER_Y=2\n"
        "OBJECTIVE_MAGNIFICATION=20\nCameraImageDivisionsPerSide=1\n"
        "[HIERARCHICAL]\nHIER_COUNT=1\nNONHIER_COUNT=2\nINDEXFILE=Index.dat\n"
        "HIER_0_NAME=Slide zoom level\nHIER_0_COUNT=2\nHIER_0_VAL_0_SECTION=L0\n"
        f"HIER_0_VAL_1_SECTION=L1\nNONHIER_0_NAME={layer}\nNONHIER_0_COUNT=1\n"
        "NONHIER_0_VAL_0=default\nNONHIER_0_VAL_0_SECTION=N0\nNONHIER_1_NAME=Scan data layer\n"
        "NONHIER_1_COUNT=1\nNONHIER_1_VAL_0=ScanDataLayer_SlideThumbnail\n"
        "NONHIER_1_VAL_0_SECTION=N1\n"
        "[N0]\nVIMSLIDE_POSITION_DATA_FORMAT_VERSION=257\n[N1]\nTHUMBNAIL_IMAGE_TYPE=JPEG\n"
        "[DATAFILE]\nFILE_COUNT=1\nFILE_0=Data0000.dat\n"
        f"[L0]\nIMAGE_CONCAT_FACTOR=0\n{section}[L1]\nIMAGE_CONCAT_FACTOR=1\n{section}"
    )
    places = b"".join(
        struct.pack("<Bii", 0, column * SIDE, row * SIDE) for row in (0, 1) for column in (0, 1)
    )
    images = [_jpeg(SIDE, seed=seed) for seed in range(5)]
    parts = [*images, zlib.compress(places) if packed else places, _jpeg(16)]
    (inner / "Data0000.dat").write_bytes(b"".join(parts))
    (inner / "Index.dat").write_bytes(_index(parts))


def _index(parts: list[bytes]) -> bytes:
    """Index.dat of four images, the one below, the list of places and a macro image."""
    starts = np.cumsum([0, *map(len, parts)])
    spans = [(int(start), len(part)) for start, part in zip(starts, parts, strict=False)]
    head = b"01.02ABCDEF"
    out = bytearray(head + bytes(8))

    def put(*numbers: int) -> int:
        place = len(out)
        out.extend(struct.pack(f"<{len(numbers)}i", *numbers))
        return place

    levels = []
    for entries in ([(i, *spans[i], 0) for i in range(4)], [(0, *spans[4], 0)]):
        page = put(len(entries), 0, *(number for entry in entries for number in entry))
        levels.append(put(0, page))
    records = [put(0, put(1, 0, 0, 0, *span, 0)) for span in spans[5:]]
    struct.pack_into("<2i", out, len(head), put(*levels), put(*records))
    return bytes(out)


def dicom(folder: Path, *, sparse: bool = False, jpeg: bool = True) -> None:
    """DICOM: a file a level.

    Parameters
    ----------
    folder
        Made, with two files.
    sparse
        Whether each frame says where it lies.
    jpeg
        Or pixels as they are.
    """
    folder.mkdir()
    for number, side in enumerate((64, 32)):
        (folder / f"{number}.dcm").write_bytes(_instance(number, side, sparse=sparse, jpeg=jpeg))


def _instance(number: int, side: int, *, sparse: bool, jpeg: bool) -> bytes:
    across = side // SIDE
    syntax = "1.2.840.10008.1.2.4.50" if jpeg else "1.2.840.10008.1.2.1"
    kind, name = "1.2.840.10008.5.1.4.1.1.77.1.6", f"1.2.3.{number + 4}"
    meta = b"".join(
        (
            _element(0x0002, 0x0001, "OB", b"\0\1"),
            _element(0x0002, 0x0002, "UI", kind),
            _element(0x0002, 0x0003, "UI", name),
            _element(0x0002, 0x0010, "UI", syntax),
            _element(0x0002, 0x0012, "UI", "1.2.3"),
        )
    )
    frames = [
        _jpeg(SIDE, seed=seed) if jpeg else pixels(SIDE, seed).tobytes()
        for seed in range(across**2)
    ]
    spacing = _element(0x0028, 0x0030, "DS", "0.0005\\0.0005")
    measures = _sequence(0x5200, 0x9229, [_sequence(0x0028, 0x9110, [spacing])])
    spots = [(1 + SIDE * (i % across), 1 + SIDE * (i // across)) for i in range(across**2)]
    own = _sequence(0x5200, 0x9230, [_spot(*spot) for spot in spots]) if sparse else b""
    body = b"".join(
        (
            _element(0x0008, 0x0008, "CS", "DERIVED\\PRIMARY\\VOLUME\\NONE"),
            _element(0x0008, 0x0016, "UI", kind),
            _element(0x0008, 0x0018, "UI", name),
            _element(0x0008, 0x0060, "CS", "SM"),
            _element(0x0020, 0x000E, "UI", "1.2.3.9"),
            _element(0x0020, 0x9311, "CS", "TILED_SPARSE" if sparse else "TILED_FULL"),
            _element(0x0028, 0x0002, "US", 3),
            _element(0x0028, 0x0004, "CS", "YBR_FULL_422" if jpeg else "RGB"),
            _element(0x0028, 0x0006, "US", 0),
            _element(0x0028, 0x0008, "IS", str(len(frames))),
            _element(0x0028, 0x0010, "US", SIDE),
            _element(0x0028, 0x0011, "US", SIDE),
            _element(0x0028, 0x0100, "US", 8),
            _element(0x0028, 0x0101, "US", 8),
            _element(0x0028, 0x0102, "US", 7),
            _element(0x0028, 0x0103, "US", 0),
            _element(0x0048, 0x0006, "UL", side),
            _element(0x0048, 0x0007, "UL", side),
            _element(0x0048, 0x0303, "UL", 1),
            measures,
            own,
            _pixel_data(frames) if jpeg else _element(0x7FE0, 0x0010, "OB", b"".join(frames)),
        )
    )
    return bytes(128) + b"DICM" + _element(0x0002, 0x0000, "UL", len(meta)) + meta + body


def _spot(left: int, top: int) -> bytes:
    at = _element(0x0048, 0x021E, "SL", left) + _element(0x0048, 0x021F, "SL", top)
    return _sequence(0x0048, 0x021A, [at])


def _element(group: int, number: int, kind: str, value: str | int | bytes) -> bytes:
    if isinstance(value, int):
        data = struct.pack("<H" if kind == "US" else "<i", value)
    elif isinstance(value, str):
        data = value.encode()
        data += (b"\0" if kind == "UI" else b" ") * (len(data) % 2)
    else:
        data = value
    length = "<2xI" if kind in ("OB", "SQ") else "<H"
    return struct.pack("<HH", group, number) + kind.encode() + struct.pack(length, len(data)) + data


def _sequence(group: int, number: int, items: Iterable[bytes]) -> bytes:
    data = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    return _element(group, number, "SQ", data)


def _pixel_data(frames: Iterable[bytes]) -> bytes:
    padded = [frame + bytes(len(frame) % 2) for frame in frames]
    starts = np.cumsum([0, *(len(frame) + 8 for frame in padded)])[:-1]
    parts = [struct.pack(f"<{len(starts)}I", *starts.tolist()), *padded]
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in parts)
    head = struct.pack("<HH", 0x7FE0, 0x0010) + b"OB" + struct.pack("<2xI", 0xFFFFFFFF)
    return head + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def sakura(path: Path) -> None:
    """SVSLIDE: a database of grey JPEG files, one a colour."""
    base = sqlite3.connect(path)
    base.executescript(
        "CREATE TABLE DataManagerSQLiteConfigXPO (TableName TEXT);"
        "INSERT INTO DataManagerSQLiteConfigXPO VALUES ('t');"
        "CREATE TABLE t (id TEXT, data BLOB);"
        "INSERT INTO t VALUES ('++MagicBytes', 'SVGigaPixelImage');"
    )
    rows = [("Header", struct.pack("<5I", SIDE, 64, 64, 0, 1))]
    for scale, color in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)):
        for row, column in np.ndindex(2 // scale, 2 // scale):
            name = f"T;{column * SIDE * scale}|{row * SIDE * scale};{scale};{color};0"
            rows.append((name, _jpeg(SIDE, "L", color)))
    base.executemany("INSERT INTO t VALUES (?, ?)", rows)
    base.commit()
    base.close()


def zeiss(path: Path) -> None:
    """CZI: segments, found by a directory."""
    out = bytearray(_segment("ZISRAWFILE", bytes(80)))
    entries = []
    for scale in (1, 2):
        for row, column in np.ndindex(2 // scale, 2 // scale):
            dimensions = b"".join(
                struct.pack("<4siifi", name, start * SIDE, size * SIDE, 0, SIDE)
                for name, start, size in ((b"X", column, scale), (b"Y", row, scale))
            ) + struct.pack("<4siifi", b"M", row * 2 + column, 1, 0, 1)
            entry = struct.pack("<2siqii2s4xi", b"DV", 3, len(out), 0, 0, b"\0\0", 3) + dimensions
            entries.append(entry)
            data = pixels(SIDE).tobytes()
            head = (struct.pack("<iiq", 0, 0, len(data)) + entry).ljust(256, b"\0")
            out += _segment("ZISRAWSUBBLOCK", head + data)
    directory = len(out)
    out += _segment("ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    metadata = len(out)
    out += _segment("ZISRAWMETADATA", struct.pack("<ii248x", len(_CZI), 0) + _CZI)
    attachments = len(out)
    out += _segment("ZISRAWATTDIR", struct.pack("<i252x", 0))
    struct.pack_into("<qqiq", out, 84, directory, metadata, 0, attachments)
    path.write_bytes(out)


def _segment(name: str, body: bytes) -> bytes:
    return struct.pack("<16sqq", name.encode(), len(body), len(body)) + body
