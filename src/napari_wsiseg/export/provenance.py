"""What every export says of itself; knows no format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from napari_wsiseg._version import __version__
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.labels import threshold_scale, threshold_unit
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.store import EXPORT, ProbabilityMap


def provenance(request: ExportRequest) -> dict[str, Any]:
    """How an export came to be, as plain JSON.

    Slide, model and weights, rule, clean-up and corrections by hand, origin, scale and
    versions; how far the result is, and how many patches it lacks. No path, unless that was asked
    for.
    """
    pm, spec, rule = request.pm, request.spec, request.labels.rule
    slide, made = slide_of(pm), pm.provenance
    full = threshold_scale(spec)
    thresholds = rule.thresholds_for(spec)
    values = {
        "notice": RESEARCH_USE,
        # Tells an export from a result, which is never overwritten by one.
        EXPORT: True,
        "program": f"napari-wsiseg {__version__}",
        "slide": {name: slide.get(name) for name in ("stem", "fingerprint")} if slide else None,
        "model": made.get("model", spec.name),
        "mode": spec.activation,
        "thresholds": {
            spec.classes[code - 1]: thresholds[code - 1] * full
            for layer in request.labels.layers
            for code in layer
        },
        "threshold_unit": threshold_unit(spec),
        "clip_to_tissue": rule.clip_to_tissue,
        "cleanup": asdict(request.labels.cleanup),
        # By hand; none: the labels are the model's.
        "corrections": [correction.json() for correction in request.labels.corrections],
        "classes": {name: spec.classes[code - 1] for code, name in request.names.items()},
        "origin": {"at": request.origin, "offset": [*request.offset]},
        "mpp": None if pm.mpp is None else [*pm.mpp],
        "mpp_source": pm.mpp_source,
        "downsample": [*pm.downsample],
        "status": pm.status,
        "finished_chunks": [int(pm.finished.sum()), int(pm.finished.size)],
        # Left uncovered: of what they would have held nothing is known.
        "failed_patches": len(pm.failed_patches),
        "result": made,
    }
    if request.with_paths:
        values["paths"] = {"result": None if pm.path is None else str(pm.path.absolute())}
    told: dict[str, Any] = json.loads(encodable(json.dumps(values, ensure_ascii=False)))
    return told


def slide_of(pm: ProbabilityMap) -> Mapping[str, Any]:
    """What a result says of its slide, "stem" and "fingerprint" among it; may be empty."""
    slide = pm.provenance.get("slide")
    return slide if isinstance(slide, dict) else {}


def encodable(text: str) -> str:
    """The text with "?" for what no file can hold: names of files need not be Unicode."""
    return text.encode("utf-8", "replace").decode()
