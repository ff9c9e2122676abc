"""`SegmentationJob`: everything a run needs, frozen; knows no stage.

The same YAML file runs in the window, on the command line and on a cluster.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from napari_wsiseg.documents import UnreadableError, from_home, read_yaml
from napari_wsiseg.errors import JobError, shown
from napari_wsiseg.geometry import Polygon, Region
from napari_wsiseg.spec import ResolutionText, Shape, as_shape
from napari_wsiseg.validation import check_name, raises

Window = Literal["uniform", "gaussian"]
MapDtype = Literal["uint8", "float16", "float32"]
OnExists = Literal["resume", "overwrite", "error"]
Stains = Literal["standard", "slide"]
Precision = Literal["auto", "exact", "fp32", "bf16", "fp16"]
Backend = Literal["auto", "torch", "openvino"]
OptionalShape = Annotated[Shape | None, BeforeValidator(as_shape)]


def _as_place(path: Path) -> Path:
    """A path as files take it; ~ is the user's own folder, as for a slide."""
    if "\0" in str(path):
        raise ValueError(f"{shown(str(path))} is no path; leave out the zero byte")
    return from_home(path)


def _as_model(name: str) -> str:
    """A model's name, or the path of its file."""
    return str(_as_place(Path(name))) if name.startswith("~") else name


Place = Annotated[Path, AfterValidator(_as_place)]

_BYTE_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_bytes(value: Any) -> Any:
    """Read "2 GB", "300 MB" or "1.5 GiB" as a number of bytes.

    Raises
    ------
    ValueError
        If the text is none of these.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]*)?)\s*([KMGT]?)(I?)B?\s*", value.upper())
    if match is None:
        raise ValueError(f"{shown(value)} is not a size in bytes; write it like '2 GB'")
    number, unit, binary = match.groups()
    exponent = list(_BYTE_UNITS).index(unit)
    return int(float(number) * (1024**exponent if binary else _BYTE_UNITS[unit]))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@raises(JobError, "TissueOptions")
class TissueOptions(_Frozen):
    """How tissue is told from glass.

    Mean optical density against the glass level on a reading near `mpp`, Otsu's
    threshold clamped to `min_density`..`max_density`, then small objects and holes
    are removed and what is left is dilated.

    Parameters
    ----------
    mpp
        µm per pixel at which the slide is looked at.
    min_density, max_density
        Limits of the threshold, in mean optical density over the glass level.
    min_object_um2, fill_hole_um2
        Smaller objects are dropped, smaller holes are filled, in µm².
    dilate_um
        What is left grows by this many µm.
    leave_out_ink
        Whether pen marks and black edges are left out. Turn it off for stains that are
        blue or green, such as trichrome and Alcian blue.
    """

    mpp: float = Field(8.0, gt=0)
    min_density: float = Field(0.03, ge=0)
    max_density: float = Field(0.06, ge=0)
    min_object_um2: float = Field(4_000.0, ge=0)
    fill_hole_um2: float = Field(20_000.0, ge=0)
    dilate_um: float = Field(16.0, ge=0)
    leave_out_ink: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> TissueOptions:
        if self.min_density > self.max_density:
            raise ValueError(
                f"min_density {self.min_density} is above max_density {self.max_density}"
            )
        return self


def _as_regions(value: Any) -> Any:
    """One region or polygon stands for a tuple of one."""
    if value is None:
        return None
    if isinstance(value, Region) or (isinstance(value, dict) and "top" in value):
        return (value,)
    first = value[0] if isinstance(value, (list, tuple)) and value else None
    is_vertex = (
        isinstance(first, (list, tuple))
        and len(first) == 2
        and not isinstance(first[0], (list, tuple))
    )
    return (value,) if is_vertex else value


def _as_region(value: Any) -> Any:
    """Let a box be written flat: top, left, height and width."""
    if isinstance(value, dict) and set(value) == {"top", "left", "height", "width"}:
        size = {name: value[name] for name in ("height", "width")}
        return {"top": value["top"], "left": value["left"], "size": size}
    return value


def _as_tissue(value: Any) -> Any:
    """A path called as one of the words is that word, as it would be in a file."""
    return str(value) if isinstance(value, Path) and str(value) in ("auto", "none") else value


@raises(JobError, "A job")
class SegmentationJob(_Frozen):
    """Everything a run needs. Frozen; the same file runs everywhere.

    Parameters
    ----------
    slide
        The slide's file or folder. An open `Slide` may be passed to `segment` beside the job.
    model, weights
        A name from `models()` or a model file; a weights file in place of the download.
    stains
        For the stain models: "standard" vectors over white (255), or the "slide"'s own glass
        level and vectors. `tissue` always takes the slide's glass level.
    alias
        What the slide is called in the result, its name and messages, in place of its file's
        name, which may be an accession number; None: by that.
    output
        The result's folder (OME-Zarr); None keeps it in memory.
    mpp
        µm per pixel of level 0, where the file does not say (one number, or y and x).
    resolution
        The resolution to run at; None: the model's.
    patch_input_shape, patch_output_shape, stride_shape
        In pixels at that resolution, taken as given; None: a wider field where the
        model has a `shift_period`, else the model's own.
    batch_size
        Patches a predict call; None: chosen by device and memory.
    device, precision
        "auto", or a torch device; "auto", "exact" (float32, to 2e-5 as trained), "fp32"
        (float32, regrouped), "bf16" or "fp16".
    backend
        What computes a UNet: "auto", "torch", or "openvino" on the CPU. "auto" is OpenVINO where
        it is installed, on an x86-64 processor.
    window
        Weight of a patch's pixels where patches overlap.
    tissue
        "auto", "none", a mask file, a folder of mask files by slide stem, or `TissueOptions`.
    min_mask_ratio
        A patch is kept when more than this part of its input is tissue.
    region
        `Region`s or polygons ((y, x), ...) in level-0 pixels; None: the whole slide.
    dtype
        How probabilities are stored.
    save_resolution
        The resolution to store at: a whole factor coarser than the run's; None: the run's.
    memory_threshold, memory_limit
        Percent of the memory that is available at the start; bytes ("2 GB") as a cap beside it.
    strict
        Stop at the first patch that cannot be read or predicted.
    trust
        Allow model files that run code when loaded (TorchScript).
    on_exists
        What to do when the output is there.

    Raises
    ------
    JobError
        For a value out of its range.
    """

    slide: Place | None = None
    model: Annotated[str, AfterValidator(_as_model)] = "he-stain"
    weights: Place | None = None
    stains: Stains = "standard"
    alias: Annotated[str, AfterValidator(check_name)] | None = None
    output: Place | None = None
    mpp: (
        Annotated[float, Field(gt=0)]
        | tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
        | None
    ) = None
    resolution: ResolutionText | None = None
    patch_input_shape: OptionalShape = None
    patch_output_shape: OptionalShape = None
    stride_shape: OptionalShape = None
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    device: str = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    window: Window = "uniform"
    tissue: Annotated[
        TissueOptions | Literal["auto", "none"] | Place, BeforeValidator(_as_tissue)
    ] = "auto"
    min_mask_ratio: float = Field(0.0, ge=0, lt=1)
    region: Annotated[
        tuple[Annotated[Region | Polygon, BeforeValidator(_as_region)], ...] | None,
        BeforeValidator(_as_regions),
    ] = None
    dtype: MapDtype = "uint8"
    save_resolution: ResolutionText | None = None
    memory_threshold: float = Field(80, gt=0, le=100)
    memory_limit: Annotated[int, Field(gt=0), BeforeValidator(parse_bytes)] | None = None
    strict: bool = False
    trust: bool = False
    on_exists: OnExists = "resume"

    @classmethod
    def from_yaml(cls, path: Path | str) -> SegmentationJob:
        """Read a job from a YAML file.

        Raises
        ------
        JobError
            If the file cannot be read, or holds what is no job.
        """
        try:
            values = read_yaml(Path(path))
        except (OSError, UnreadableError) as error:
            reason = getattr(error, "strerror", None) or error
            raise JobError(f"The job file {path} cannot be read: {reason}.") from error
        try:
            return cls(**values)
        except JobError as error:
            raise JobError(f"The job file {path} holds no job: {error}") from error

    def to_yaml(self, path: Path | str) -> None:
        """Write the job as a YAML file that `from_yaml` reads.

        Raises
        ------
        JobError
            If the file cannot be written.
        """
        text = yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise JobError(
                f"The job file {path} cannot be written: {error.strerror}; choose another place."
            ) from error
