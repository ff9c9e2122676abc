"""Fills label pyramids with what is exported, in one pass over level 0; knows no format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region

if TYPE_CHECKING:
    from napari_wsiseg.export.request import ExportRequest
    from napari_wsiseg.labels import LabelBlock
    from napari_wsiseg.labels.pyramid import LabelPyramid

NOT_ANALYSED = 255
"""The value of pixels that were not analysed, where that is asked for; no label is as high."""

OUTSIDE = "Outside the analysed tissue"
"""What that value is called."""

# Chunks that are read at once.
_PANEL = 8


def fill(
    request: ExportRequest, pyramids: Mapping[int, LabelPyramid], not_analysed: int | None
) -> Iterator[float]:
    """Write the exported labels; yields what part is done, 0..1, after each strip.

    Parameters
    ----------
    request
        What is exported.
    pyramids
        By layer of the request.
    not_analysed
        What pixels get that were not analysed: not covered, or outside the tissue where
        labels are clipped to it. None: 0, as those without a label.

    Raises
    ------
    ExportError
        If the labels have to be cleaned, and the disk refuses.
    StoreError
        If the map cannot be read.
    """
    size, width = request.labels.size, _PANEL * request.pm.grid.chunk
    for strip in request.labels.strips():
        rows = {layer: np.empty((strip.size.height, size.width), np.uint8) for layer in pyramids}
        for left in range(0, size.width, width):
            columns = slice(left, left + width)
            right = min(left + width, size.width)
            found = request.labels.read(Region.from_bounds(strip.top, left, strip.bottom, right))
            for layer, labels in rows.items():
                part = request.exported(found.labels[layer])
                if not_analysed is not None:
                    part[~_analysed(request, found)] = not_analysed
                labels[:, columns] = part
        for layer, pyramid in pyramids.items():
            pyramid.add(rows[layer])
        yield strip.bottom / size.height
    for pyramid in pyramids.values():
        pyramid.finish()


def _analysed(request: ExportRequest, found: LabelBlock) -> NDArray[np.bool_]:
    block = found.block
    return block.analysed if request.labels.rule.clip_to_tissue else block.coverage
