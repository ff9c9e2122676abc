"""The tissue mask as an OME-Zarr label image at the map's levels.

Knows nothing of how the mask was made.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import Indices
from napari_wsiseg.store.arrays import ZarrArray
from napari_wsiseg.store.chunks import encoded
from napari_wsiseg.store.layout import Json, MapLayout, TissueImage
from napari_wsiseg.store.metadata import OURS

_COLOR = [0, 158, 115, 96]


def tissue_attributes(layout: MapLayout, tissue: TissueImage) -> Json:
    """Attributes of the label image's group: OME-Zarr 0.5's and ours."""
    ome = {
        "version": "0.5",
        "multiscales": [layout.multiscale("tissue")],
        "image-label": {
            "version": "0.5",
            "colors": [{"label-value": 1, "rgba": _COLOR}],
            "properties": [{"label-value": 1, "name": "Tissue"}],
            "source": {"image": "../../"},
        },
    }
    return {
        "ome": ome,
        OURS: {"parameters": dict(tissue.parameters), "sha256": tissue.sha256},
    }


def write_tissue(
    arrays: tuple[ZarrArray, ...],
    layout: MapLayout,
    mask: NDArray[np.bool_],
    put: Callable[[str, bytes], None],
) -> None:
    """Fill the levels, chunk by chunk: each pixel is the mask's where its centre falls.

    Parameters
    ----------
    arrays
        The label image's levels, empty.
    layout
        The map's.
    mask
        (height, width) bool over the whole slide.
    put
        Takes a chunk's key and bytes.
    """
    canvas = layout.grid.canvas
    full = encoded(np.ones(arrays[0].chunks, np.uint8), arrays[0].chunks)
    for level, array in enumerate(arrays):
        pixel = layout.grid.scale * 2**level
        size = Size(*array.shape)
        rows = _nearest(size.height, pixel, canvas.height, mask.shape[0])
        columns = _nearest(size.width, pixel, canvas.width, mask.shape[1])
        side = array.chunks[-1]
        for row, column in np.ndindex(-(-size.height // side), -(-size.width // side)):
            y = rows[row * side : (row + 1) * side]
            x = columns[column * side : (column + 1) * side]
            block = mask[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
            key = f"{array.path}/c/{row}/{column}"
            if block.all() and len(y) == len(x) == side:
                put(key, full)
            elif block.any():
                pixels = block.view(np.uint8).take(x - x[0], axis=1).take(y - y[0], axis=0)
                put(key, encoded(pixels, array.chunks))


def _nearest(length: int, pixel: int, canvas: int, mask_length: int) -> Indices:
    """The mask's index under the centre of each pixel, whose side is `pixel` canvas pixels."""
    centres = (np.arange(length) + 0.5) * pixel
    indices = (centres * (mask_length / canvas)).astype(np.intp)
    return np.minimum(indices, mask_length - 1)
