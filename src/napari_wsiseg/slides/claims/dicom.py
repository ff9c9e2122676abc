"""Refuses DICOM slides that libdicom, below OpenSlide, would end the process over.

Reads the data elements before the pixels (PS3.5, 7.1), explicit and little endian as in all the
transfer syntaxes that OpenSlide takes.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from napari_wsiseg.errors import SlideError

_SLIDE = b"1.2.840.10008.5.1.4.1.1.77.1.6"
_SYNTAXES = (
    b"1.2.840.10008.1.2.1",
    b"1.2.840.10008.1.2.4.50",
    b"1.2.840.10008.1.2.4.90",
    b"1.2.840.10008.1.2.4.91",
)
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_TEXTS = (b"UI", b"CS", b"IS")
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CLASS, _SYNTAX, _ORGANISED = 0x00020002, 0x00020010, 0x00209311
_FRAMES, _ROWS, _COLUMNS = 0x00280008, 0x00280010, 0x00280011
_TOTAL_COLUMNS, _TOTAL_ROWS, _PER_FRAME = 0x00480006, 0x00480007, 0x52009230
_PIXEL_GROUP, _PIXELS = 0x7FE00000, 0x7FE00010
# Where frames begin, and how long they are, in files of 4 GiB and more.
_TABLES = (0x7FE00001, 0x7FE00002)
_SPARSE = (b"TILED_SPARSE", b"3D")
_DEEPEST = 16
_LONGEST = 64


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is DICOM (PS3.10, 7.1)."""
    return head[128:132] == b"DICM"


def check_instance(file: BinaryIO, most_pixels: int, most_tiles: int) -> None:
    """Look at what stands before the pixels; nothing where OpenSlide takes the file for no slide.

    Parameters
    ----------
    file
        Open at any place; a DICOM file.
    most_pixels, most_tiles
        Of a frame, and of a level.

    Raises
    ------
    SlideError
        With the reason alone.
    """
    walk = _Walk(file)
    values = walk.values
    try:
        walk.pass_over()
    except SlideError:
        # Another file beside a slide, which OpenSlide leaves alone.
        if values.get(_CLASS) != _SLIDE or values.get(_SYNTAX, _SYNTAXES[0]) not in _SYNTAXES:
            return
        raise
    if values.get(_CLASS) != _SLIDE or values.get(_SYNTAX) not in _SYNTAXES:
        return
    if not {_ROWS, _COLUMNS, _TOTAL_ROWS, _TOTAL_COLUMNS} <= values.keys():
        return  # OpenSlide says so
    rows, columns, down, across = (
        int.from_bytes(values[tag], "little")
        for tag in (_ROWS, _COLUMNS, _TOTAL_ROWS, _TOTAL_COLUMNS)
    )
    frames = values.get(_FRAMES, b"1")
    if not (frames.isdigit() and 0 < int(frames) <= most_tiles):
        raise SlideError(f"it claims {frames[:20].decode('latin-1')} frames, which no slide has")
    if not 0 < rows * columns <= most_pixels:
        raise SlideError(f"it claims frames of {columns} x {rows} px, which no slide has")
    if -(-down // rows) * -(-across // columns) > most_tiles:
        raise SlideError(f"it claims {across} x {down} px in frames of {columns} x {rows} px")
    listed = int.from_bytes(values.get(_PER_FRAME, b""), "little")
    if values.get(_ORGANISED) in _SPARSE and not listed:
        raise SlideError("it is damaged: its frames are scattered, and do not say where they lie")
    if listed > int(frames):
        raise SlideError(f"it is damaged: it tells of {listed} frames, and has {int(frames)}")


class _Walk:
    """One pass over a file's data elements; every part has to end where its whole does.

    Attributes
    ----------
    values
        Short values of the file's own elements; of a sequence, how many items it has.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = file.seek(0, 2)
        self.values: dict[int, bytes] = {}

    def pass_over(self) -> None:
        """Fill `values`.

        Raises
        ------
        SlideError
            Where the file breaks off or is damaged.
        """
        self._file.seek(132)
        self._elements(self._end, 0)

    def _take(self, size: int, end: int) -> bytes:
        data = self._file.read(size) if self._file.tell() + size <= end else b""
        if len(data) < size:
            raise SlideError("it is cut short or damaged: a part of its header reaches too far")
        return data

    def _elements(self, end: int, depth: int) -> None:
        """Pass over data elements up to `end`, or to what ends an item of unknown length."""
        if depth > _DEEPEST:
            raise SlideError("it is damaged: its header is nested too deeply")
        while self._file.tell() < end:
            group, element = struct.unpack("<HH", self._take(4, end))
            tag = group << 16 | element
            if tag == _ITEM_END and depth:
                self._take(4, end)
                return
            kind, length = self._kind_and_length(end)
            if depth == 0 and tag >= _PIXEL_GROUP:
                if self._are_tables(tag, length):
                    continue
                return
            if kind == b"SQ":
                count = self._items(length, end, depth)
                if depth == 0:
                    self.values[tag] = count.to_bytes(8, "little")
            elif depth == 0 and length <= _LONGEST:
                self.values[tag] = (
                    self._take(length, end).strip(b"\0 ")
                    if kind in _TEXTS
                    else self._take(length, end)
                )
            elif self._file.tell() + length > end:
                raise SlideError("it is cut short or damaged: a part of its header reaches too far")
            else:
                self._file.seek(length, 1)

    def _are_tables(self, tag: int, length: int) -> bool:
        """Check what tells where frames lie; whether the pixels themselves are still to come."""
        if tag in _TABLES:
            self._check_table(length, "<u8")
        elif tag == _PIXELS and length == _UNDEFINED:
            _, size = struct.unpack("<II", self._take(8, self._end))
            self._check_table(size, "<u4")
        return tag in _TABLES

    def _check_table(self, size: int, kind: str) -> None:
        """Check where frames are said to lie, from the end of the table on."""
        table = np.frombuffer(self._take(size - size % int(kind[-1]), self._end), kind)
        if len(table) and int(table.max()) > self._end - self._file.tell():
            raise SlideError("it is cut short or damaged: a frame lies beyond its end")

    def _kind_and_length(self, end: int) -> tuple[bytes, int]:
        kind = self._take(2, end)
        if kind in _LONG:
            return kind, int(struct.unpack("<2xI", self._take(6, end))[0])
        if kind not in _SHORT:
            raise SlideError("it is damaged: a part of its header is of no known kind")
        return kind, int(struct.unpack("<H", self._take(2, end))[0])

    def _items(self, length: int, end: int, depth: int) -> int:
        """Pass over a sequence; how many items it has."""
        stop = end if length == _UNDEFINED else self._file.tell() + length
        if stop > end:
            raise SlideError("it is cut short or damaged: a part of its header reaches too far")
        count = 0
        while self._file.tell() < stop:
            group, element, size = struct.unpack("<HHI", self._take(8, stop))
            tag = group << 16 | element
            if tag == _SEQUENCE_END and length == _UNDEFINED:
                return count
            if tag != _ITEM:
                raise SlideError("it is damaged: a list in its header holds what is no item")
            within = stop if size == _UNDEFINED else self._file.tell() + size
            if within > stop:
                raise SlideError("it is cut short or damaged: a part of its header reaches too far")
            self._elements(within, depth + 1)
            count += 1
        return count
