"""SVSLIDE: databases of plain tables alone, for a view is a program that may never end."""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path, PurePath

from napari_wsiseg.errors import SlideError

START = b"SQLite format 3\0"
_COMPUTED = re.compile(r"\b(VIEW|VIRTUAL|AS)\b", re.IGNORECASE)
_Row = tuple[object, ...]


def check_database(file: Path, head: bytes, most_pixels: int) -> None:
    """Refuse a database that computes, or whose tiles are larger than `most_pixels`.

    Raises
    ------
    SlideError
        With the reason alone.
    sqlite3.Error
        If it is damaged.
    """
    if head[18:20] != b"\1\1":
        raise SlideError("it is a database that is still written to; copy the slide again")
    with closing(sqlite3.connect(f"{_address(file.absolute())}?mode=ro", uri=True)) as base:
        # For what a damaged file makes of a plain query.
        base.set_progress_handler(_Patience().step, 10**6)

        def ask(query: str) -> Iterable[_Row]:
            return base.execute(query)

        for kind, text in ask("SELECT type, sql FROM sqlite_master"):
            if kind == "view" or _COMPUTED.search(str(text)):
                raise SlideError("it is a database that computes what it holds, as no slide's does")
        _check_tables(ask, most_pixels)


def _address(file: PurePath) -> str:
    """As SQLite takes it: what a share of Windows is on stands in the path, and no host."""
    address = file.as_uri()
    return address if address.startswith("file:///") else address.replace("file:", "file://", 1)


def _check_tables(ask: Callable[[str], Iterable[_Row]], most_pixels: int) -> None:
    names = [row[0] for row in ask("SELECT TableName FROM DataManagerSQLiteConfigXPO LIMIT 2")]
    if len(names) != 1 or not isinstance(names[0], str):
        raise SlideError("it is a database, and no slide")
    table = f"'{names[0].replace(chr(39), chr(39) * 2)}'"
    kinds = f"SELECT typeof(data) FROM {table} WHERE id = '++MagicBytes'"  # noqa: S608 - quoted
    if [row[0] for row in ask(kinds)] not in (["text"], ["blob"]):
        raise SlideError("it is a database, and no slide")
    if next(iter(ask(f"SELECT 1 FROM {table} WHERE typeof(id) != 'text' LIMIT 1")), None):  # noqa: S608
        raise SlideError("its tiles have no names")
    for (header,) in ask(f"SELECT data FROM {table} WHERE id = 'Header'"):  # noqa: S608
        side = struct.unpack_from("<I", header)[0] if isinstance(header, bytes) else 0
        if side**2 > most_pixels:
            raise SlideError(f"it claims tiles of {side} px a side, which no slide has")


class _Patience:
    """Ends a query after 100 million steps."""

    def __init__(self) -> None:
        self._left = 100

    def step(self) -> int:
        """Whether to end it, for SQLite."""
        self._left -= 1
        return int(self._left < 0)
