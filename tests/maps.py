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
    writer.advance(height)
    writer.flush()
    writer.close()
    return writer.map


class GrowingMap:
    """A map that gets its chunk rows when it is told to; a context manager.

    Parameters
    ----------
    probabilities
        (classes, height, width) float32, all that it will hold.
    spec
        The model's.
    chunk
        Side of a chunk and of a patch.
    path
        The result's folder; None: in memory.
    """

    def __init__(
        self,
        probabilities: NDArray[np.float32],
        spec: ModelSpec = SOFTMAX,
        *,
        chunk: int = 16,
        path: Path | None = None,
    ) -> None:
        size = Size(*probabilities.shape[1:])
        patch = Size(chunk, chunk)
        grid = PatchGrid(size, patch, patch, patch, 1, chunk=chunk)
        layout = MapLayout(grid, spec, "uint8", SAME, size, HALF_MICRON, "metadata")
        self._probabilities = probabilities
        self._next = 0
        self._writer = MapWriter.create(
            path, layout, RunInfo({}, {}, {}), Workspace(10**9, Path("/tmp"))
        )
        self._writer.begin(self._writer.unfinished)
        self.pm = self._writer.map
        self.rows: int = grid.chunk_shape[0]

    def grow(self) -> None:
        """One chunk row more, for good."""
        top, chunk = self._next, self.pm.grid.chunk
        band = self._probabilities[:, top : top + chunk]
        self._writer.add(Band(top, 0, band, np.ones(band.shape[1:], bool)))
        self._next = top + chunk
        self._writer.advance(self._next)
        self._writer.flush()

    def __enter__(self) -> GrowingMap:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self.pm.close()
