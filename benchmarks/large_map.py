"""A covered map of any size, through the project's own writer, as quickly as it writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from napari_wsiseg.geometry import YX, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import MapLayout, MapWriter, ProbabilityMap, RunInfo

_TILE = 1024
_BAND = 64


def large_map(path: Path, size: Size, classes: int = 5) -> ProbabilityMap:
    """Patches of smooth, mostly certain probabilities all over; 40000 x 40000 x 5: 3 GB, 1 min.

    Parameters
    ----------
    path
        The result's folder; a map that is complete there is opened.
    size
        Of level 0; 0.5 µm/px.
    classes
        That exclude each other.
    """
    if path.exists():
        return ProbabilityMap.open(path)
    spec = ModelSpec("benchmark", tuple(f"Class {number + 1}" for number in range(classes)))
    patch = Size(512, 512)
    layout = MapLayout(
        PatchGrid(size, patch, patch, patch, 1),
        spec,
        "uint8",
        YX(1.0, 1.0),
        size,
        YX(0.5, 0.5),
        "metadata",
    )
    info = RunInfo({"model": spec.name}, {}, {})
    writer = MapWriter.create(path, layout, info, Workspace(10**9, Path(tempfile.gettempdir())))
    rows = np.tile(_tile(classes), (1, 1, -(-size.width // _TILE)))[:, :, : size.width]
    coverage = np.ones((_BAND, size.width), bool)
    writer.begin(writer.unfinished)
    for top in range(0, size.height, _BAND):
        height = min(_BAND, size.height - top)
        band = rows[:, top % _TILE : top % _TILE + height]
        writer.add(Band(top, 0, band, coverage[:height]))
        writer.advance(top + height)
    writer.close()
    return writer.map


def _tile(classes: int) -> np.ndarray:
    """(classes, 1024, 1024) probabilities that go on from edge to edge."""
    noise = np.random.default_rng(0).normal(size=(classes, _TILE, _TILE)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 24, 24), mode="wrap")
    weights = np.exp(6 * smooth / smooth.std())
    return weights / weights.sum(axis=0)
