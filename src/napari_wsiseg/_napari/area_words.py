"""Areas in the dock's words. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsiseg.measure.table import NOT_ANALYSED, TOTAL, UNCLASSIFIED
from napari_wsiseg.measure.words import in_digits

if TYPE_CHECKING:
    from napari_wsiseg.measure import AreaRow, AreaTable

# Less is a few pixels, whose digits would fill the row.
_LEAST_MM2 = 0.0001


def share_words(areas: AreaTable, row: AreaRow) -> str:
    """Like "12.3 %", with a "~" before an estimate; "-" where nothing was analysed."""
    if row.fraction is None:
        return "-"
    return f"{'~' if areas.estimated else ''}{100 * row.fraction:.1f} %"


def extent_words(areas: AreaTable, row: AreaRow) -> str:
    """Like "1.42 mm²", or in pixels where the slide has no scale."""
    if row.area_mm2 is None:
        extent = f"{row.pixels:,} px"
    elif 0 < row.area_mm2 < _LEAST_MM2:
        extent = f"<{_LEAST_MM2} mm²"
    else:
        extent = f"{in_digits(row.area_mm2)} mm²"
    return f"{'~' if areas.estimated else ''}{extent}"


def summary_words(areas: AreaTable) -> str:
    """The tissue in none of the classes, what was not analysed, and all of it."""
    rest = areas[UNCLASSIFIED]
    words = [f"{UNCLASSIFIED}: {share_words(areas, rest)}, {extent_words(areas, rest)}"]
    words += [f"{name}: {extent_words(areas, areas[name])}" for name in (NOT_ANALYSED, TOTAL)]
    end = (
        "Estimates while it changes."
        if areas.estimated
        else "Percentages are of the analysed tissue."
    )
    return "\n".join([*words, end])


def as_tsv(tables: list[AreaTable]) -> str:
    """The tables as text to paste into a sheet, a row a region and class."""
    lines = ["Region\tClass\tPixels\tmm²\t% of analysed tissue"]
    for table in tables:
        for row in table.rows:
            area = "" if row.area_mm2 is None else f"{row.area_mm2:.6f}"
            share = "" if row.fraction is None else f"{100 * row.fraction:.2f}"
            lines.append(
                f"{table.region or 'Whole tissue'}\t{row.name}\t{row.pixels}\t{area}\t{share}"
            )
    return "\n".join(lines)
