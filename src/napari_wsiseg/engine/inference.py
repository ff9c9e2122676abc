"""Batches of pixels in, checked predictions out; one bad patch never costs the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import InferenceError
from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import Indices
from napari_wsiseg.messages import FailedPatch, PatchBatch
from napari_wsiseg.models import OutOfMemory, Segmenter, check, predict
from napari_wsiseg.models.inference import TOLERANCE


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answers to a batch.

    Parameters
    ----------
    indices
        (n, 2) grid rows and columns.
    values
        (n, classes, height, width) float32 in 0..1; undefined for a patch that failed.
    failed
        Those that could not be read or predicted.
    """

    indices: Indices
    values: NDArray[np.float32]
    failed: tuple[FailedPatch, ...]

    @property
    def failed_positions(self) -> frozenset[int]:
        """Positions in the batch that failed."""
        bad = {(patch.row, patch.column) for patch in self.failed}
        return frozenset(
            i for i, (row, column) in enumerate(self.indices) if (int(row), int(column)) in bad
        )


class Predictor:
    """Asks a model, always with batches of one shape.

    Parameters
    ----------
    segmenter
        The model.
    output
        Height and width that each answer must have.
    batch_size
        Patches a call; halved, down to 1, when the model runs out of memory.
    """

    def __init__(self, segmenter: Segmenter, output: Size, batch_size: int) -> None:
        self.batch_size = batch_size
        self._segmenter = segmenter
        self._output = output
        self._checked = False

    def __call__(self, batch: PatchBatch) -> Prediction:
        """Predict a batch; list the patches whose answer is no probability.

        Raises
        ------
        ModelError
            If an answer has a wrong shape or class count, or the first a wrong range.
        InferenceError
            If the model fails.
        """
        values = self._predict(batch.pixels)
        if not self._checked:
            good = [i for i in range(len(values)) if np.isfinite(values[i]).all()]
            check(self._segmenter.spec, values[good], len(good), self._output)
            self._checked = bool(good)
        failed = list(batch.failed)
        unread = {(patch.row, patch.column) for patch in batch.failed}
        for i, (row, column) in enumerate(batch.indices):
            reason = _fault(values[i])
            if reason is not None and (int(row), int(column)) not in unread:
                failed.append(FailedPatch(int(row), int(column), reason))
        return Prediction(batch.indices, values, tuple(failed))

    def _predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        while True:
            try:
                parts = [
                    self._call(pixels[start : start + self.batch_size])
                    for start in range(0, len(pixels), self.batch_size)
                ]
            except OutOfMemory as error:
                if self.batch_size == 1:
                    height, width = pixels.shape[1:3]
                    raise InferenceError(
                        f"One patch of {width} x {height} px does not fit the memory of the "
                        "model's device; use smaller patches (patch_input_shape) or another one."
                    ) from error
                self.batch_size //= 2
                continue
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _call(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict at most a batch, padded with glass: kernels may depend on its shape."""
        count = len(pixels)
        if count < self.batch_size:
            glass = np.full((self.batch_size - count, *pixels.shape[1:]), 255, np.uint8)
            pixels = np.concatenate([pixels, glass])
        answer = predict(self._segmenter, pixels)
        spec, output = self._segmenter.spec, self._output
        if answer.shape != (len(pixels), len(spec.classes), output.height, output.width):
            check(spec, answer, len(pixels), output)  # says what is wrong
        return answer[:count]


def _fault(values: NDArray[np.float32]) -> str | None:
    """Why an answer is no probability; small overshoots are cut off in place."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        return "the model answered NaN or infinity"
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        return f"the model answered values from {low:.3g} to {high:.3g}, outside 0 to 1"
    if low < 0 or high > 1:
        np.clip(values, 0, 1, out=values)
    return None
