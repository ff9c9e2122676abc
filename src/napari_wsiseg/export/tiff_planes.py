"""What an OME-TIFF is made of: planes with levels, read region by region; knows no file format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from zarr.storage import LocalStore

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.label_pyramid import NOT_ANALYSED, OUTSIDE, fill
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels.pyramid import LabelPyramid, level_arrays, pyramid_sizes
from napari_wsiseg.spec import FULL_DENSITY

TILE = 512
"""Side of a tile; the coarsest level fits one."""


class Planes(Protocol):
    """Planes of one size and type, each a pyramid.

    Attributes
    ----------
    sizes
        Of the levels.
    dtype
        Of the pixels.
    codes
        The labels that each plane is about.
    mpp
        µm per pixel of level 0, or None.
    leading
        (planes,), or empty where there is one.
    meaning
        What the pixels' values are, in a sentence.
    """

    sizes: list[Size]
    dtype: np.dtype[Any]
    codes: list[tuple[int, ...]]
    mpp: YX | None
    leading: tuple[int, ...]
    meaning: str

    @property
    def count(self) -> int:
        """How many planes there are."""

    def read(self, plane: int, level: int, region: Region) -> NDArray[Any]:
        """(height, width) pixels of a plane, in pixels of the level."""

    @property
    def pixels(self) -> dict[int, int]:
        """How many pixels of level 0 have which label; empty where there are no labels."""

    def check(self, counts: NDArray[np.int64]) -> None:
        """Compare with how many bytes of which value were read, (levels, planes, 256)."""


class Labels:
    """The exported labels, a plane for each layer that has any, in a temporary folder.

    Parameters
    ----------
    request
        What is exported.
    folder
        Empty.
    not_analysed
        The value of pixels that were not analysed, or None.
    """

    def __init__(self, request: ExportRequest, folder: Path, not_analysed: int | None) -> None:
        self._request, self._not_analysed = request, not_analysed
        self.sizes = pyramid_sizes(request.labels.size, TILE)
        self.dtype = np.dtype(np.uint8)
        self.mpp = request.pm.mpp
        store = LocalStore(folder)
        self._pyramids = {
            layer: LabelPyramid(level_arrays(store, f"{layer}", self.sizes, TILE))
            for layer, codes in enumerate(request.layers)
            if codes
        }
        self.codes = [request.layers[layer] for layer in self._pyramids]
        self._planes = list(self._pyramids.values())
        self.leading = _leading(self.count)
        values = [f"{code} = {request.names[code]}" for code in request.codes]
        if not_analysed is not None:
            values.append(f"{NOT_ANALYSED} = {OUTSIDE}")
        made = "labels corrected by hand" if request.labels.corrections else "predicted labels"
        self.meaning = f"Pixels are {made}: 0 = none, {', '.join(values)}."

    @property
    def count(self) -> int:
        """How many planes there are."""
        return len(self._planes)

    def prepare(self) -> Iterator[float]:
        """Fill the folder; yields what part is done, 0..1.

        Raises
        ------
        ExportError, StoreError
            If the labels cannot be read.
        """
        return fill(self._request, self._pyramids, self._not_analysed)

    def read(self, plane: int, level: int, region: Region) -> NDArray[Any]:
        """(height, width) pixels of a plane, in pixels of the level."""
        return np.asarray(self._planes[plane].arrays[level][region.slices])

    @property
    def pixels(self) -> dict[int, int]:
        """How many pixels of level 0 have which label; complete when all is prepared."""
        planes = zip(self.codes, self._planes, strict=True)
        return {code: int(plane.counts[0, code]) for codes, plane in planes for code in codes}

    def check(self, counts: NDArray[np.int64]) -> None:
        """Compare what was read from the folder with what was written there.

        Raises
        ------
        ExportError
            If it is not the same.
        """
        for plane, pyramid in enumerate(self._planes):
            if (counts[:, plane] != pyramid.counts).any():
                raise ExportError(
                    "The labels kept beside the file did not read back as they were written; "
                    "check the disk and export again."
                )


class Probabilities:
    """The probabilities of the exported classes, as the map has them.

    Parameters
    ----------
    request
        What is exported.
    """

    def __init__(self, request: ExportRequest) -> None:
        pm = request.pm
        self._pm = pm
        needed = len(pyramid_sizes(pm.size, TILE))
        self.sizes = list(pm.layout.sizes[:needed])
        self.dtype = np.dtype(np.uint8 if pm.layout.dtype == "uint8" else np.float32)
        self.mpp = pm.mpp
        self.codes: list[tuple[int, ...]] = [(code,) for code in request.codes]
        self.leading = _leading(self.count)
        value = "probabilities"
        if request.spec.activation == "stain":
            value = f"optical densities / {FULL_DENSITY:g}"
        stored = f"{value} * 255" if self.dtype == np.uint8 else value
        self.meaning = f"Pixels are {stored}; 0 too where the slide was not analysed."

    @property
    def count(self) -> int:
        """How many planes there are."""
        return len(self.codes)

    def read(self, plane: int, level: int, region: Region) -> NDArray[Any]:
        """(height, width) pixels of a plane, in pixels of the level."""
        (code,) = self.codes[plane]
        values: NDArray[Any] = self._pm.read(region, level).values[code - 1]
        return values.astype(self.dtype, copy=False)

    @property
    def pixels(self) -> dict[int, int]:
        """Empty: there are no labels."""
        return {}

    def check(self, counts: NDArray[np.int64]) -> None:
        """Nothing to compare with: they were read from the map itself."""


def _leading(planes: int) -> tuple[int, ...]:
    return (planes,) if planes > 1 else ()
