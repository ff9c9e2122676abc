"""From probabilities to labels, block by block.

Pure and lazy. Knows neither areas nor files, nor how a label is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.labels.rule import MODELS_OWN, DecisionRule, by_rank
from napari_wsiseg.spec import ModelSpec

if TYPE_CHECKING:
    import dask.array as da

    from napari_wsiseg.store import ProbabilityMap

# Rows decided at once: what lies between stays in the processor's cache.
_STRIP = 32


def decide(
    values: NDArray[np.generic],
    coverage: NDArray[np.bool_],
    tissue: NDArray[np.bool_] | None,
    spec: ModelSpec,
    rule: DecisionRule,
) -> NDArray[np.uint8]:
    """Labels of a block of a map.

    Parameters
    ----------
    values
        (classes, height, width) as stored: uint8 (probability * 255), float16 or float32.
    coverage
        (height, width) bool: where the model has spoken.
    tissue
        (height, width) bool, or None where no mask was used.
    spec
        The model's.
    rule
        What makes a label.

    Returns
    -------
    (height, width) uint8: 0 for none, i + 1 for class i.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have.
    """
    allowed = _allowed(coverage, tissue, rule)
    limits = _limits(spec, rule, values.dtype)
    labels = np.zeros(coverage.shape, np.uint8)
    if not allowed.any():
        return labels
    for top in range(0, len(labels), _STRIP):
        rows = slice(top, top + _STRIP)
        block = _comparable(values[:, rows])
        passes = _passes(block, limits, spec)
        # Who does not pass is no rival, but for classes that exclude each other.
        rivals = block if by_rank(spec) else block * passes
        best = rivals.max(axis=0)
        free = allowed[rows].copy()
        for index, rival in enumerate(rivals):
            wins = rival == best
            wins &= free
            if not by_rank(spec):
                wins &= passes[index]
            free ^= wins
            wins &= passes[index]
            labels[rows] += wins.view(np.uint8) * np.uint8(index + 1)
    return labels


def decide_masks(
    values: NDArray[np.generic],
    coverage: NDArray[np.bool_],
    tissue: NDArray[np.bool_] | None,
    spec: ModelSpec,
    rule: DecisionRule,
) -> NDArray[np.bool_]:
    """Where each class is, (classes, height, width) bool; parameters as for `decide`.

    Masks of independent classes may overlap; those of exclusive classes are where
    `decide` gives their label. The background's is empty.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have.
    """
    if spec.exclusive:
        labels = decide(values, coverage, tissue, spec, rule)
        codes = np.arange(1, len(spec.classes) + 1, dtype=np.uint8)
        masks: NDArray[np.bool_] = labels == codes[:, None, None]
        return masks
    masks = _passes(_comparable(values), _limits(spec, rule, values.dtype), spec)
    masks &= _allowed(coverage, tissue, rule)
    return masks


def label_pyramid(pm: ProbabilityMap, rule: DecisionRule = MODELS_OWN) -> list[da.Array]:
    """Lazy labels of every level of a map, large to small.

    A coarse level shows the decision on its own averages; areas come from level 0
    (see `measure`).

    Parameters
    ----------
    pm
        The map; it may still grow.
    rule
        What makes a label.

    Returns
    -------
    For each level (height, width) uint8: 0 for none, i + 1 for class i.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have.
    """
    import dask.array as da

    rule.thresholds_for(pm.spec)
    tissue = pm.tissue if rule.clip_to_tissue else None
    pyramid = []
    for number, values in enumerate(pm.levels):
        masks = [pm.coverage[number], *([] if tissue is None else [tissue[number]])]
        labels: da.Array = da.blockwise(
            _labels,
            "yx",
            *(values, "cyx"),
            *(part for mask in masks for part in (mask, "yx")),
            spec=pm.spec,
            rule=rule,
            dtype=np.uint8,
            concatenate=True,
            meta=np.empty((0, 0), np.uint8),
        )
        pyramid.append(labels)
    return pyramid


def _labels(
    values: NDArray[np.generic],
    coverage: NDArray[np.bool_],
    tissue: NDArray[np.bool_] | None = None,
    *,
    spec: ModelSpec,
    rule: DecisionRule,
) -> NDArray[np.uint8]:
    return decide(values, coverage, tissue, spec, rule)


def _allowed(
    coverage: NDArray[np.bool_], tissue: NDArray[np.bool_] | None, rule: DecisionRule
) -> NDArray[np.bool_]:
    return coverage & tissue if rule.clip_to_tissue and tissue is not None else coverage


def _comparable(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)


def _limits(
    spec: ModelSpec, rule: DecisionRule, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """The least stored value of each class that reaches its threshold.

    Defined as stored / 255 >= threshold in float32; for uint8 the same as a comparison of
    whole numbers, which takes a tenth of the time.
    """
    thresholds = np.asarray(rule.thresholds_for(spec), np.float32)
    if dtype != np.uint8:
        return thresholds
    steps = np.arange(256, dtype=np.float32) / np.float32(255)
    return np.searchsorted(steps, thresholds).astype(np.uint8)


def _passes(
    values: NDArray[np.generic], limits: NDArray[np.generic], spec: ModelSpec
) -> NDArray[np.bool_]:
    passes: NDArray[np.bool_] = np.greater_equal(values, limits[:, None, None])
    if spec.background is not None:
        passes[spec.background] = False
    return passes
