"""TIFF: what its pages claim, and BIF's and NDPI's of what is theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import tifffile

from napari_wsiseg.errors import SlideError, reason
from napari_wsiseg.slides.claims.ini import number
from napari_wsiseg.slides.jpeg import pixels_of, restart_interval

# As in `make_levels`; a row of tiles of this side is still no burden.
_MAX_SIDE = 2**22
_MAX_TILE_PIXELS = 2**26
_MOST_PAGES = 4096
_HEAD = 2**16
_MOST_SHARED = 0.9
_XML, _NDPI = 700, 65420
_JPEG = (6, 7)
# From 4 GiB on NDPI files have longer offsets, which tifffile reads by the file's name.
_SHORT_OFFSETS = 2**32


def check_tiff(path: Path, most_bytes: float = math.inf) -> None:
    """Refuse what a TIFF's header claims beyond all measure; nothing where it is no TIFF.

    Parameters
    ----------
    path
        The file.
    most_bytes
        That a tile may take in the file; one that claims more costs our own reader that tile only.

    Raises
    ------
    SlideError
        With the reason alone.
    """
    with path.open("rb") as file:
        if file.read(2) not in (b"II", b"MM"):
            return
    is_long = path.suffix.lower() == ".ndpi" and path.stat().st_size >= _SHORT_OFFSETS
    try:
        with tifffile.TiffFile(path, is_ndpi=is_long) as tif:
            problem = _excess(tif, most_bytes)
    # It raises what it meets in a damaged file.
    except Exception as error:
        raise SlideError(f"it is cut short or damaged ({reason(error)})") from error
    if problem is not None:
        raise SlideError(problem)


def _excess(tif: tifffile.TiffFile, most_bytes: float) -> str | None:
    """What a file claims beyond all measure, or None."""
    is_stitched, is_ndpi = False, _NDPI in tif.pages.first.tags
    for index, page in enumerate(page.aspage() for page in tif.pages):
        if index >= _MOST_PAGES:
            return f"it lists more than {_MOST_PAGES} pictures, as no slide does"
        sides = (page.imagelength, page.imagewidth)
        tile = page.tilelength * page.tilewidth if page.is_tiled else _strip(tif, page)
        if max(sides) > _MAX_SIDE or tile > _MAX_TILE_PIXELS:
            return (
                f"it claims a picture of {sides[1]} x {sides[0]} px in tiles of {tile} px, which "
                "no slide has"
            )
        # Of NDPI, whose levels may be one strip of some GB, OpenSlide reads a part at a time.
        if not is_ndpi and max(page.databytecounts, default=0) > most_bytes:
            return f"it claims a tile of {max(page.databytecounts)} bytes, as no slide has"
        xml = _xml_of(page)
        # So OpenSlide tells BIF.
        is_stitched = is_stitched or (index == 0 and b"iScan" in xml)
        problem = _stitching(page, xml) if is_stitched and xml else None
        if problem is not None:
            return problem
    return None


def _xml_of(page: tifffile.TiffPage) -> bytes:
    value = page.tags[_XML].value if _XML in page.tags else b""
    return (value if isinstance(value, bytes) else str(value).encode()).split(b"\0")[0]


def _strip(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Pixels of an NDPI's picture that are decoded at once; 0 for other files."""
    if _NDPI not in page.tags or page.compression not in _JPEG or not page.dataoffsets:
        return 0
    tif.filehandle.seek(page.dataoffsets[0])
    head = tif.filehandle.read(_HEAD)
    whole: int = page.imagelength * page.imagewidth
    return 0 if restart_interval(head) else max(whole, pixels_of(head))


def _stitching(page: tifffile.TiffPage, xml: bytes) -> str | None:
    """What BIF's XML claims of its tiles beyond all measure, or None."""
    if b"<!" in xml.replace(b"<!--", b""):
        return "its XML defines words of its own, as no slide's does"
    root = ET.fromstring(xml)  # noqa: S314 - what could grow in it was refused
    areas = root.findall("SlideStitchInfo/ImageInfo")
    origins = [origin for found in root.findall("AoiOrigin") for origin in found]
    if not page.is_tiled or page.tilelength < 1 or page.tilewidth < 1:
        return "its tiles have no sides" if areas else None
    for area, origin in zip(areas, origins, strict=False):
        if number(area.get("AOIScanned")) == 0:
            continue
        for axis, length, side in (
            (("OriginY", "NumRows", "OverlapY", "UP"), page.imagelength, page.tilelength),
            (("OriginX", "NumCols", "OverlapX", "RIGHT"), page.imagewidth, page.tilewidth),
        ):
            first, count = number(origin.get(axis[0])), number(area.get(axis[1]))
            if first is None or count is None or first < 0 or count < 1:
                return f"its XML has no {axis[0]} or {axis[1]}"
            if first + count * side > -(-length // side) * side:
                return f"its XML speaks of {count} tiles from {first} px on, of {length} px"
            if not _shared(area, axis[2:]) <= _MOST_SHARED * side:
                return f"its tiles of {side} px lie one upon the other"
    return None


def _shared(area: ET.Element, axis: Sequence[str]) -> float:
    """What neighbours share in the mean, in pixels; each counts as much as it is trusted."""
    name, direction = axis
    shared = total = 0
    for joint in area.findall("TileJointInfo"):
        if joint.get("Direction") == direction:
            weight = number(joint.get("Confidence")) or 0
            shared += weight * (number(joint.get(name)) or 0)
            total += weight
    return shared / total if total else 0.0
