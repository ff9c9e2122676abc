"""Random label maps, the requests to export them, and a rasteriser of our own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import shapely
from hypothesis import strategies as st
from skimage.measure import label

from maps import SAME, SIGMOID, SOFTMAX, map_of
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.labels import LabelMap


@st.composite
def layered(draw, classes=3):
    """(layers, height, width) uint8: noise, blocks, both; so holes, diagonals, large objects."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    block, noise = draw(st.sampled_from((1, 2, 5, 9))), draw(st.sampled_from((0, 0.1, 0.5)))
    kinds = draw(st.integers(1, classes))
    coarse = rng.integers(0, kinds + 1, (height // block + 1, width // block + 1))
    labels = np.kron(coarse, np.ones((block, block), int))[:height, :width]
    fine = rng.integers(0, kinds + 1, labels.shape)
    return np.where(rng.random(labels.shape) < noise, fine, labels).astype(np.uint8)


def exclusive(labels, **options):
    """A map of exclusive classes with these labels, and what it stores for them."""
    rng = np.random.default_rng(labels.sum())
    stored = rng.integers(128, 256, labels.shape)
    values = np.zeros((len(SOFTMAX.classes), *labels.shape))
    for code in range(1, len(values) + 1):
        values[code - 1] = np.where(labels == code, stored / 255, 0)
    return map_of(values, SOFTMAX, coverage=labels > 0, **options), np.where(labels, stored, 0)


def independent(first, second, spec=SIGMOID, **options):
    """A map of two classes that may overlap, each where its mask is."""
    masks = np.stack([first, second]) > 0
    return map_of(masks * 0.8, spec, **options)


def request_of(pm, codes=None, origin="slide", **options):
    """All classes, under the model's names."""
    labels = LabelMap(pm, **options)
    known = tuple(code for layer in labels.layers for code in layer)
    codes = known if codes is None else codes
    return ExportRequest(labels, codes, {code: pm.classes[code - 1] for code in codes}, origin)


def even_odd(polygons, shape):
    """(height, width) bool: what lies inside, by counting vertical edges to the left."""
    inside = np.zeros(shape, bool)
    for ring in shapely.get_rings(shapely.get_parts(polygons)):
        points = shapely.get_coordinates(ring).astype(int)
        for (x0, y0), (x1, y1) in pairwise(points):
            assert (x0 == x1) != (y0 == y1)
            if x0 == x1:
                inside[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside


def numbered(labels):
    """How many objects there are, on the whole array."""
    return int(label(labels, background=0, connectivity=1).max(initial=0))


DOWNSAMPLES = (SAME, type(SAME)(2.0, 3.0), type(SAME)(4.03, 0.5), type(SAME)(1.9998, 7.77))
