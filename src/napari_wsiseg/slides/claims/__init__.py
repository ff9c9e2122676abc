"""Refuses files whose claims OpenSlide, in C, would end the process over, or never end with.

GLib below it aborts where there is no memory for what a header asks for, databases may hold
queries without end, and a pipe is waited for. Looked at before OpenSlide sees the file at all.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import suppress
from pathlib import Path

from napari_wsiseg.documents import UnreadableError, open_plain
from napari_wsiseg.errors import SlideError, reason
from napari_wsiseg.slides.claims import sakura, zeiss
from napari_wsiseg.slides.claims.beside import below, is_plain
from napari_wsiseg.slides.claims.dicom import check_instance, is_dicom
from napari_wsiseg.slides.claims.ini import groups_of
from napari_wsiseg.slides.claims.mirax import check_mirax
from napari_wsiseg.slides.claims.tiff import check_tiff
from napari_wsiseg.slides.jpeg import pixels_of, restart_interval

__all__ = ["check", "check_tiff", "is_dicom"]

# Of what is decoded at once; OpenSlide counts its bytes in 32 bits.
_MOST_PIXELS = 2**26
_MOST_TILES = 2**24
_MOST_BYTES = 2**30
_HEAD = 2**16


def check(file: Path) -> None:
    """Refuse what a file claims beyond all measure.

    Raises
    ------
    SlideError
        With the reason alone.
    """
    try:
        with open_plain(file) as opened:
            head = opened.read(_HEAD)
        check_tiff(file, _MOST_BYTES)
        if is_dicom(head):
            _check_series(file.parent)
        elif head.startswith(sakura.START):
            sakura.check_database(file, head, _MOST_PIXELS)
        elif head.startswith(zeiss.START):
            zeiss.check_pieces(file, _MOST_PIXELS)
        elif file.name.endswith(".mrxs"):
            check_mirax(file)
        elif b"Virtual Microscope Specimen" in head:
            _check_vms(file, head)
    # Of a damaged database also the error may be no text.
    except (UnreadableError, struct.error, sqlite3.Error, UnicodeDecodeError) as error:
        raise SlideError(f"it is damaged ({reason(error)})") from error


def _check_series(folder: Path) -> None:
    """Of DICOM, OpenSlide opens every file in the folder."""
    for path in folder.iterdir():
        if not is_plain(path):
            continue
        # What we may not read beside the slide OpenSlide leaves alone.
        with suppress(PermissionError), path.open("rb") as file:
            if is_dicom(file.read(132)):
                check_instance(file, _MOST_PIXELS, _MOST_TILES)


def _check_vms(file: Path, head: bytes) -> None:
    """VMS and VMU: a text that names other files."""
    for values in groups_of(head).values():
        for name in values.values():
            path = below(file.parent, name)
            if is_plain(path):
                _check_jpeg(path)


def _check_jpeg(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if pixels_of(head) > _MOST_PIXELS and not restart_interval(head):
        raise SlideError(
            f"{path.name} claims {pixels_of(head)} px in one piece, which is too large to read"
        )
