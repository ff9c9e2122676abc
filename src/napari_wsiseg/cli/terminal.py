"""Where words go: results to stdout, all else to stderr, on any terminal and in any pipe."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
import textwrap
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

INTERRUPTED = 130
"""The exit status of what was interrupted, as shells have it for Ctrl-C."""

_PLAIN = str.maketrans(
    {"µ": "u", "μ": "u", "²": "2", "→": "->", "≥": ">=", "×": "x", "–": "-", "·": "-", "…": "..."}
)
# A pipe has no width; tables are then as wide as their content, up to this.
_PIPE_WIDTH = 200


def _to_ascii(error: UnicodeError) -> tuple[str, int]:
    """Stand-ins for what a terminal's encoding cannot show, as `codecs` asks for them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "replace").decode("ascii"), error.end


def prepare_streams() -> None:
    """Let no character, and no file name, crash the output, whatever the locale."""
    codecs.register_error("napari_wsiseg.to_ascii", _to_ascii)
    sys.stdout, sys.stderr = _open(sys.stdout), _open(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="napari_wsiseg.to_ascii")


def _open(stream: TextIO | None) -> TextIO:
    """The stream, or, where it was closed before we started (`>&-`), one to nowhere."""
    if stream is not None:
        return stream
    return Path(os.devnull).open("w", encoding="utf-8")


def out(text: str = "") -> None:
    """A line of the result."""
    print(_fitted(text, sys.stdout), flush=True)


def say(text: str) -> None:
    """A line about the work."""
    print(_fitted(text, sys.stderr), file=sys.stderr, flush=True)


def _fitted(text: str, stream: TextIO) -> str:
    """On a terminal, long lines broken between words; elsewhere the text as it is."""
    if not stream.isatty():
        return text
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.fill(
        text,
        shutil.get_terminal_size().columns,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def warn(text: str) -> None:
    """A line that the user should see, but that stops nothing."""
    say(f"Warning: {text}")


def fail(error: BaseException, *, verbose: bool) -> None:
    """An error as one sentence; its traceback only when asked for."""
    if verbose:
        traceback.print_exception(error)
    say(f"Error: {sentence(error)}")


def sentence(error: BaseException) -> str:
    """What an error says, on one line.

    One that nobody foresaw says so, with its type.
    """
    from napari_wsiseg.errors import WsisegError

    text = " ".join(str(error).split())
    if isinstance(error, WsisegError):
        return text
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{place}."
    return f"Unexpected {type(error).__name__}: {text} (--verbose shows where)."


def console(*, stderr: bool = False) -> Console:
    """A rich console that takes every text literally."""
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def print_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int | None = None
) -> None:
    """Print columns under bold titles; where the terminal is narrow, cells wrap between words.

    Parameters
    ----------
    titles
        A column each; all empty: no titles.
    rows
        A text a column.
    numbers_from
        The first of the columns that are set to the right.
    """
    from rich.table import Table

    texts = [list(row) for row in rows]
    screen = console()
    columns = list(zip(titles, *texts, strict=True))
    gaps = len(titles) - 1
    roomy = sum(max(map(len, column)) for column in columns) + 2 * gaps <= screen.width
    gap = 2 if roomy else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=any(titles))
    for index, width in enumerate(column_widths(columns, screen.width - gap * gaps)):
        right = numbers_from is not None and index >= numbers_from
        table.add_column(
            titles[index], justify="right" if right else "left", width=width, overflow="fold"
        )
    for row in texts:
        table.add_row(*row)
    screen.print(table)


def column_widths(columns: Sequence[Sequence[str]], limit: int) -> list[int]:
    """How wide each column is: its longest text, or, where all do not fit, less, by whole words.

    rich itself shrinks a column of short words as readily as one of long texts.

    Parameters
    ----------
    columns
        The texts of each column.
    limit
        Characters that all columns share.
    """
    full = [max(map(len, texts)) for texts in columns]
    widths = [max(len(word) for word in " ".join(texts).split() or [""]) for texts in columns]
    room = limit - sum(widths)
    while room > 0 and widths != full:
        # The one that lacks most gets the next character.
        neediest = max(range(len(full)), key=lambda i: full[i] - widths[i])
        widths[neediest] += 1
        room -= 1
    return widths
