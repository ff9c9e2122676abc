"""The model that was loaded last, so that a plan and a run, or two runs, load it once. No Qt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from napari_wsiseg.models import load_model, models, weights_ready

if TYPE_CHECKING:
    from napari_wsiseg.config import SegmentationJob
    from napari_wsiseg.models import Segmenter


class ModelShelf:
    """Holds one model; used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[object, ...] | None = None
        self._model: Segmenter | None = None

    def take(self, job: SegmentationJob) -> Segmenter:
        """The job's model; loaded where another was held.

        Raises
        ------
        ModelError
            If it cannot be loaded.
        """
        key = (job.model, job.weights, job.device, job.precision, job.trust)
        with self._lock:
            if self._model is None or key != self._key:
                self._model = self._key = None  # two networks at once may be too much
                self._model = load_model(
                    job.model,
                    weights=job.weights,
                    device=job.device,
                    precision=job.precision,
                    trust=job.trust,
                )
                self._key = key
            return self._model


def is_at_hand(job: SegmentationJob) -> bool:
    """Whether the job's model can be loaded without a download."""
    return job.weights is not None or job.model not in models() or weights_ready(job.model)
