"""The memory that a plan names, part by part, is what a run takes from its workspace."""

from __future__ import annotations

import sys
import threading
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import plan, run
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.memory import Workspace

PARTS = {
    "napari_wsiseg.merge": "canvas",
    "napari_wsiseg.store.pyramid": "rows",
    "napari_wsiseg.loading": "blocks",
}
# The package's `run` is its function.
RUN = sys.modules["napari_wsiseg.engine.run"]


class Counting(Workspace):
    """Notes how many bytes each part holds at the most.

    The writer is held at its first row until the run has begun so many: as far as it may fall
    behind, which on a quick disk it seldom does.
    """

    def __init__(self, rows: int, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._rows = rows
        self.peak: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._parts: dict[int, str] = {}
        self._counting = threading.RLock()
        self._filling = 0
        self._behind = threading.Event()

    def take(self, shape: tuple[int, ...], dtype: type) -> NDArray[np.generic]:  # type: ignore[override]
        part = PARTS[sys._getframe(1).f_globals["__name__"]]
        array = super().take(shape, dtype)
        self._note(array, part)
        in_writer = threading.current_thread().name == "wsiseg-map-writer"
        if part == "rows" and len(shape) == 2 and not in_writer:
            self._filling += 1
            if self._filling == self._rows:
                self._behind.set()
        return array

    def keep(self, array: NDArray[np.generic]) -> NDArray[np.generic]:  # type: ignore[override]
        kept = super().keep(array)
        assert kept is array, "all of it fits in memory"
        self._note(kept, "blocks")
        return kept

    def release(self, array: NDArray[np.generic]) -> None:
        if threading.current_thread().name == "wsiseg-map-writer":
            assert self._behind.wait(60)
        with self._counting:
            part = self._parts.pop(id(array), None)
            if part is not None:
                self._now[part] -= array.nbytes
        super().release(array)

    def _note(self, array: NDArray[np.generic], part: str) -> None:
        with self._counting:
            self._parts[id(array)] = part
            self._now[part] += array.nbytes
            self.peak[part] = max(self.peak[part], self._now[part])


LOWER_MIDDLE = (Region(1030, 1100, Size(1500, 400)),)


@pytest.mark.parametrize(
    ("height", "width", "rows", "values"),
    [
        (2100, 1100, 2, {}),
        (3100, 1100, 2, {"dtype": "float32", "save_resolution": "baseline 0.5"}),
        # A band of 60 rows may lie on two chunk rows.
        (2500, 1300, 3, {"stride_shape": (60, 100)}),
        (4000, 300, 2, {"batch_size": 16}),
        (4000, 600, 2, {"batch_size": 4}),
        (2700, 2600, 2, {"region": LOWER_MIDDLE}),
        (2700, 2600, 2, {"region": LOWER_MIDDLE, "batch_size": 1}),
    ],
    ids=[
        "plain",
        "coarser, in floats",
        "deep overlap",
        "narrow",
        "narrow, small batch",
        "a region",
        "a region, small batch",
    ],
)
def test_each_part_takes_what_the_plan_says(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int, rows: int, values: dict[str, object]
) -> None:
    """How many blocks are held at once is left to the threads: most of what is foretold."""
    model = PositionModel(Size(300, 300), Size(256, 200), Size(256, 200))
    spaces: list[Counting] = []

    def space(*arguments: object) -> Counting:
        spaces.append(Counting(rows, *arguments))
        return spaces[-1]

    monkeypatch.setattr(RUN, "Workspace", space)
    job = SegmentationJob(**({"tissue": "none", "memory_limit": "1 GB"} | values))  # type: ignore[arg-type]
    slide = slide_of(picture(height, width))
    need = plan(job, slide, model).need
    run(job, slide, model).close()
    peak = spaces[0].peak
    assert peak["canvas"] == need.canvas
    assert peak["rows"] == need.rows
    assert 0.4 * need.blocks <= peak["blocks"] <= need.blocks
