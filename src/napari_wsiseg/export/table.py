"""Tables of comma-separated values under lines of comment; knows no result."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.provenance import encodable

Cell = str | int | float | None
Table = Sequence[Sequence[Cell]]


def text_cell(value: object) -> str | None:
    """A cell's text: on one line, and no formula to a spreadsheet."""
    if value is None:
        return None
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", encodable(str(value)))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def number_cell(value: float | None) -> float | None:
    """A cell's number without the last digits, which are the arithmetic's."""
    return None if value is None else float(f"{value:.12g}")


def write_table(path: Path, comments: Sequence[str], table: Table) -> None:
    """Write a file: a line for each comment, behind "#", then the rows, titles first."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(_lines(comments))
        # Texts in quotes: readers that skip comments would cut a name at its "#".
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows(table)


def check_table(path: Path, comments: Sequence[str], table: Table, target: Path) -> None:
    """Read a file and compare.

    Raises
    ------
    ExportError
        If it does not hold what was written; it names `target`.
    """
    lines = _lines(comments)
    with path.open(encoding="utf-8", newline="") as file:
        found = [file.readline() for _ in lines], list(csv.reader(file))
    expected = [["" if cell is None else str(cell) for cell in row] for row in table]
    if found != (lines, expected):
        raise ExportError(f"{target} did not read back as it was written; check the disk.")


def _lines(comments: Sequence[str]) -> list[str]:
    return [f"# {' '.join(encodable(comment).splitlines())}\n" for comment in comments]
