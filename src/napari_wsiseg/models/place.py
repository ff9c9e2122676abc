"""Where a run's model computes and its answers are merged: on the host, unless GPUs do both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.config import MapDtype
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band
from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.models.inference import predict
from napari_wsiseg.spec import ModelSpec

AHEAD = 2
"""Batches that a GPU has to do while an earlier one is merged: enough never to wait."""

BANDS = 3
"""Finished bands from a GPU on the host: one written, one that waits for it, one on its way."""

_BITS_OF_ONE = np.float32(1).view(np.uint32)


class Answer(Protocol):
    """What a model says of a batch, which may still be under way."""

    shape: tuple[int, ...]

    def ranges(self) -> list[tuple[float, float]]:
        """The least and the greatest value for each patch, NaN where there is one; waits.

        Where none is below 0, 0 may stand for the least.
        """

    def values(self) -> Any:
        """(N, C, h, w) float32 as the model gave it, where the run's canvas is."""


class Replica(Protocol):
    """One copy of the model."""

    spec: ModelSpec

    def ask(self, pixels: NDArray[np.uint8]) -> Answer:
        """Begin to predict (N, H, W, 3) patches, which stay as they are until the answer is.

        Raises
        ------
        OutOfMemory, InferenceError, ModelError
            As `predict` does.
        """


class Place(Protocol):
    """What a run needs of the machine that it computes on.

    Attributes
    ----------
    replicas
        Copies of the model; batches are dealt to them in turn.
    ahead
        Batches that are under way while an earlier one is merged.
    """

    replicas: Sequence[Replica]
    ahead: int

    @property
    def canvas(self) -> Any:
        """Where sums are held; see `merge.Canvas`."""

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array for pixels on their way to the model."""

    def to_host(self, bands: Iterator[Band]) -> Iterator[Band]:
        """The same pixels for the map's writer, in the same order."""


def place_for(
    segmenter: Segmenter, gpus: Sequence[str], workspace: Workspace, scale: int, dtype: MapDtype
) -> Place:
    """These GPUs; the host where there are none.

    Parameters
    ----------
    segmenter
        The model.
    gpus
        Where it computes and its answers are merged, as `gpus_of` names them.
    workspace
        Gives the host's canvas.
    scale
        Canvas pixels per stored pixel, along each axis.
    dtype
        How probabilities are stored.
    """
    if not gpus:
        return HostPlace(segmenter, workspace)
    from napari_wsiseg.models.gpu import GpuPlace

    return GpuPlace(segmenter, gpus, scale, dtype)


class HostPlace:
    """Answers come to the host at once, and are merged there.

    Parameters
    ----------
    segmenter
        The model, wherever it computes.
    workspace
        Gives the canvas.
    """

    ahead = 0

    def __init__(self, segmenter: Segmenter, workspace: Workspace) -> None:
        self.replicas: Sequence[Replica] = (HostReplica(segmenter),)
        self.canvas = workspace

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Plain memory."""
        return np.empty(shape, np.uint8)

    def to_host(self, bands: Iterator[Band]) -> Iterator[Band]:
        """The bands themselves."""
        return bands


class HostReplica:
    """Asks a model and waits for its answer.

    Parameters
    ----------
    segmenter
        The model.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self.spec = segmenter.spec
        self._segmenter = segmenter

    def ask(self, pixels: NDArray[np.uint8]) -> Answer:
        """The whole answer."""
        return _HostAnswer(predict(self._segmenter, pixels))


def value_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """The least and the greatest of some C-contiguous values, NaN where there is one.

    Floats of 0 and above, infinity and NaN sort as their bits do, and negative ones above
    them: where the greatest bits are those of 1 at the most, all lie in 0..1, and 0 stands
    for the least at half the time.
    """
    bits = values.view(np.uint32).max()
    if bits <= _BITS_OF_ONE:
        return 0.0, float(bits.view(np.float32))
    return float(values.min()), float(values.max())


class _HostAnswer:
    def __init__(self, values: NDArray[np.float32]) -> None:
        self.shape = values.shape
        self._values = values

    def ranges(self) -> list[tuple[float, float]]:
        return [value_range(patch) for patch in self._values]

    def values(self) -> NDArray[np.float32]:
        return self._values
