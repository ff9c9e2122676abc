"""Areas in words and digits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsiseg.measure.table import AreaTable, StainRow


def in_digits(mm2: float) -> str:
    """An area to three digits, large ones to whole mm²: "0.00123", "1875"."""
    if not mm2 or mm2 >= 1e-4:
        return f"{mm2:.3g}" if mm2 < 999.5 else f"{mm2:.0f}"
    # "0.0000125", not "1.25e-05".
    return f"{mm2:.{2 - math.floor(math.log10(mm2))}f}".rstrip("0")


def stain_readout(areas: AreaTable) -> list[str]:
    """A stain model's areas in words, a sentence a class; empty for other models."""
    if not areas.stains or not areas.analysed:
        return []
    return [_sentence(areas, stain) for stain in areas.stains]


def _sentence(areas: AreaTable, stain: StainRow) -> str:
    row, analysed = areas[stain.name], areas.analysed
    mm2 = ""
    if row.area_mm2 is not None and areas.mpp is not None:
        whole = analysed * areas.mpp.y * areas.mpp.x / 1e6
        mm2 = f" ({in_digits(row.area_mm2)} of {in_digits(whole)} mm²)"
    # "DAB-positive", but "Eosin-dominant" as it stands.
    name, _, kind = stain.name.partition("-")
    kind = kind or "positive"
    mean = "" if stain.mean is None else f"; mean {name} OD in {kind} area {stain.mean:.2f}"
    beside = ""
    if stain.beside:
        (low, most), (high, least) = stain.beside
        beside = f"; {100 * most:.1f}-{100 * least:.1f} % at {low:.2f}-{high:.2f}"
    by_hand = ", corrected by hand" if areas.corrected else ""
    about = "about " if areas.estimated else ""
    return (
        f"{name}-{kind} area {about}{100 * (row.fraction or 0):.1f} % of tissue{mm2} at {name} "
        f"OD >= {stain.threshold:.2f}{by_hand}{mean}{beside}"
    )
