"""What exported OME-Zarr says of itself: OME-Zarr 0.5's attributes and ours; knows no file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.export.label_pyramid import NOT_ANALYSED, OUTSIDE
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.labels.image import LabelEntry, label_image
from napari_wsiseg.store import OURS
from napari_wsiseg.store.layout import Json

COVERAGE = "coverage"
"""Where a copy keeps which pixels the model has spoken of, as a result does."""

_OUTSIDE_COLOR = (128, 128, 128, 128)


def root_attributes(request: ExportRequest) -> Json:
    """Of a copy's root: an image of the coverage."""
    window = {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
    channel = {"label": "Coverage", "color": "FFFFFF", "window": window, "active": True}
    ome = {
        "version": "0.5",
        "multiscales": [_multiscale(request, COVERAGE, "any", f"{COVERAGE}/")],
        "omero": {"channels": [channel]},
    }
    return {"ome": ome, OURS: provenance(request)}


def label_attributes(
    request: ExportRequest,
    name: str,
    codes: Sequence[int],
    counts: NDArray[np.int64],
    not_analysed: int | None,
) -> Json:
    """Of a label image.

    Parameters
    ----------
    request
        What is exported.
    name
        The image's.
    codes
        The labels that it may hold.
    counts
        (256,) The pixels of level 0 that have which value.
    not_analysed
        The value of pixels that were not analysed, or None.
    """
    entries = [
        LabelEntry(code, request.names[code], (*request.rgb(code), 255), int(counts[code]))
        for code in codes
    ]
    if not_analysed is not None:
        pixels = int(counts[NOT_ANALYSED])
        entries.append(LabelEntry(NOT_ANALYSED, OUTSIDE, _OUTSIDE_COLOR, pixels))
    ome = label_image(_multiscale(request, name, "mode"), entries, request.pm.mpp)
    return {"ome": ome, OURS: provenance(request)}


def _multiscale(request: ExportRequest, name: str, kind: str, prefix: str = "") -> Json:
    """The map's entry of `multiscales`, moved to the origin.

    From the corner of the scanned part, the slide's corner lies at negative coordinates.
    """
    layout = request.pm.layout
    pixel = layout.mpp or layout.downsample
    origin = [
        offset / side * unit
        for offset, side, unit in zip(request.offset, layout.downsample, pixel, strict=True)
    ]
    entry = layout.multiscale(name) | {"type": kind}
    for dataset in entry["datasets"]:
        dataset["path"] = f"{prefix}{dataset['path']}"
        scale, *moved = dataset["coordinateTransformations"]
        shift = moved[0]["translation"] if moved else [0.0, 0.0]
        place = [a - b for a, b in zip(shift, origin, strict=True)]
        moved = [{"type": "translation", "translation": place}] if any(place) else []
        dataset["coordinateTransformations"] = [scale, *moved]
    return entry
