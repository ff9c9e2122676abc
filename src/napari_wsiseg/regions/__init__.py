"""Regions of a slide that people draw: read from GeoJSON, turned into masks.

Knows neither slides nor maps. A region's shape is in (x, y), in level-0 pixels of the whole
slide; pixel (row i, column j) covers [j, j + 1] x [i, i + 1].
"""

from __future__ import annotations

from napari_wsiseg.regions.geojson import read_geojson, read_outlines
from napari_wsiseg.regions.masks import extent_of, mask_of
from napari_wsiseg.regions.qupath import EXCLUDE, QUPATH_CLASSES, REGION, is_class
from napari_wsiseg.regions.shapes import WHOLE_SLIDE, NamedRegion, Shape, excluding, named

__all__ = [
    "EXCLUDE",
    "QUPATH_CLASSES",
    "REGION",
    "WHOLE_SLIDE",
    "NamedRegion",
    "Shape",
    "excluding",
    "extent_of",
    "is_class",
    "mask_of",
    "named",
    "read_geojson",
    "read_outlines",
]
