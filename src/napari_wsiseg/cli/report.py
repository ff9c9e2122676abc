"""What a run is going to do, and what came out: in words, as a table, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsiseg.cli.terminal import out, print_table
from napari_wsiseg.cli.words import SCALE_SOURCES, about, in_bytes, in_mpp, several
from napari_wsiseg.measure import AreaRow, AreaTable, stain_readout
from napari_wsiseg.notice import RESEARCH_USE

if TYPE_CHECKING:
    from napari_wsiseg.engine import RunPlan
    from napari_wsiseg.store import ProbabilityMap


def plan_words(plan: RunPlan) -> str:
    """Like "0.5 µm/px -> 2216 x 2961 px, 35 patches, about 1 min, 20 MB on disk".

    Without a scale, the resolution stands first as it was asked for.
    """
    scale = str(plan.resolution) if plan.map_mpp is None else in_mpp(plan.map_mpp)
    parts = [
        f"{scale} -> {plan.size.width} x {plan.size.height} px",
        several(plan.patches, "patch"),
        *([] if plan.seconds is None else [about(plan.seconds)]),
        f"{in_bytes(plan.disk_bytes)} on disk",
        f"{in_bytes(plan.memory_bytes)} of memory",
        *(["works from disk"] if plan.spills else []),
    ]
    return ", ".join(parts)


def print_result(result: ProbabilityMap, areas: AreaTable) -> None:
    """Print where the result is, its areas, and what they rest on."""
    out()
    print_areas(areas)
    for text in stain_readout(areas):
        out(text)
    if failed := result.failed_patches:
        out(f"{several(len(failed), 'patch')} failed and were left out; the result lists them.")
    out(f"Result: {result.path}")
    out(RESEARCH_USE)


def print_areas(areas: AreaTable) -> None:
    """Print a row a class, and the scale that the areas rest on."""
    scaled = areas.mpp is not None
    titles = ["Class", "Pixels", *(["mm²"] if scaled else []), "% of analysed tissue"]
    print_table(titles, (_cells(row, scaled=scaled) for row in areas.rows), numbers_from=1)
    if areas.mpp is None or areas.mpp_source is None:
        out("Scale unknown: areas are in pixels and %.")
    else:
        out(f"mm² at {in_mpp(areas.mpp)}; the slide's scale is {SCALE_SOURCES[areas.mpp_source]}.")


def result_values(result: ProbabilityMap, areas: AreaTable) -> dict[str, Any]:
    """A result as plain JSON."""
    return {
        "status": result.status,
        "output": str(result.path),
        "size": {"height": result.size.height, "width": result.size.width},
        "mpp": None if areas.mpp is None else list(areas.mpp),
        "mpp_source": areas.mpp_source,
        "areas": [
            {
                "name": row.name,
                "pixels": row.pixels,
                "area_mm2": row.area_mm2,
                "fraction_of_analysed_tissue": row.fraction,
            }
            for row in areas.rows
        ],
        "failed_patches": [
            {"row": patch.row, "column": patch.column, "reason": patch.reason}
            for patch in result.failed_patches
        ],
    }


def _cells(row: AreaRow, *, scaled: bool) -> list[str]:
    share = "" if row.fraction is None else f"{100 * row.fraction:.1f}"
    area = [] if not scaled or row.area_mm2 is None else [f"{row.area_mm2:,.3f}"]
    return [row.name, f"{row.pixels:,}", *area, share]
