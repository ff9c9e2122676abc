"""From probabilities to labels: the rule, the labels of every level, the clean-up."""

from __future__ import annotations

from napari_wsiseg.labels.cleanup import Cleanup
from napari_wsiseg.labels.decide import decide, decide_masks, label_pyramid
from napari_wsiseg.labels.label_map import LabelBlock, LabelMap
from napari_wsiseg.labels.preset import load_preset, save_preset
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
    "DecisionRule",
    "LabelBlock",
    "LabelMap",
    "decide",
    "decide_masks",
    "label_of",
    "label_pyramid",
    "load_preset",
    "save_preset",
    "threshold_scale",
    "threshold_unit",
]
