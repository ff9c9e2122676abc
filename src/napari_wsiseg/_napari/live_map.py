"""A map as a window looks at it: what was read last is kept, what cannot be read is empty.

Knows neither layers nor windows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import StoreError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.labels import MODELS_OWN, DecisionRule, decide
from napari_wsiseg.labels.corrected import CorrectedLabels
from napari_wsiseg.store import MapBlock, ProbabilityMap


@dataclass(frozen=True, slots=True)
class _Kept:
    level: int
    region: Region
    block: MapBlock

    def cut(self, level: int, region: Region) -> MapBlock | None:
        """The block of a region inside what is kept; None where it is not."""
        if level != self.level or region.intersection(self.region) != region:
            return None
        y, x = region.shifted(-self.region.top, -self.region.left).slices
        tissue = None if self.block.tissue is None else self.block.tissue[y, x]
        return MapBlock(self.block.values[:, y, x], self.block.coverage[y, x], tissue)


class LiveMap:
    """A map that may grow, under a rule that may change. Safe to use from many threads.

    Parameters
    ----------
    pm
        The map.
    rule
        What makes a label.
    on_error
        Told in one sentence, once, when the map cannot be read; from any thread.

    Attributes
    ----------
    pm
        The map.
    scored
        Index of the class whose scores are looked at.
    corrected
        Labels that were corrected by hand, in place of those of the rule; None: those.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have.
    """

    def __init__(
        self,
        pm: ProbabilityMap,
        rule: DecisionRule = MODELS_OWN,
        on_error: Callable[[str], None] | None = None,
    ) -> None:
        self.pm = pm
        self.scored = next(i for i in range(len(pm.classes)) if i != pm.spec.background)
        self.rule = rule
        self.corrected: CorrectedLabels | None = None
        self._on_error = on_error
        self._lock = threading.Lock()
        self._generation = 0
        # The last region of any level, the coarsest level, the chunk under the cursor.
        self._kept: dict[str, _Kept] = {}

    @property
    def rule(self) -> DecisionRule:
        """What makes a label."""
        return self._rule

    @rule.setter
    def rule(self, rule: DecisionRule) -> None:
        rule.thresholds_for(self.pm.spec)
        self._rule = rule

    def read_again(self) -> None:
        """Read anew what was looked at last: the map has more by now.

        In a thread, so that the window need not wait for a disk and a processor that a run is
        using: there it takes 50 to 80 ms, and 5 otherwise.
        """
        with self._lock:
            self._generation += 1
            generation, kept = self._generation, dict(self._kept)
        for use, one in kept.items():
            block = self._read(one.level, one.region)
            with self._lock:
                # Unless something else was looked at, or the map grew again, meanwhile.
                if generation == self._generation and self._kept.get(use) is one:
                    if block is None:
                        del self._kept[use]
                    else:
                        self._kept[use] = _Kept(one.level, one.region, block)

    def labels(self, level: int, region: Region) -> NDArray[np.uint8]:
        """(height, width) labels under the rule of now; 0 where the map cannot be read.

        Under another rule the same region, or a part of it, is decided without reading.
        """
        corrected = self.corrected
        if corrected is not None:
            try:
                labels = corrected.read(region, level)
                if not labels.any():
                    check_there(self.pm)
            except StoreError as error:
                self.tell(error)
                return np.zeros((region.size.height, region.size.width), np.uint8)
            return labels
        is_coarsest = level == len(self.pm.layout.sizes) - 1
        block = self._block(level, region, "coarsest" if is_coarsest else "view")
        return decide(block.values, block.coverage, block.tissue, self.pm.spec, self._rule)

    def scores(self, level: int, region: Region) -> NDArray[np.generic]:
        """(height, width) stored values of the class looked at; 0 where they cannot be read.

        Read only where the labels were not looked at just before.
        """
        scored = self.scored
        with self._lock:
            kept = list(self._kept.values())
        blocks = (one.cut(level, region) for one in kept)
        block = next((block for block in blocks if block is not None), None)
        if block is None:
            block = self._read(level, region)
        values = (_nothing(self.pm, region) if block is None else block).values
        of_class: NDArray[np.generic] = values[scored]
        return of_class

    def scores_at(self, row: int, column: int) -> tuple[float, ...] | None:
        """Every class's score (0..1) in a level-0 pixel; None outside what was analysed."""
        size, chunk = self.pm.size, self.pm.grid.chunk
        if not (0 <= row < size.height and 0 <= column < size.width):
            return None
        around = Region(row // chunk * chunk, column // chunk * chunk, Size(chunk, chunk))
        block = self._block(0, around.clipped(size), "cursor")
        y, x = row - around.top, column - around.left
        if not block.coverage[y, x]:
            return None
        scores = block.values[:, y, x].astype(np.float32)
        if block.values.dtype == np.uint8:
            scores /= np.float32(255)
        return tuple(scores.tolist())

    def _block(self, level: int, region: Region, use: str) -> MapBlock:
        with self._lock:
            generation, kept = self._generation, self._kept.get(use)
        block = None if kept is None else kept.cut(level, region)
        if block is not None:
            return block
        block = self._read(level, region)
        if block is None:
            return _nothing(self.pm, region)
        with self._lock:
            if generation == self._generation:
                self._kept[use] = _Kept(level, region, block)
        return block

    def _read(self, level: int, region: Region) -> MapBlock | None:
        try:
            block = self.pm.read(region, level)
            if not block.coverage.any():
                check_there(self.pm)
        except StoreError as error:
            self.tell(error)
            return None
        return block

    def tell(self, error: StoreError) -> None:
        """Why the map cannot be read; once, as a damaged one would fail at every move."""
        with self._lock:
            tell, self._on_error = self._on_error, None
        if tell is not None:
            tell(str(error))


def check_there(pm: ProbabilityMap) -> None:
    """Make sure that a result was not moved or deleted: chunks that are not there are empty.

    Raises
    ------
    StoreError
        If its folder is gone.
    """
    if pm.path is not None and not pm.path.is_dir():
        raise StoreError(f"{pm.path} is gone; open the result from where it is now.")


def _nothing(pm: ProbabilityMap, region: Region) -> MapBlock:
    shape = (region.size.height, region.size.width)
    dtype = np.dtype(pm.layout.dtype)
    return MapBlock(np.zeros((len(pm.classes), *shape), dtype), np.zeros(shape, bool), None)
