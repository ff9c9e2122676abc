"""What a result's root group says of it, written and read back with suspicion.

Knows the attributes' names and no pixel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from napari_wsiseg.config import MapDtype
from napari_wsiseg.documents import LARGEST_JSON, read_bounded
from napari_wsiseg.errors import StoreError, WsisegError, reason
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.grid import MOST_PATCHES, PatchGrid
from napari_wsiseg.slides.base import MppSource
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store.layout import Json, MapLayout
from napari_wsiseg.store.state import ANEW
from napari_wsiseg.validation import sentence

FORMAT = 1
"""Version of what lies beside the OME-Zarr; raised when old readers would misread it."""

ROOT = "zarr.json"
"""The file in a result's folder that holds it."""

OURS = "napari_wsiseg"
"""The attribute that holds our metadata."""

EXPORT = "export"
"""What it holds in an exported folder, and never in a result."""

# Bounds for what a file may claim before memory is set aside for it.
_Pixels = Annotated[int, Field(ge=1, le=2**31)]
_Edge = Annotated[int, Field(ge=0, le=2**31)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Pair = tuple[_Pixels, _Pixels]
_SPEC = TypeAdapter(ModelSpec)


@dataclass(frozen=True)
class RunInfo:
    """What a result says of the run that made it; plain JSON values by name.

    Parameters
    ----------
    identity
        The resolved values that change numbers: results with the same can be continued.
    job
        What was asked for.
    provenance
        Versions, slide, weights, device, times.
    """

    identity: Mapping[str, Any]
    job: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the identity, as hex."""
        return hashlib.sha256(_canonical(self.identity).encode()).hexdigest()

    def differences(self, identity: Mapping[str, Any]) -> list[str]:
        """Names of the values in which another identity differs."""
        mine, theirs = _texts(self.identity), _texts(identity)
        return sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: _canonical(value) for name, value in values.items()}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _GridDocument(_Strict):
    canvas: _Pair
    patch_input: _Pair
    patch_output: _Pair
    stride: _Pair
    scale: _Pixels
    chunk: Annotated[int, Field(ge=2, le=2**14)]

    @classmethod
    def of(cls, grid: PatchGrid) -> Self:
        sizes = {
            name: (getattr(grid, name).height, getattr(grid, name).width)
            for name in ("canvas", "patch_input", "patch_output", "stride")
        }
        return cls(**sizes, scale=grid.scale, chunk=grid.chunk)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        rows, columns = (-(-a // b) for a, b in zip(self.canvas, self.stride, strict=True))
        if rows * columns > MOST_PATCHES:
            raise ValueError(f"a grid of at most {MOST_PATCHES} patches, not {rows} x {columns}")
        return self

    def grid(self, keep: NDArray[np.bool_]) -> PatchGrid:
        return PatchGrid(
            canvas=Size(*self.canvas),
            patch_input=Size(*self.patch_input),
            patch_output=Size(*self.patch_output),
            stride=Size(*self.stride),
            scale=self.scale,
            keep=keep,
            chunk=self.chunk,
        )


class _Document(_Strict):
    """Our attributes in the root group."""

    format: Annotated[int, Field(ge=1)]
    identity: str
    resolved: Json
    job: Json
    provenance: Json
    grid: _GridDocument
    spec: Json
    dtype: MapDtype
    downsample: tuple[_Positive, _Positive]
    slide_size: _Pair
    # top, left, height, width; results from before it was kept have none
    slide_bounds: tuple[_Edge, _Edge, _Pixels, _Pixels] | None = None
    mpp: tuple[_Positive, _Positive] | None
    mpp_source: MppSource | None
    has_tissue: bool


def attributes(layout: MapLayout, info: RunInfo, *, has_tissue: bool) -> Json:
    """Attributes of the root group: OME-Zarr 0.5's and ours."""
    ours = _Document(
        format=FORMAT,
        identity=info.digest,
        resolved=dict(info.identity),
        job=dict(info.job),
        provenance=dict(info.provenance),
        grid=_GridDocument.of(layout.grid),
        spec=_SPEC.dump_python(layout.spec, mode="json"),
        dtype=layout.dtype,
        downsample=layout.downsample,
        slide_size=(layout.slide_size.height, layout.slide_size.width),
        slide_bounds=_numbers(layout.slide_bounds),
        mpp=layout.mpp,
        mpp_source=layout.mpp_source,
        has_tissue=has_tissue,
    )
    return {"ome": layout.ome(), OURS: ours.model_dump(mode="json")}


@dataclass(frozen=True)
class Metadata:
    """What the root group's `zarr.json` says, checked; the kept patches are elsewhere.

    Parameters
    ----------
    info
        What the result says of its run.
    has_tissue
        Whether a tissue mask is stored.
    """

    info: RunInfo
    has_tissue: bool
    _document: _Document

    @property
    def format(self) -> int:
        """The version of the result's format."""
        return self._document.format

    def layout(self, keep: NDArray[np.bool_]) -> MapLayout:
        """The map's layout, given the (rows, columns) bool mask of kept patches.

        Raises
        ------
        WsisegError
            If grid, model and mask contradict each other.
        """
        document = self._document
        return MapLayout(
            grid=document.grid.grid(keep),
            spec=_SPEC.validate_python(document.spec),
            dtype=document.dtype,
            downsample=YX(*document.downsample),
            slide_size=Size(*document.slide_size),
            slide_bounds=_region(document.slide_bounds),
            mpp=None if document.mpp is None else YX(*document.mpp),
            mpp_source=document.mpp_source,
        )


def _numbers(region: Region | None) -> tuple[int, int, int, int] | None:
    if region is None:
        return None
    return region.top, region.left, region.size.height, region.size.width


def _region(numbers: tuple[int, int, int, int] | None) -> Region | None:
    if numbers is None:
        return None
    top, left, height, width = numbers
    return Region(top, left, Size(height, width))


def is_result(folder: Path) -> bool:
    """Whether a folder holds a result of this package, of any format version."""
    return "format" in _our_attributes(folder)


def is_export(folder: Path) -> bool:
    """Whether a folder holds something that this package made of a result."""
    return EXPORT in _our_attributes(folder)


def _our_attributes(folder: Path) -> Json:
    try:
        ours = json.loads(read_bounded(folder / ROOT, LARGEST_JSON))["attributes"][OURS]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return ours if isinstance(ours, dict) else {}


def read_metadata(folder: Path) -> Metadata:
    """What the result in `folder` says of itself.

    Raises
    ------
    StoreError
        If there is none, if it is another program's, of a newer format or damaged.
    """
    path = folder / ROOT
    if not folder.exists():
        raise StoreError(f"There is no result at {folder}; check the path.")
    if not is_result(folder):
        raise StoreError(
            f"{folder} is no result of napari-wsiseg: its zarr.json is missing, damaged or "
            "another program's; open one that a run wrote, or choose another output."
        )
    ours = json.loads(read_bounded(path, LARGEST_JSON))["attributes"][OURS]
    version = ours.get("format") if isinstance(ours, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise StoreError(
            f"{folder} is in format {version}, and this version reads up to {FORMAT}; "
            "update napari-wsiseg."
        )
    try:
        document = _Document.model_validate(ours)
        info = RunInfo(document.resolved, document.job, document.provenance)
        _SPEC.validate_python(document.spec)
    except ValidationError as error:
        why = sentence(error, OURS).rstrip(".")
        raise StoreError(f"{path} is damaged ({why}); {ANEW}.") from error
    except WsisegError as error:
        raise StoreError(f"{path} is damaged ({reason(error)}); {ANEW}.") from error
    return Metadata(info, document.has_tissue, document)
