"""Label images at every level of a pyramid, in one pass over level 0; knows no format.

A coarse pixel has the label that most level-0 pixels under it have, of equals the lowest.
How many have which is carried from level to level: the most frequent of the most
frequent would be another label. Memory is that of a few strips of level 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec

from napari_wsiseg.geometry import Size

if TYPE_CHECKING:
    from zarr.abc.store import Store

ZarrArray = zarr.Array[Any]
Labels = NDArray[np.uint8]
Votes = NDArray[np.unsignedinteger[Any]]

# Pixels that are looked at together: many of them have one label all over. Even.
_TILE = 512
# Pixels that are counted at once: NumPy makes eight bytes of each.
_BLOCK = 2**18


def pyramid_sizes(size: Size, largest: int) -> list[Size]:
    """Sizes of the levels: halved, rounded up, until both sides are at most `largest`."""
    sizes = [size]
    while max(sizes[-1].height, sizes[-1].width) > largest:
        sizes.append(Size(-(-sizes[-1].height // 2), -(-sizes[-1].width // 2)))
    return sizes


def level_arrays(
    store: Store, path: str, sizes: Sequence[Size], chunk: int, dtype: DTypeLike = np.uint8
) -> list[ZarrArray]:
    """Empty arrays (height, width) named 0, 1, ... under `path`; empty chunks get no file."""
    return [
        zarr.create_array(
            store,
            name=f"{path}/{level}" if path else f"{level}",
            shape=(size.height, size.width),
            chunks=(chunk, chunk),
            dtype=np.dtype(dtype),
            compressors=ZstdCodec(level=1),
            fill_value=0,
            dimension_names=("y", "x"),
            config={"write_empty_chunks": False},
            zarr_format=3,
        )
        for level, size in enumerate(sizes)
    ]


def histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    """(256,) How many bytes of the array have which value; for uint8, how many pixels."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    found = np.zeros(256, np.int64)
    for start in range(0, flat.size, _BLOCK):
        found += np.bincount(flat[start : start + _BLOCK], minlength=256)
    return found


class LabelPyramid:
    """Takes the labels of level 0 from the top, any number of rows at a time.

    Parameters
    ----------
    arrays
        The levels, large to small, (height, width) uint8 with the sizes of
        `pyramid_sizes`. Anything that is written by slices of rows, with a fill value
        of 0 and `chunks`.

    Attributes
    ----------
    counts
        (levels, 256) int64: the pixels of each level that have which value; complete
        after `finish`.
    """

    def __init__(self, arrays: Sequence[ZarrArray]) -> None:
        self.arrays = tuple(arrays)
        self.counts = np.zeros((len(arrays), 256), np.int64)
        self._rows = [_ChunkRows(array) for array in arrays]
        self._odd_labels: Labels | None = None
        self._odd_votes: list[_Tally | None] = [None] * len(arrays)

    def add(self, labels: Labels) -> None:
        """Take the next rows, (rows, width) uint8."""
        self._put(0, labels)
        if len(self.arrays) == 1:
            return
        if self._odd_labels is not None:
            labels = np.concatenate((self._odd_labels, labels))
        even = len(labels) // 2 * 2
        self._odd_labels = labels[even:].copy() if even < len(labels) else None
        if even:
            self._pass_on(1, _Tally.of(labels[:even]))

    def finish(self) -> None:
        """All rows were given: write what is left of each level."""
        if self._odd_labels is not None:
            self._pass_on(1, _Tally.of(self._odd_labels))
            self._odd_labels = None
        for level in range(1, len(self.arrays) - 1):
            odd = self._odd_votes[level]
            if odd is not None:
                self._pass_on(level + 1, odd.halved())

    def _pass_on(self, level: int, tally: _Tally) -> None:
        """Take rows of a level, and those of the coarser levels that they complete."""
        self._put(level, tally.winners())
        if level + 1 == len(self.arrays):
            return
        odd = self._odd_votes[level]
        whole = tally if odd is None else odd.above(tally)
        even = whole.votes.shape[1] // 2 * 2
        self._odd_votes[level] = whole.rows(even) if even < whole.votes.shape[1] else None
        if even:
            self._pass_on(level + 1, whole.rows(0, even).halved())

    def _put(self, level: int, labels: Labels) -> None:
        self.counts[level] += histogram(labels)
        self._rows[level].add(labels)


class _ChunkRows:
    """Gathers rows of an array until there are whole chunks: each is encoded once."""

    def __init__(self, array: ZarrArray) -> None:
        self._array = array
        height, width = array.shape
        self._rows = np.empty((min(array.chunks[0], height), width), np.uint8)
        self._top = self._held = 0

    def add(self, rows: Labels) -> None:
        while len(rows):
            taken = rows[: len(self._rows) - self._held]
            self._rows[self._held : self._held + len(taken)] = taken
            self._held += len(taken)
            rows = rows[len(taken) :]
            bottom = self._top + self._held
            if self._held == len(self._rows) or bottom == self._array.shape[0]:
                if self._rows[: self._held].any():
                    self._array[self._top : bottom] = self._rows[: self._held]
                self._top, self._held = bottom, 0


@dataclass(frozen=True, slots=True)
class _Tally:
    """How many level-0 pixels have which label, under each pixel of some rows of a level.

    Parameters
    ----------
    labels
        Those that occur, ascending.
    votes
        (labels, rows, columns).
    """

    labels: tuple[int, ...]
    votes: Votes

    @classmethod
    def of(cls, labels: Labels) -> Self:
        """That of level 1, from the labels of level 0."""
        height, width = labels.shape
        found: dict[int, Votes] = {}
        for left in range(0, width, _TILE):
            tile = labels[:, left : left + _TILE]
            for label, votes in _tile_votes(tile):
                if label not in found:
                    found[label] = np.zeros((-(-height // 2), -(-width // 2)), np.uint8)
                found[label][:, left // 2 :][:, : votes.shape[1]] = votes
        present = sorted(found)
        return cls(tuple(present), np.stack([found[label] for label in present]))

    def winners(self) -> Labels:
        """The label with most votes, of equals the lowest."""
        best = self.votes[0].copy()
        labels = np.full(best.shape, self.labels[0], np.uint8)
        for label, votes in zip(self.labels[1:], self.votes[1:], strict=True):
            np.copyto(labels, np.uint8(label), where=votes > best)
            np.maximum(best, votes, out=best)
        return labels

    def halved(self) -> _Tally:
        """That of the next level."""
        return _Tally(self.labels, _summed(self.votes))

    def above(self, other: _Tally) -> _Tally:
        """These rows, then those of the other."""
        labels = sorted({*self.labels, *other.labels})
        height = self.votes.shape[1]
        shape = (len(labels), height + other.votes.shape[1], self.votes.shape[2])
        votes = np.zeros(shape, np.result_type(self.votes, other.votes))
        for tally, rows in ((self, slice(height)), (other, slice(height, None))):
            votes[[labels.index(label) for label in tally.labels], rows] = tally.votes
        return _Tally(tuple(labels), votes)

    def rows(self, start: int, end: int | None = None) -> _Tally:
        """Some of the rows, as a copy that holds no others."""
        return _Tally(self.labels, self.votes[:, start:end].copy())


def _tile_votes(tile: Labels) -> Iterator[tuple[int, Votes]]:
    first = int(tile[0, 0])
    if first == tile.min() == tile.max():
        yield first, np.multiply.outer(*(_in_pairs(length) for length in tile.shape))
        return
    for label in np.flatnonzero(histogram(tile)).tolist():
        yield label, _summed((tile == label).view(np.uint8))


def _in_pairs(length: int) -> NDArray[np.uint8]:
    """How many of `length` pixels in a row lie under each pixel of the next level."""
    pairs = np.full(-(-length // 2), 2, np.uint8)
    if length % 2:
        pairs[-1] = 1
    return pairs


def _summed(votes: Votes) -> Votes:
    """Sums over 2 x 2 pixels of the last axes; over those that exist at an odd edge."""
    height, width = votes.shape[-2:]
    # As small as holds four times the greatest.
    rows = votes[..., ::2, :].astype(np.min_scalar_type(4 * int(votes.max())))
    rows[..., : height // 2, :] += votes[..., 1::2, :]
    columns = rows[..., ::2].copy()
    columns[..., : width // 2] += rows[..., 1::2]
    return columns
