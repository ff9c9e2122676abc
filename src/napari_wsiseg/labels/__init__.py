"""From probabilities to labels: the rule, the labels of every level, the clean-up."""

from __future__ import annotations

from napari_wsiseg.labels.cleanup import Cleanup
from napari_wsiseg.labels.correcting import (
    correct,
    correct_steps,
    corrections,
    discard_corrections,
    has_corrections,
    labels_to_correct,
)
from napari_wsiseg.labels.decide import decide, decide_masks, label_pyramid
from napari_wsiseg.labels.label_map import LabelBlock, LabelMap
from napari_wsiseg.labels.preset import load_preset, save_preset
from napari_wsiseg.labels.record import Correction
from napari_wsiseg.labels.rule import (
    MODELS_OWN,
    DecisionRule,
    label_of,
    threshold_scale,
    threshold_unit,
)

__all__ = [
    "MODELS_OWN",
    "Cleanup",
    "Correction",
    "DecisionRule",
    "LabelBlock",
    "LabelMap",
    "correct",
    "correct_steps",
    "corrections",
    "decide",
    "decide_masks",
    "discard_corrections",
    "has_corrections",
    "label_of",
    "label_pyramid",
    "labels_to_correct",
    "load_preset",
    "save_preset",
    "threshold_scale",
    "threshold_unit",
]
