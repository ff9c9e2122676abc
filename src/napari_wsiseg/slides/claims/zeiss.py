"""CZI: the pieces that a file's directory lists, and those of the files in it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from napari_wsiseg.errors import SlideError

START = b"ZISRAWFILE"
_ATTACHMENTS = b"ZISRAWATTDIR"
# Every segment's head: its name and two sizes.
_HEAD = 32
_POINTERS = struct.Struct("<qqiq")
_POINTERS_AT = 84
_COUNT = struct.Struct("<i")
_DIRECTORY_HEAD, _ATTACHED_HEAD = _HEAD + 128, _HEAD + 256
_ATTACHMENT = struct.Struct("<12xq108x")
# A piece's entry ends with how many dimensions follow it: name, start, size, place, stored size.
_ENTRY = struct.Struct("<28xi")
_DIMENSION = struct.Struct("<4s4xi4xi")
_MOST_DIMENSIONS, _MOST_ATTACHMENTS = 64, 256
_MAX_SIDE = 2**16


def check_pieces(file: Path, most_pixels: int) -> None:
    """Refuse pieces without sides, or of more than `most_pixels`.

    Raises
    ------
    SlideError
        With the reason alone.
    """
    with file.open("rb") as opened:
        segments = _Segments(opened, most_pixels)
        attachments = segments.check_directory(0)
        if not segments.begins(attachments, _ATTACHMENTS):
            return
        (count,) = segments.unpacked(_COUNT, attachments + _HEAD)
        if count > _MOST_ATTACHMENTS:
            raise SlideError(f"it claims {count} attachments, as no slide has")
        for index in range(count):
            entry = attachments + _ATTACHED_HEAD + index * _ATTACHMENT.size
            start = segments.unpacked(_ATTACHMENT, entry)[0] + _ATTACHED_HEAD
            if segments.begins(start, START):
                segments.check_directory(start)


class _Segments:
    """What stands where in a file."""

    def __init__(self, file: BinaryIO, most_pixels: int) -> None:
        self._file = file
        self._end = file.seek(0, 2)
        self._most_pixels = most_pixels

    def bytes_at(self, place: int, size: int) -> bytes:
        if not 0 <= place <= self._end - size:
            raise SlideError("it is cut short or damaged: it speaks of what lies beyond its end")
        self._file.seek(place)
        return self._file.read(size)

    def begins(self, place: int, name: bytes) -> bool:
        """Whether something of this name begins there."""
        return 0 <= place <= self._end - len(name) and self.bytes_at(place, len(name)) == name

    def unpacked(self, form: struct.Struct, place: int) -> tuple[Any, ...]:
        return form.unpack(self.bytes_at(place, form.size))

    def check_directory(self, start: int) -> int:
        """Check the pieces of the CZI file that begins at `start`; where it lists attachments."""
        directory, _, _, attachments = self.unpacked(_POINTERS, start + _POINTERS_AT)
        (count,) = self.unpacked(_COUNT, start + directory + _HEAD)
        place = start + directory + _DIRECTORY_HEAD
        for _ in range(count):
            (dimensions,) = self.unpacked(_ENTRY, place)
            if not 0 < dimensions <= _MOST_DIMENSIONS:
                raise SlideError(f"it is damaged: a piece has {dimensions} dimensions")
            size = dimensions * _DIMENSION.size
            self._check_piece(self.bytes_at(place + _ENTRY.size, size))
            place += _ENTRY.size + size
        return int(start + attachments)

    def _check_piece(self, dimensions: bytes) -> None:
        named = _DIMENSION.iter_unpack(dimensions)
        sides = [one[1:] for one in named if one[0].split(b"\0")[0] in (b"X", b"Y")]
        # OpenSlide divides by how many times larger a piece is than it is stored, rounded.
        sensible = all(0 < stored <= min(_MAX_SIDE, 2 * size) for size, stored in sides)
        if len(sides) != 2 or not sensible or sides[0][1] * sides[1][1] > self._most_pixels:
            told = " x ".join(f"{stored} (for {size})" for size, stored in sides)
            raise SlideError(f"it claims a piece of {told} px, which no slide has")
