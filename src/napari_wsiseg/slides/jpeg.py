"""Looks at a JPEG or JPEG 2000 header before a decoder makes room for what it claims."""

from __future__ import annotations

from napari_wsiseg.errors import SlideError
from napari_wsiseg.geometry import Size

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_J2K_START = b"\xff\x4f\xff\x51"


def jpeg_size(data: bytes) -> Size | None:
    """Height and width that the first frame header states (ITU-T T.81, B.2.2), or None."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _START_OF_FRAME:
            return Size(
                int.from_bytes(data[place + 5 : place + 7], "big"),
                int.from_bytes(data[place + 7 : place + 9], "big"),
            )
        elif marker in _STANDALONE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def jpeg2000_size(data: bytes) -> Size | None:
    """Height and width that a codestream, or one in a JP2 box, states, or None.

    From the SIZ marker segment (ITU-T T.800, A.5.1), which comes first.
    """
    start = data.find(_J2K_START)
    fields = data[start + 8 : start + 24]
    if start < 0 or len(fields) < 16:
        return None
    right, bottom, left, top = (int.from_bytes(fields[i : i + 4], "big") for i in (0, 4, 8, 12))
    return Size(bottom - top, right - left)


def check_tile_size(data: bytes, tile: Size) -> None:
    """Raise SlideError where a tile's JPEG or JPEG 2000 claims to be larger than the tile."""
    size = jpeg_size(data) if data[:2] == b"\xff\xd8" else jpeg2000_size(data)
    if size is not None and (size.height > tile.height or size.width > tile.width):
        raise SlideError(
            f"A tile claims {size}, where the slide's tiles are {tile}; it is damaged."
        )
