"""Probability maps: written once in whole chunk rows, readable while they grow."""

from napari_wsiseg.store.layout import MapLayout, TissueImage
from napari_wsiseg.store.map import MapBlock, ProbabilityMap
from napari_wsiseg.store.metadata import RunInfo
from napari_wsiseg.store.writer import MapWriter

__all__ = ["MapBlock", "MapLayout", "MapWriter", "ProbabilityMap", "RunInfo", "TissueImage"]
