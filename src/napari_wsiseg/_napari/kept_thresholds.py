"""Thresholds that stay with a result: the window restores them when it is opened again. No Qt.

A preset in the result's folder; one that cannot be written or read costs nothing else.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_wsiseg.errors import JobError

if TYPE_CHECKING:
    from napari_wsiseg.labels import DecisionRule
    from napari_wsiseg.store import ProbabilityMap

FILE = "thresholds.json"

_log = logging.getLogger(__name__)


def kept_rule(pm: ProbabilityMap) -> DecisionRule:
    """The thresholds that were chosen for a result last; the model's own where none were."""
    # Late: napari loads this with its menus, and Zarr with it.
    from napari_wsiseg.labels import MODELS_OWN, load_preset

    if pm.path is None or not (pm.path / FILE).is_file():
        return MODELS_OWN
    try:
        return load_preset(pm.path / FILE, pm.spec)
    except JobError as error:
        _log.warning("The thresholds of %s are not restored: %s", pm.path, error)
        return MODELS_OWN


def keep_rule(pm: ProbabilityMap, rule: DecisionRule) -> None:
    """Keep the thresholds for the next time; results on read-only drives keep none."""
    from napari_wsiseg.labels import save_preset

    if pm.path is None or not pm.path.is_dir():
        return
    try:
        save_preset(rule, pm.spec, pm.path / FILE)
    except JobError as error:
        _log.info("The thresholds of %s are not kept: %s", pm.path, error)
