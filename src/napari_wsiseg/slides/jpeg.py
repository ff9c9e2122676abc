"""Looks at a tile's JPEG, JPEG 2000 or WebP before a decoder does, which trusts what it is given.

A decoder makes room for whatever a header claims, and paints over what is missing of the
pixels without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from napari_wsiseg.errors import SlideError
from napari_wsiseg.geometry import Size

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_START_OF_SCAN = 0xDA
_END = 0xD9
_RESTARTS = 0xDD
_LONGEST = 65535
# Tables, comments and further scans may stand between the scans of a picture (B.2.1, B.2.4).
_BETWEEN_SCANS = frozenset((0xC4, _START_OF_SCAN, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE))
# In coded pixels 0xFF is followed by 0, or is a restart (B.1.1.5, B.2.1).
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
_J2K_START = b"\xff\x4f\xff\x51"


def jpeg_size(data: bytes) -> Size | None:
    """Height and width that the first frame header states (ITU-T T.81, B.2.2), or None."""
    for marker, place in _segments(data):
        if marker in _START_OF_FRAME and place + 9 <= len(data):
            return Size(
                int.from_bytes(data[place + 5 : place + 7], "big"),
                int.from_bytes(data[place + 7 : place + 9], "big"),
            )
    return None


def pixels_of(data: bytes) -> int:
    """Pixels that a JPEG states; a side of 0, which Hamamatsu writes, stands for the longest."""
    size = jpeg_size(data) if data.startswith(b"\xff\xd8") else None
    return 0 if size is None else (size.height or _LONGEST) * (size.width or _LONGEST)


def restart_interval(data: bytes) -> int:
    """Blocks between two restarts, where a decoder can begin (B.2.4.4); 0: it has none."""
    interval = 0
    for marker, place in _segments(data):
        if marker == _START_OF_SCAN:
            break
        if marker == _RESTARTS:
            interval = int.from_bytes(data[place + 4 : place + 6], "big")
    return interval


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """The markers from the second on, and where each stands."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        yield marker, place
        place = place + 2 if marker in _STANDALONE else _behind(data, place)


def jpeg2000_size(data: bytes) -> Size | None:
    """Height and width that a codestream, or one in a JP2 box, states, or None.

    From the SIZ marker segment (ITU-T T.800, A.5.1), which comes first. Of several that a JP2's
    boxes hold, the most of each.
    """
    last = 0 if data.startswith(_J2K_START) else len(data)
    sizes, start = [], data.find(_J2K_START)
    while 0 <= start <= last:
        fields = data[start + 8 : start + 24]
        right, bottom, left, top = (int.from_bytes(fields[i : i + 4], "big") for i in (0, 4, 8, 12))
        sizes.append((bottom - top, right - left))
        start = data.find(_J2K_START, start + 1)
    return Size(*map(max, zip(*sizes, strict=True))) if sizes else None


def webp_size(data: bytes) -> Size | None:
    """Height and width that the first chunk states (RFC 9649, 2.5 to 2.7), or None."""
    match data[12:16]:
        case b"VP8X":
            width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (26, 28))
        case _:
            return None
    return Size(height, width)


def check_tile_size(data: bytes, tile: Size) -> None:
    """Raise SlideError where a tile's picture claims to be larger than the tile."""
    if data[:2] == b"\xff\xd8":
        size = jpeg_size(data)
    else:
        size = webp_size(data) if data[:4] == b"RIFF" else jpeg2000_size(data)
    if size is not None and (size.height > tile.height or size.width > tile.width):
        raise SlideError(f"a tile claims {size}, where the slide's tiles are {tile}")


def check_whole(data: bytes) -> None:
    """Raise SlideError where a tile's JPEG breaks off, or its coded pixels are none.

    A decoder paints grey, or the pixels of another place, and does not say so. There is no
    checksum: damage that still reads as coded pixels cannot be told from a picture.
    """
    start = _first_scan(data)
    # The usual tile, without a search: every 0xFF but that of the end is followed by 0.
    if start >= 0 and data.endswith(b"\xff\xd9"):
        place = _behind(data, start)
        if data.count(b"\xff", place) - data.count(b"\xff\x00", place) == 1:
            return
    while start >= 0:
        found = _MARKER.search(data, _behind(data, start))
        if found is None:
            break
        if found[1][0] == _END:
            return
        if found[1][0] not in _BETWEEN_SCANS:
            raise SlideError("a tile's JPEG is damaged: a marker stands amid its pixels")
        start = found.end() - 2
    raise SlideError("a tile's JPEG is cut short or damaged: it has no end")


def _first_scan(data: bytes) -> int:
    """Where the first scan's marker stands, or -1."""
    return next((place for marker, place in _segments(data) if marker == _START_OF_SCAN), -1)


def _behind(data: bytes, marker: int) -> int:
    """Where the segment of a marker ends."""
    return marker + 2 + int.from_bytes(data[marker + 2 : marker + 4], "big")
