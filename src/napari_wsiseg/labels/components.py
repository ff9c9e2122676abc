"""Connected components of an image that is seen strip by strip, from the top.

What touches no seam between strips is whole as it stands; what does is joined with its
parts in other strips when all have been seen. Memory is that of the seams.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What is known of the components of a strip, by their number; number 0 is none.

    Parameters
    ----------
    area
        Pixels.
    low, high
        The least and the greatest label among their neighbours.
    """

    area: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


@dataclass(frozen=True)
class _AtSeams:
    """The components of a strip that touch a seam: their numbers, and the first's over all."""

    numbers: Ids
    first: int


class SeamComponents:
    """Joins components over the seams of strips that come one after the other.

    Parameters
    ----------
    diagonal
        Whether pixels that share only a corner are connected.
    """

    def __init__(self, *, diagonal: bool) -> None:
        self._shifts = (-1, 0, 1) if diagonal else (0,)
        self._strips: list[_AtSeams] = []
        self._facts: list[Facts] = []
        self._pairs: list[Ids] = []
        self._count = 0
        self._bottom: tuple[Ids, NDArray[np.generic]] | None = None
        self._total: tuple[Facts, NDArray[np.int32]] | None = None

    def add(self, numbers: NDArray[np.integer], labels: NDArray[np.uint8], facts: Facts) -> None:
        """Take the next strip.

        Parameters
        ----------
        numbers
            (height, width): the number of each pixel's component, 0 for none.
        labels
            (height, width): components join where these are equal.
        facts
            Of the components of the strip.
        """
        touching = np.unique(numbers[[0, -1]])
        touching = touching[touching > 0].astype(np.int64)
        everywhere = np.zeros(len(facts.area), np.int64)
        everywhere[touching] = np.arange(len(touching)) + self._count + 1
        if self._bottom is not None:
            self._join(*self._bottom, everywhere[numbers[0]], labels[0])
        self._bottom = everywhere[numbers[-1]], labels[-1].copy()
        self._strips.append(_AtSeams(touching, self._count))
        self._facts.append(Facts(*(f[touching] for f in (facts.area, facts.low, facts.high))))
        self._count += len(touching)

    def _join(
        self, above: Ids, labels_above: NDArray[np.generic], below: Ids, labels: NDArray[np.uint8]
    ) -> None:
        width = len(above)
        for shift in self._shifts:
            upper = slice(max(-shift, 0), width - max(shift, 0))
            lower = slice(max(shift, 0), width - max(-shift, 0))
            met = (above[upper] > 0) & (below[lower] > 0)
            met &= labels_above[upper] == labels[lower]
            pairs = np.stack([above[upper][met], below[lower][met]])
            self._pairs.append(np.unique(pairs, axis=1))

    def whole(self, strip: int, facts: Facts) -> Facts:
        """Facts of a strip's components with those of their parts in other strips.

        To be asked when all strips were added.
        """
        total, root = self._totals()
        seams = self._strips[strip]
        roots = root[seams.first : seams.first + len(seams.numbers)]
        parts = []
        for mine, all_of_it in zip(
            (facts.area, facts.low, facts.high), (total.area, total.low, total.high), strict=True
        ):
            mended = mine.copy()
            mended[seams.numbers] = all_of_it[roots]
            parts.append(mended)
        return Facts(*parts)

    def _totals(self) -> tuple[Facts, NDArray[np.int32]]:
        if self._total is None:
            self._total = self._join_all()
        return self._total

    def _join_all(self) -> tuple[Facts, NDArray[np.int32]]:
        pairs = np.concatenate([np.zeros((2, 0), np.int64), *self._pairs], axis=1) - 1
        links = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), (self._count,) * 2)
        count, root = connected_components(links, directed=False)
        area = np.zeros(count, np.int64)
        low = np.full(count, np.iinfo(np.int64).max)
        high = np.full(count, np.iinfo(np.int64).min)
        for of_all, ufunc, name in (
            (area, np.add, "area"),
            (low, np.minimum, "low"),
            (high, np.maximum, "high"),
        ):
            values = [getattr(facts, name) for facts in self._facts]
            ufunc.at(of_all, root, np.concatenate([np.zeros(0, np.int64), *values]))
        return Facts(area, low, high), root
