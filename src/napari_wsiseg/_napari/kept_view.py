"""What stays with a result, and is there when it is opened again: thresholds, hidden classes.

Two small files in the result's folder, the thresholds as a preset; one that cannot be written or
read costs nothing else. No Qt.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from napari_wsiseg.documents import read_bounded
from napari_wsiseg.errors import JobError, StoreError

if TYPE_CHECKING:
    from napari_wsiseg.labels import DecisionRule
    from napari_wsiseg.store import ProbabilityMap

THRESHOLDS = "thresholds.json"
HIDDEN = "hidden-classes.json"
_LARGEST = 10**6

_log = logging.getLogger(__name__)


def kept_rule(pm: ProbabilityMap) -> DecisionRule:
    """The thresholds that were chosen for a result last; the model's own where none were."""
    # Late: napari loads this with its menus, and Zarr with it.
    from napari_wsiseg.labels import MODELS_OWN, load_preset

    if pm.path is None or not (pm.path / THRESHOLDS).is_file():
        return MODELS_OWN
    try:
        return load_preset(pm.path / THRESHOLDS, pm.spec)
    except JobError as error:
        _log.warning("The thresholds of %s are not restored: %s", pm.path, error)
        return MODELS_OWN


def keep_rule(pm: ProbabilityMap, rule: DecisionRule) -> None:
    """Keep the thresholds for the next time; results on read-only drives keep none."""
    from napari_wsiseg.labels import save_preset

    if pm.path is None or not pm.path.is_dir():
        return
    try:
        save_preset(rule, pm.spec, pm.path / THRESHOLDS)
    except JobError as error:
        _log.info("The thresholds of %s are not kept: %s", pm.path, error)


def kept_hidden(pm: ProbabilityMap) -> frozenset[int]:
    """Indices of the classes that were hidden last."""
    if pm.path is None:
        return frozenset()
    try:
        names = json.loads(read_bounded(pm.path / HIDDEN, _LARGEST))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("The hidden classes of %s are not restored: %s", pm.path, error)
        return frozenset()
    hidden = names if isinstance(names, list) else []
    return frozenset(index for index, name in enumerate(pm.classes) if name in hidden)


def keep_hidden(pm: ProbabilityMap, hidden: AbstractSet[int]) -> None:
    """Keep which classes are hidden for the next time, where the result can be written."""
    from napari_wsiseg.store.files import write_durably

    if pm.path is None or not pm.path.is_dir():
        return
    try:
        # By name: where that is a link, the link is replaced and not what it leads to.
        write_durably(
            pm.path / HIDDEN, json.dumps([pm.classes[i] for i in sorted(hidden)]).encode()
        )
    except StoreError as error:
        _log.info("The hidden classes of %s are not kept: %s", pm.path, error)
