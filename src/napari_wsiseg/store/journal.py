"""Which chunks are finished, on disk: append-only records with checksums.

A folder of segments, one a writer, so that nothing written is ever touched again: a
torn end costs its own segment's tail and nothing else. Knows no pixels.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from napari_wsiseg.documents import open_plain
from napari_wsiseg.faults import passing
from napari_wsiseg.grid import Indices, Mask
from napari_wsiseg.store.files import naming, sync_folder, sync_open

JOURNAL = "journal"

# Chunk row, chunk column, CRC-32 of the two; a run of zeros is no record.
_BODY = struct.Struct("<II")
_RECORD = struct.Struct("<III")


def encode(chunks: Indices) -> bytes:
    """Records of these chunks, (n, 2) rows and columns."""
    bodies = (_BODY.pack(row, column) for row, column in chunks.tolist())
    return b"".join(body + struct.pack("<I", zlib.crc32(body)) for body in bodies)


class JournalReader:
    """The chunks recorded so far; each look reads only what was appended since.

    Parameters
    ----------
    folder
        The result's folder.
    shape
        Rows and columns of chunks.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self._folder = folder / JOURNAL
        self._read: dict[str, int] = {}
        self._recorded = np.zeros(shape, bool)

    def recorded(self) -> Mask:
        """(chunk rows, chunk columns) bool."""
        for segment in segments(self._folder):
            self._read[segment.name] = self._advance(segment, self._read.get(segment.name, 0))
        return self._recorded.copy()

    def _advance(self, segment: Path, offset: int) -> int:
        """Read records from `offset` up to the first bad or short one; where that is."""
        rows, columns = self._recorded.shape
        with open_plain(segment) as file:
            file.seek(offset)
            # As much as one writer has to say; what is beyond is read at the next look.
            data = file.read(rows * columns * _RECORD.size)
        whole = len(data) - len(data) % _RECORD.size
        for position, (row, column, checksum) in zip(
            range(0, whole, _RECORD.size), _RECORD.iter_unpack(data[:whole]), strict=True
        ):
            body = data[position : position + _BODY.size]
            if checksum != zlib.crc32(body) or row >= rows or column >= columns:
                return offset + position
            self._recorded[row, column] = True
        return offset + whole


def segments(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))


class JournalWriter:
    """Appends to a segment of its own, made by the first record.

    Parameters
    ----------
    folder
        The result's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / JOURNAL
        self._segment: Path | None = None

    def append(self, chunks: Indices) -> None:
        """Record chunks whose files are on disk; on return the record is too.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        with naming(self._folder):
            is_new = self._segment is None
            if self._segment is None:
                self._segment = self._next_segment()
            passing("journal")
            with self._segment.open("xb" if is_new else "ab") as file:
                file.write(encode(chunks))
                file.flush()
                passing("journal")
                sync_open(file.fileno())
            if is_new:
                sync_folder(self._folder)
                sync_folder(self._folder.parent)
            passing("journal")

    def _next_segment(self) -> Path:
        self._folder.mkdir(exist_ok=True)
        existing = segments(self._folder)
        number = int(existing[-1].name) + 1 if existing else 1
        return self._folder / f"{number:06d}"
