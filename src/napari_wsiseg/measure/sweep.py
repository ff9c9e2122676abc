"""Counts predicted against annotated pixels, at all thresholds of a sweep at once.

Knows no figure that is made of the counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region
from napari_wsiseg.labels import DecisionRule, decide, decide_masks
from napari_wsiseg.spec import FULL_DENSITY, ModelSpec

if TYPE_CHECKING:
    from napari_wsiseg.measure.reference import Painted
    from napari_wsiseg.store import ProbabilityMap

# Probability 0.05 to 0.95; optical density 0.05 to 1.00, as stored.
_STEPS = tuple(k / 20 for k in range(1, 20))
_DENSITY_STEPS = tuple(k / 20 / FULL_DENSITY for k in range(1, 21))
_NO_THRESHOLD = DecisionRule(default=0.0)


class SweepCounts:
    """Pixels found so far.

    `labels` goes by reference and predicted label (exclusive classes), `reference` by label,
    `steps` by class, whether the reference is that class, and the number of thresholds
    of its sweep that are reached.
    """

    def __init__(self, spec: ModelSpec, bins: int) -> None:
        codes = len(spec.classes) + 1
        self.labels = np.zeros((codes, codes) if spec.exclusive else (0, 0), np.int64)
        self.reference = np.zeros(codes, np.int64)
        self.steps = np.zeros((codes - 1, 2, bins), np.int64)
        self.area = self.evaluated = 0

    def __iadd__(self, other: SweepCounts) -> SweepCounts:
        self.labels += other.labels
        self.reference += other.reference
        self.steps += other.steps
        self.area += other.area
        self.evaluated += other.evaluated
        return self


class SweepCounter:
    """Counts the pixels of a few chunks."""

    def __init__(self, pm: ProbabilityMap, rule: DecisionRule) -> None:
        self._pm, self._rule = pm, rule
        # The classes but the background.
        self.labelled = [i for i in range(len(pm.spec.classes)) if i != pm.spec.background]
        self.in_use = rule.thresholds_for(pm.spec)
        steps = _DENSITY_STEPS if pm.spec.activation == "stain" else _STEPS
        self.thresholds = [_with(steps, own) for own in self.in_use]
        self.bins = max(map(len, self.thresholds)) + 1

    def __call__(self, region: Region, painted: Painted) -> SweepCounts:
        """What a region of the map adds."""
        spec = self._pm.spec
        counts = SweepCounts(spec, self.bins)
        counts.area = int(np.count_nonzero(painted.area))
        if not counts.area:
            return counts
        block = self._pm.read(region)
        inside = painted.area & block.analysed
        counts.evaluated = int(np.count_nonzero(inside))
        if not counts.evaluated:
            return counts
        labels = painted.labels[:, inside]
        for layer in labels:
            counts.reference += np.bincount(layer, minlength=len(counts.reference))
        # From here on a row of pixels: the rule asks for no neighbours.
        values = block.values[:, None, inside]
        everywhere = np.ones(values.shape[1:], bool)
        if spec.exclusive:
            codes = len(counts.labels)
            predicted = decide(values, everywhere, None, spec, self._rule)[0]
            pairs = labels[0].astype(np.intp) * codes + predicted
            counts.labels += np.bincount(pairs, minlength=codes**2).reshape(codes, codes)
        # Where nothing but its own threshold keeps a class from being the label.
        open_to = decide_masks(values, everywhere, None, spec, _NO_THRESHOLD)[:, 0]
        for number, index in enumerate(self.labelled):
            where = open_to[index]
            is_class = labels[0 if spec.exclusive else number][where] == index + 1
            reached = self._reached(values[index, 0, where], index)
            found = np.bincount(reached + self.bins * is_class, minlength=2 * self.bins)
            counts.steps[index] += found.reshape(2, self.bins)
        return counts

    def _reached(self, values: NDArray[Any], index: int) -> NDArray[np.intp]:
        """How many of a class's thresholds each stored value reaches; compared as by the rule."""
        thresholds = np.asarray(self.thresholds[index], np.float32)
        if values.dtype != np.uint8:
            return np.searchsorted(thresholds, values.astype(np.float32), side="right")
        steps = np.arange(256, dtype=np.float32) / np.float32(255)
        reached: NDArray[np.intp] = np.searchsorted(thresholds, steps, side="right")[values]
        return reached


def _with(steps: Sequence[float], own: float) -> tuple[float, ...]:
    """The steps and the threshold in use, ascending; one that is a step in float32 is that."""
    return tuple(sorted([own, *(step for step in steps if np.float32(step) != np.float32(own))]))
