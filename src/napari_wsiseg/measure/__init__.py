"""Areas of a map's classes, in the whole slide and in regions of it; knows no file."""

from __future__ import annotations

from napari_wsiseg.measure.areas import Measuring, measure, measure_labels
from napari_wsiseg.measure.table import (
    NOT_ANALYSED,
    TOTAL,
    UNCLASSIFIED,
    AreaRow,
    AreaTable,
    ResultRow,
    StainRow,
    table_rows,
)
from napari_wsiseg.measure.words import in_digits, stain_readout

__all__ = [
    "NOT_ANALYSED",
    "TOTAL",
    "UNCLASSIFIED",
    "AreaRow",
    "AreaTable",
    "Measuring",
    "ResultRow",
    "StainRow",
    "in_digits",
    "measure",
    "measure_labels",
    "stain_readout",
    "table_rows",
]
