"""`ExportRequest`: what every exporter is told; knows no format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX
from napari_wsiseg.labels import LabelMap
from napari_wsiseg.labels.image import rgb
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import ProbabilityMap

Origin = Literal["slide", "bounds"]


def bounds_corner(pm: ProbabilityMap) -> YX:
    """Where QuPath has (0, 0) on a map's slide: of which a part was scanned, at its corner."""
    bounds = pm.slide_bounds
    return YX(0.0, 0.0) if bounds is None else YX(float(bounds.top), float(bounds.left))


@dataclass(frozen=True)
class Step:
    """How far an exporter has come.

    Parameters
    ----------
    stage
        What it is doing: "writing", "checking".
    part
        What part of that is done, 0..1.
    remark
        Something that the user should know, in a sentence; empty in most steps.
    """

    stage: str
    part: float
    remark: str = ""


@dataclass(frozen=True)
class ExportRequest:
    """What is exported, whatever the format.

    Parameters
    ----------
    labels
        The labels, after rule and clean-up, and the map they come from.
    codes
        The labels that are exported, in ascending order; the others are left out.
    names
        What each exported label is called.
    origin
        Where (0, 0) lies: at the slide's corner, or at that of its scanned part.
    with_paths
        Whether the provenance may hold paths.
    """

    labels: LabelMap
    codes: tuple[int, ...]
    names: Mapping[int, str]
    origin: Origin
    with_paths: bool = False

    @property
    def pm(self) -> ProbabilityMap:
        """The map."""
        return self.labels.pm

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return self.pm.spec

    @property
    def layers(self) -> tuple[tuple[int, ...], ...]:
        """The exported labels of each layer of `labels`; a layer may have none."""
        return tuple(
            tuple(code for code in layer if code in self.codes) for layer in self.labels.layers
        )

    @property
    def offset(self) -> YX:
        """Level-0 slide pixels from the slide's corner to the origin."""
        return YX(0.0, 0.0) if self.origin == "slide" else bounds_corner(self.pm)

    def rgb(self, code: int) -> tuple[int, int, int]:
        """The colour of a label, 0..255."""
        return rgb(self.spec.class_colors[code - 1])

    def exported(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels of any shape without those that are left out."""
        table = np.zeros(256, np.uint8)
        table[list(self.codes)] = self.codes
        return table[labels]
