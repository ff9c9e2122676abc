"""What a run is going to do, and what came out: in words, as a table, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsiseg.cli.terminal import out, print_table
from napari_wsiseg.measure import AreaRow, AreaTable, in_digits, stain_readout
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.store import left_out_words
from napari_wsiseg.words import SCALE_SOURCES, in_mpp

if TYPE_CHECKING:
    from napari_wsiseg.messages import FailedPatch
    from napari_wsiseg.store import ProbabilityMap


def print_result(result: ProbabilityMap, areas: AreaTable) -> None:
    """Print where the result is, its areas, and what they rest on."""
    out()
    print_areas(areas)
    for text in stain_readout(areas):
        out(text)
    if lacks := left_out_words(result):
        out(lacks)
    out(f"Result: {result.path}")
    out(RESEARCH_USE)


def print_areas(areas: AreaTable) -> None:
    """Print a row a class, and the scale that the areas rest on."""
    print_table_of(areas)
    out(scale_words(areas))


def print_table_of(areas: AreaTable) -> None:
    """Print a row a class."""
    scaled = areas.mpp is not None
    titles = ["Class", "Pixels", *(["mm²"] if scaled else []), "% of analysed tissue"]
    print_table(titles, (_cells(row, scaled=scaled) for row in areas.rows), numbers_from=1)


def scale_words(areas: AreaTable) -> str:
    """The scale that the areas rest on, in a sentence."""
    if areas.mpp is None or areas.mpp_source is None:
        return "Scale unknown: areas are in pixels and %."
    return f"mm² at {in_mpp(areas.mpp)}; the slide's scale is {SCALE_SOURCES[areas.mpp_source]}."


def result_values(result: ProbabilityMap, areas: AreaTable) -> dict[str, Any]:
    """A result as plain JSON."""
    return {
        "status": result.status,
        "output": str(result.path),
        "size": {"height": result.size.height, "width": result.size.width},
        "mpp": None if areas.mpp is None else list(areas.mpp),
        "mpp_source": areas.mpp_source,
        "areas": area_values(areas),
        "failed_patches": [_failed(result, patch) for patch in result.failed_patches],
    }


def _failed(result: ProbabilityMap, patch: FailedPatch) -> dict[str, Any]:
    """A patch that was left out; its place in level-0 pixels of the slide."""
    box = result.place_of(patch)
    place = {"top": box.top, "left": box.left, "height": box.size.height, "width": box.size.width}
    return {"row": patch.row, "column": patch.column, "reason": patch.reason} | place


def area_values(areas: AreaTable) -> list[dict[str, Any]]:
    """A table as plain JSON."""
    return [
        {
            "name": row.name,
            "pixels": row.pixels,
            "area_mm2": row.area_mm2,
            "fraction_of_analysed_tissue": row.fraction,
        }
        for row in areas.rows
    ]


def _cells(row: AreaRow, *, scaled: bool) -> list[str]:
    share = "" if row.fraction is None else f"{100 * row.fraction:.1f}"
    area = [] if not scaled or row.area_mm2 is None else [_mm2(row.area_mm2)]
    return [row.name, f"{row.pixels:,}", *area, share]


def _mm2(area: float) -> str:
    # "0.000" would say that there is nothing.
    return in_digits(area) if 0 < area < 0.0005 else f"{area:,.3f}"
