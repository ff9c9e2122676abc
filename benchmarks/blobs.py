"""Results with very many objects, on disk as a run leaves them; written band by band."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_wsiseg.geometry import YX, Size
from napari_wsiseg.grid import CHUNK, PatchGrid
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import MapLayout, MapWriter, ProbabilityMap, RunInfo

SPEC = ModelSpec("blobs", ("Tumour", "Stroma", "Immune", "Necrosis", "Other"))
MPP = YX(0.5, 0.5)

# No multiple of a chunk, so that chunks differ.
_PERIOD = 2000
# Of blobs, and of the unrest along their edges; in pixels.
_BLOB, _EDGE = 26.0, 5.0
# How far the classes' shares change over a slide.
_WAVE = 9000.0


def blobs(rows: NDArray[np.intp], width: int) -> NDArray[np.float32]:
    """(5, rows, width) probabilities: at 20000 x 20000 px about 100,000 objects of blob-like shape.

    A periodic texture of smoothed noise, ragged along its edges; which class prevails
    changes slowly over the slide.
    """
    columns = np.arange(width)
    values = _texture().take(rows % _PERIOD, axis=1).take(columns % _PERIOD, axis=2)
    phases = np.arange(len(values), dtype=np.float32)[:, None, None]
    down, across = (axis.astype(np.float32) / np.float32(_WAVE) for axis in (rows, columns))
    values *= 1 + 0.3 * np.sin(down[:, None] + 2 * phases) * np.ones_like(across)
    values *= 1 + 0.3 * np.cos(across + 3 * phases)
    values /= values.sum(axis=0)
    return values


def write_result(path: Path, size: Size) -> ProbabilityMap:
    """Write such a result, with a scale of 0.5 µm per pixel, through the store's writer."""
    patch = Size(CHUNK, CHUNK)
    layout = MapLayout(
        PatchGrid(size, patch, patch, patch), SPEC, "uint8", YX(1.0, 1.0), size, MPP, "metadata"
    )
    workspace = Workspace(4 * 10**9, path.parent)
    writer = MapWriter.create(path, layout, RunInfo({"model": SPEC.name}, {}, {}), workspace)
    writer.begin(writer.unfinished)
    for rows in _bands(size.height):
        covered = np.ones((len(rows), size.width), bool)
        writer.add(Band(int(rows[0]), 0, blobs(rows, size.width), covered))
        writer.advance(int(rows[-1]) + 1)
    writer.close()
    return writer.map


def _bands(height: int) -> Iterator[NDArray[np.intp]]:
    for top in range(0, height, CHUNK):
        yield np.arange(top, min(top + CHUNK, height))


_made: list[NDArray[np.float32]] = []


def _texture() -> NDArray[np.float32]:
    """(5, period, period): likelihoods, not yet summing to 1."""
    if not _made:
        rng = np.random.default_rng(0)
        shape = (len(SPEC.classes), _PERIOD, _PERIOD)
        fields = 0.1 * _smooth(rng.standard_normal(shape, np.float32), _EDGE)
        fields += _smooth(rng.standard_normal(shape, np.float32), _BLOB)
        _made.append(np.exp(1.5 * fields))
    return _made[0]


def _smooth(noise: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    smooth: NDArray[np.float32] = gaussian_filter(noise, (0, sigma, sigma), mode="wrap")
    return smooth / smooth.std()
