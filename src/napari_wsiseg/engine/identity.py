"""What makes two runs the same run, and what a result says of its making."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.models import Segmenter, identity
from napari_wsiseg.notice import RESEARCH_USE

_PACKAGES = ("napari-wsiseg", "numpy", "torch", "zarr", "tifffile", "openslide-python")
_RUNTIMES = ("openvino", "onnxruntime")


def run_values(plan: RunPlan, segmenter: Segmenter) -> dict[str, object]:
    """The settled values that change numbers; plain JSON. Equal values: the same run.

    Not among them: region, batch size, device, memory and paths.
    """
    grid = plan.grid
    return {
        "slide": plan.info.fingerprint,
        "mpp": None if plan.info.mpp is None else list(plan.info.mpp),
        "model": identity(segmenter),
        "downsample": list(plan.downsample),
        "patch_input": [grid.patch_input.height, grid.patch_input.width],
        "patch_output": [grid.patch_output.height, grid.patch_output.width],
        "stride": [grid.stride.height, grid.stride.width],
        "scale": grid.scale,
        "kept patches": hashlib.sha256(grid.keep.tobytes()).hexdigest(),
        "tissue": plan.tissue_sha256,
        "window": plan.job.window,
        "dtype": plan.job.dtype,
    }


def public_job(job: SegmentationJob) -> dict[str, object]:
    """The job without a path: files go by their names, folders, slide and output by none."""
    values = job.model_dump(mode="json", exclude={"output", "slide"})
    if job.weights is not None:
        values["weights"] = job.weights.name
    if isinstance(job.tissue, Path):
        # Masks are called as their slides are.
        file = job.tissue.name if job.alias is None else "a file"
        values["tissue"] = "a folder" if job.tissue.is_dir() else file
    values["model"] = Path(job.model).name
    return values


def provenance(plan: RunPlan, segmenter: Segmenter) -> dict[str, object]:
    """How the result came to be: slide, model, device, versions; no path, no slide property."""
    info = plan.info
    return {
        "notice": RESEARCH_USE,
        "slide": {
            "stem": info.stem,
            "fingerprint": info.fingerprint,
            "height": info.size.height,
            "width": info.size.width,
            "mpp": None if info.mpp is None else list(info.mpp),
            "mpp_source": info.mpp_source,
            "objective_power": info.objective_power,
            "format": info.vendor,
        },
        "resolution": str(plan.resolution),
        "model": identity(segmenter),
        "license": plan.spec.license,
        "device": str(getattr(segmenter, "device", "unknown")),
        "batch_size": plan.batch_size,
        "tissue": None if plan.tissue is None else plan.tissue.parameters,
        "versions": {name: _version(name) for name in (*_PACKAGES, *_runtime(segmenter))},
        "python": platform.python_version(),
        "system": platform.system(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _runtime(segmenter: Segmenter) -> tuple[str, ...]:
    """The package that computed in torch's place."""
    backend = getattr(segmenter, "backend", None)
    return (backend,) if backend in _RUNTIMES else ()


def _version(package: str) -> str:
    """An unpacked or bundled copy has no metadata; that must not cost a run."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
