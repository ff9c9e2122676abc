"""Probability maps: written once in whole chunk rows, readable while they grow."""

from napari_wsiseg.store.layout import MapLayout, TissueImage
from napari_wsiseg.store.map import MapBlock, ProbabilityMap
from napari_wsiseg.store.metadata import EXPORT, OURS, RunInfo, is_export, is_result
from napari_wsiseg.store.words import left_out_words, place_words
from napari_wsiseg.store.writer import MapWriter

__all__ = [
    "EXPORT",
    "OURS",
    "MapBlock",
    "MapLayout",
    "MapWriter",
    "ProbabilityMap",
    "RunInfo",
    "TissueImage",
    "is_export",
    "is_result",
    "left_out_words",
    "place_words",
]
