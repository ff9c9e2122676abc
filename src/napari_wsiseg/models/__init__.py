"""Segmenters: the zoo, weights, networks, and how a segmenter is asked.

Imports torch only when a model is loaded or asked.
"""

from __future__ import annotations

from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.models.inference import (
    OutOfMemory,
    check_range,
    check_shape,
    identity,
    predict,
    with_shapes,
)
from napari_wsiseg.models.load import load_model, stain_model
from napari_wsiseg.models.place import (
    AHEAD,
    BANDS,
    Answer,
    HostReplica,
    Place,
    Replica,
    place_for,
)
from napari_wsiseg.models.settling import check_stains, settle_stains, with_stains
from napari_wsiseg.models.stains import StainVectors, estimate_stains
from napari_wsiseg.models.zoo import STAINS, models, weights_ready

__all__ = [
    "AHEAD",
    "BANDS",
    "STAINS",
    "Answer",
    "HostReplica",
    "OutOfMemory",
    "Place",
    "Replica",
    "Segmenter",
    "StainVectors",
    "check_range",
    "check_shape",
    "check_stains",
    "estimate_stains",
    "identity",
    "load_model",
    "models",
    "place_for",
    "predict",
    "settle_stains",
    "stain_model",
    "weights_ready",
    "with_shapes",
    "with_stains",
]
