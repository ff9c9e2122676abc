"""Small maps with any content, made by the store's own writer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import MapLayout, MapWriter, ProbabilityMap, RunInfo, TissueImage

SOFTMAX = ModelSpec("three", ("Tumour", "Stroma", "Other"))
SIGMOID = ModelSpec("each", ("Nuclei", "Glands"), activation="sigmoid")
STAIN = ModelSpec(
    "stains",
    ("Hematoxylin", "DAB"),
    activation="stain",
    thresholds={"Hematoxylin": 0.05, "DAB": 0.125},
)


HALF_MICRON = YX(0.5, 0.5)
SAME = YX(1.0, 1.0)


def map_of(
    probabilities: NDArray[Any],
    spec: ModelSpec,
    *,
    coverage: NDArray[np.bool_] | None = None,
    tissue: NDArray[np.bool_] | None = None,
    mpp: YX | None = HALF_MICRON,
    chunk: int = 16,
    dtype: str = "uint8",
    downsample: YX = SAME,
    provenance: Mapping[str, Any] | None = None,
    path: Path | None = None,
) -> ProbabilityMap:
    """A complete map; patches are kept where their chunk is covered."""
    _, height, width = probabilities.shape
    covered = np.ones((height, width), bool) if coverage is None else coverage
    rows, columns = -(-height // chunk), -(-width // chunk)
    keep = np.zeros((rows, columns), bool)
    for row, column in np.ndindex(rows, columns):
        keep[row, column] = covered[
            row * chunk : (row + 1) * chunk, column * chunk : (column + 1) * chunk
        ].any()
    patch = Size(chunk, chunk)
    grid = PatchGrid(Size(height, width), patch, patch, patch, 1, keep=keep, chunk=chunk)
    size = Size(round(height * downsample.y), round(width * downsample.x))
    source = None if mpp is None else "metadata"
    layout = MapLayout(grid, spec, dtype, downsample, size, mpp, source)
    image = None if tissue is None else TissueImage(tissue)
    info = RunInfo({"model": spec.name}, {}, provenance or {})
    writer = MapWriter.create(path, layout, info, Workspace(10**9, Path("/tmp")), tissue=image)
    writer.begin(writer.unfinished)
    writer.add(Band(0, 0, (probabilities * covered).astype(np.float32), covered))
    writer.flush()
    writer.close()
    return writer.map
