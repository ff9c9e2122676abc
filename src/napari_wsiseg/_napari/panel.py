"""`PanelModel`: what the user has chosen, and the job that it comes to. No Qt, no napari.

Evented: views listen to `model.events` and emit requests; only the dock changes the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from psygnal import SignalGroupDescriptor

from napari_wsiseg.config import MapDtype, Precision, SegmentationJob, Window
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Polygon, Region, Resolution
from napari_wsiseg.models import models, weights_ready
from napari_wsiseg.spec import ModelSpec

Where = Literal["tissue", "whole", "view", "shapes", "file"]
Stain = Literal["H&E", "H-DAB", "other"]

PLACES: Mapping[Where, str] = {
    "tissue": "Tissue only",
    "whole": "Whole slide, glass too",
    "view": "Current view (try here)",
    "shapes": "Shapes that I drew",
    "file": "Regions from a GeoJSON file",
}
"""What the choices of `PanelModel.where` are called."""

FOR_STAIN: Mapping[Stain, str] = {"H&E": "he-stain", "H-DAB": "hdab-stain", "other": "tissue"}
"""The model that is there for a stain without any download."""


@dataclass
class PanelModel:
    """What the user has chosen.

    Parameters
    ----------
    model
        A name from `models()`, or a model file.
    weights
        A weights file in place of the download; None: what is in the cache.
    trust
        Whether the user agreed to a model file that runs code.
    stain
        The slide's.
    resolution
        None: the model's own.
    where
        What part of the slide is analysed; all but "whole" keep to the tissue.
    regions
        For "shapes" and "file": boxes and outlines in level-0 pixels.
    memory_threshold
        Percent of the free memory that a run may take before it works from disk.
    device, precision, batch_size, window, dtype
        As in `SegmentationJob`.
    stride
        Pixels from one patch to the next; None: as the engine chooses.
    output_folder
        Where results go.
    overwrite
        Replace an earlier result of this slide and model; else it is gone on with, or
        another name is taken.
    """

    model: str = FOR_STAIN["H&E"]
    weights: Path | None = None
    trust: bool = False
    stain: Stain = "H&E"
    resolution: Resolution | None = None
    where: Where = "tissue"
    regions: tuple[Region | Polygon, ...] = ()
    memory_threshold: int = 80
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    stride: int | None = None
    window: Window = "uniform"
    dtype: MapDtype = "uint8"
    output_folder: Path = field(default_factory=lambda: Path.home() / "napari-wsiseg")
    overwrite: bool = False

    events: ClassVar[Any] = SignalGroupDescriptor()

    def job(self, view: Region | None = None) -> SegmentationJob:
        """The job, without slide and output, which the run settles.

        Parameters
        ----------
        view
            For "view": what the window shows, in level-0 pixels.

        Raises
        ------
        JobError
            If something is missing, or out of its range.
        """
        return SegmentationJob(
            model=self.model,
            weights=self.weights,
            trust=self.trust,
            resolution=self.resolution,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            stride_shape=self.stride,
            window=self.window,
            dtype=self.dtype,
            tissue="none" if self.where == "whole" else "auto",
            region=self._region(view),
            memory_threshold=self.memory_threshold,
            on_exists="overwrite" if self.overwrite else "resume",
        )

    def job_for_model(self, **changes: Any) -> SegmentationJob:
        """The job as far as it says which model to load, with these fields changed."""
        names = ("model", "weights", "trust", "device", "precision")
        return SegmentationJob(**{name: getattr(self, name) for name in names} | changes)

    def _region(self, view: Region | None) -> tuple[Region | Polygon, ...] | None:
        if self.where in ("tissue", "whole"):
            return None
        if self.where == "view":
            if view is None or view.is_empty:
                raise JobError("The window shows no part of the slide; move to some of it.")
            return (view,)
        if not self.regions:
            what = (
                "Draw rectangles or polygons in a Shapes layer, and choose it"
                if self.where == "shapes"
                else "Choose a GeoJSON file with regions"
            )
            raise JobError(f"No region is chosen. {what}, or analyse the tissue.")
        return self.regions


def stain_warning(spec: ModelSpec, stain: Stain) -> str:
    """Why a model may not suit a slide of that stain; empty where nothing is known against it."""
    if spec.stain is None or stain in (spec.stain, "other"):
        return ""
    return (
        f"{spec.name} is made for {spec.stain} slides, and this one is given as {stain}: "
        "its classes would mean nothing."
    )


def usual_stain(name: str) -> Stain:
    """The stain of this name; "other" where there is none."""
    return next((stain for stain in FOR_STAIN if stain == name), "other")


def model_to_begin_with(used: str, stain: Stain) -> str:
    """The model used last where it can run at once; else the one for a stain."""
    is_here = used in models() and weights_ready(used)
    return used if is_here else FOR_STAIN[stain]


def resolution_of(number: str, unit: str) -> Resolution | None:
    """What was typed, with one of `UNITS`; None for the model's own.

    Raises
    ------
    JobError
        If the number is none, or out of its range.
    """
    pattern = UNITS[unit]
    if not pattern:
        return None
    if not number.strip():
        raise JobError("Give a number for the resolution, or take the model's own.")
    return Resolution.parse(pattern.format(number.strip().replace(",", ".")))


UNITS: Mapping[str, str] = {
    "The model's own": "",
    "µm per pixel": "{} mpp",
    "objective (x)": "{}x",
    "level of the file": "level {}",
    "scale (1 = full size)": "baseline {}",
}
"""How a resolution may be given, with how the engine writes it."""


def spec_of(model: str) -> ModelSpec | None:
    """The spec of a model known by name; None for a model file."""
    return models().get(model)
