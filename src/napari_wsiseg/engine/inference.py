"""Batches of pixels in, checked predictions out; one bad patch never costs the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import Indices
from napari_wsiseg.messages import FailedPatch, PatchBatch
from napari_wsiseg.models import Answer, OutOfMemory, Replica, check_range, check_shape
from napari_wsiseg.models.inference import TOLERANCE


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answers to a batch.

    Parameters
    ----------
    indices
        (n, 2) grid rows and columns.
    values
        n answers (classes, height, width), float32 in 0..1, where the run merges; undefined
        for a patch that failed.
    failed
        Those that could not be read or predicted.
    """

    indices: Indices
    values: Sequence[Any]
    failed: tuple[FailedPatch, ...]

    @property
    def failed_positions(self) -> frozenset[int]:
        """Positions in the batch that failed."""
        bad = {(patch.row, patch.column) for patch in self.failed}
        return frozenset(
            i for i, (row, column) in enumerate(self.indices) if (int(row), int(column)) in bad
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A batch, and the answers to its parts with how many of its patches each is about."""

    batch: PatchBatch
    parts: list[tuple[Answer, int]]


class Predictor:
    """Asks a model, always with batches of one shape.

    Parameters
    ----------
    replicas
        Copies of the model; batches go to them in turn.
    output
        Height and width that each answer must have.
    batch_size
        Patches a call; halved, down to 1, when the model runs out of memory, on any device.
    ahead
        Batches that are asked about before the answer to an earlier one is waited for.
    """

    def __init__(
        self, replicas: Sequence[Replica], output: Size, batch_size: int, ahead: int = 0
    ) -> None:
        self.batch_size = batch_size
        self._spec = replicas[0].spec
        self._turns = cycle(replicas)
        self._output = output
        self._ahead = ahead
        self._checked = False

    def __call__(self, batches: Iterable[PatchBatch]) -> Iterator[Prediction]:
        """Predict batches, in order; list the patches whose answer is no probability.

        Raises
        ------
        ModelError
            If an answer has a wrong shape or class count, or the first a wrong range.
        OutOfMemory
            If not even one patch fits.
        InferenceError
            If the model fails.
        """
        asked: deque[_Asked] = deque()
        for batch in batches:
            asked.append(_Asked(batch, self._ask(next(self._turns), batch.pixels)))
            if len(asked) > self._ahead:
                yield self._checked_answer(asked.popleft())
        while asked:
            yield self._checked_answer(asked.popleft())

    def _ask(self, replica: Replica, pixels: NDArray[np.uint8]) -> list[tuple[Answer, int]]:
        while True:
            try:
                return [
                    self._call(replica, pixels[start : start + self.batch_size])
                    for start in range(0, len(pixels), self.batch_size)
                ]
            except OutOfMemory as error:
                if self.batch_size == 1:
                    raise OutOfMemory(
                        f"One patch of {Size(*pixels.shape[1:3])} does not fit the memory of the "
                        "model's device."
                    ) from error.__cause__
                self.batch_size //= 2

    def _call(self, replica: Replica, pixels: NDArray[np.uint8]) -> tuple[Answer, int]:
        """Ask about at most a batch, padded with glass: kernels may depend on its shape."""
        count = len(pixels)
        if count < self.batch_size:
            glass = np.full((self.batch_size - count, *pixels.shape[1:]), 255, np.uint8)
            pixels = np.concatenate([pixels, glass])
        answer = replica.ask(pixels)
        check_shape(self._spec, answer.shape, len(pixels), self._output)
        return answer, count

    def _checked_answer(self, asked: _Asked) -> Prediction:
        batch = asked.batch
        values: list[Any] = []
        ranges: list[tuple[float, float]] = []
        for answer, count in asked.parts:
            ranges.extend(answer.ranges()[:count])
            values.extend(answer.values()[:count])
        if not self._checked:
            good = [(low, high) for low, high in ranges if isfinite(low) and isfinite(high)]
            if good:
                check_range(self._spec, min(low for low, _ in good), max(high for _, high in good))
                self._checked = True
        failed = list(batch.failed)
        unread = {(patch.row, patch.column) for patch in batch.failed}
        for i, ((row, column), (low, high)) in enumerate(zip(batch.indices, ranges, strict=True)):
            reason = _fault(low, high)
            if reason is not None and (int(row), int(column)) not in unread:
                failed.append(FailedPatch(int(row), int(column), reason))
            elif low < 0 or high > 1:
                values[i] = values[i].clip(0, 1)
        return Prediction(batch.indices, values, tuple(failed))


def _fault(low: float, high: float) -> str | None:
    """Why an answer of this range is no probability; small overshoots are to be cut off."""
    if not (isfinite(low) and isfinite(high)):
        return "the model answered NaN or infinity"
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        return f"the model answered values from {low:.3g} to {high:.3g}, outside 0 to 1"
    return None
