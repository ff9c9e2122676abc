"""What a stored map consists of and how large its parts are; knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.config import MapDtype
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.slides.base import MppSource
from napari_wsiseg.spec import ModelSpec

Json = dict[str, Any]


@dataclass(frozen=True)
class MapLayout:
    """Shape, type and scale of a map.

    Parameters
    ----------
    grid
        Where patches and chunks lie.
    spec
        The model that speaks.
    dtype
        "uint8" stores p * 255 rounded half to even; floats are stored as they are.
    downsample
        Level-0 slide pixels per map pixel.
    slide_size
        Level-0 size of the slide.
    mpp
        µm per map pixel, or None where the slide has no scale.
    mpp_source
        Where the slide's scale came from.
    slide_bounds
        The part of the slide's level 0 that was scanned, or None where that is all of it.
    """

    grid: PatchGrid
    spec: ModelSpec
    dtype: MapDtype
    downsample: YX
    slide_size: Size
    mpp: YX | None = None
    mpp_source: MppSource | None = None
    slide_bounds: Region | None = None

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Size of each level: halved, rounded up, until it fits one chunk."""
        sizes = [self.grid.map_size]
        while max(sizes[-1].height, sizes[-1].width) > self.grid.chunk:
            sizes.append(Size(-(-sizes[-1].height // 2), -(-sizes[-1].width // 2)))
        return tuple(sizes)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.spec.classes)

    def ome(self) -> Json:
        """The OME-Zarr 0.5 attributes of the map's group."""
        largest = 255.0 if self.dtype == "uint8" else 1.0
        window = {"min": 0.0, "max": largest, "start": 0.0, "end": largest}
        channels = [
            {"label": name, "color": color[1:].upper(), "window": window, "active": True}
            for name, color in zip(self.spec.classes, self.spec.class_colors, strict=True)
        ]
        return {
            "version": "0.5",
            "multiscales": [self.multiscale(self.spec.name, "c")],
            "omero": {"channels": channels},
        }

    def multiscale(self, name: str, leading: str = "") -> Json:
        """An entry of `multiscales`, in µm, or in level-0 slide pixels where no scale is known.

        A coarse pixel's centre lies (2^level - 1) / 2 map pixels beyond that of the
        first pixel it averages.
        """
        unit = {} if self.mpp is None else {"unit": "micrometer"}
        axes: list[Json] = [{"name": axis, "type": "channel"} for axis in leading]
        axes += [{"name": axis, "type": "space", **unit} for axis in "yx"]
        ones = [1.0] * len(leading)
        datasets = []
        for level in range(len(self.sizes)):
            factor = 2**level
            pixel = self.mpp or self.downsample
            scale = [*ones, *(length * factor for length in pixel)]
            shift = [*(0.0 for _ in leading), *(length * (factor - 1) / 2 for length in pixel)]
            transforms: list[Json] = [{"type": "scale", "scale": scale}]
            if level:
                transforms.append({"type": "translation", "translation": shift})
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
        return {"name": name, "axes": axes, "datasets": datasets}


@dataclass(frozen=True, eq=False)
class TissueImage:
    """The tissue mask that a run used.

    Parameters
    ----------
    mask
        (height, width) bool over the whole slide, at any resolution.
    parameters
        How it was made, as plain JSON values.
    sha256
        Hex digest of the mask.
    """

    mask: NDArray[np.bool_]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
