"""Traces labelled objects along the edges of their pixels, strip by strip, from the top.

An object is kept as the corners where its outline turns. Those of its parts in several
strips are put together once, when its last row has been seen: seams leave no trace. Knows
arrays and polygons; knows neither maps nor files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from napari_wsiseg.export.rings import CONCAVE, DOWN, RIGHT, Turns, outlines_of

Ints = NDArray[np.int64]

# Turns that are made into polygons at once; an object with more is done by itself.
_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Traced:
    """Objects whose outlines are complete.

    Parameters
    ----------
    codes
        (n,) uint8: their labels.
    polygons
        (n,) polygons with holes; integer coordinates (x, y), pixel (i, j) covers
        [j, j + 1] x [i, i + 1].
    pixels
        (n,) int64: of how many pixels they are.
    sums
        (n,) float64: the sum of the values under them.
    """

    codes: NDArray[np.uint8]
    polygons: NDArray[np.object_]
    pixels: Ints
    sums: NDArray[np.float64]


@dataclass(slots=True)
class _Open:
    """An object that goes on below what was seen."""

    code: int
    pixels: int
    total: float
    turns: list[Turns]

    def take(self, other: _Open) -> None:
        self.pixels += other.pixels
        self.total += other.total
        self.turns += other.turns


@dataclass(frozen=True, slots=True)
class _Strip:
    """The objects of a strip, as if nothing were above or below; number 0 is none.

    The first row of `numbers` is the last of the strip before; its pixels are not counted.
    """

    numbers: NDArray[np.int32]
    codes: NDArray[np.uint8]
    pixels: Ints
    sums: NDArray[np.float64]
    turns: Turns
    first_turn: Ints

    def turns_of(self, number: int) -> Turns:
        # A view would keep the turns of the whole strip.
        return self.turns[self.first_turn[number] : self.first_turn[number + 1]].copy()

    def part(self, number: int) -> _Open:
        """What an object has in this strip."""
        counted = int(self.pixels[number]), float(self.sums[number])
        return _Open(int(self.codes[number]), *counted, [self.turns_of(number)])


class Tracer:
    """Traces one layer of labels; pixels of one label that touch by their sides are an object.

    Parameters
    ----------
    width
        Of the whole image.
    """

    def __init__(self, width: int) -> None:
        self._top = 0
        self._above = np.zeros(width, np.uint8)
        self._open: list[_Open] = []
        # For each pixel of the row above: the index of its object among the open ones.
        self._owner = np.full(width, -1, np.int64)

    def add(
        self, labels: NDArray[np.uint8], values: NDArray[np.number], *, last: bool
    ) -> Iterator[Traced]:
        """Take the next strip; yields the objects that end in it, some thousands at once.

        Parameters
        ----------
        labels
            (height, width): 0 for none.
        values
            (height, width): what is summed up over each object.
        last
            Whether nothing comes below.
        """
        strip = _number(self._above, labels, values, self._top, last=last)
        self._top += len(labels)
        ended = self._join(strip, last=last)
        self._above = labels[-1].copy()
        yield from _polygons(strip, ended)

    def _join(self, strip: _Strip, *, last: bool) -> list[_Open | int]:
        """Give parts to their objects; what ends here: objects, or numbers within the strip."""
        row = strip.numbers[0]
        met = self._owner >= 0
        joined = _groups(self._owner[met], row[met], len(self._open))
        below = np.zeros(0, np.int32) if last else np.unique(strip.numbers[-1])
        goes_on = np.zeros(len(strip.codes), bool)
        goes_on[below[below > 0]] = True

        groups: dict[int, _Open] = {}
        for group, part in zip(joined.of_open, self._open, strict=True):
            _put(groups, group, part)
        open_groups: dict[int, list[int]] = {}
        for number, group in zip(joined.numbers, joined.of_number, strict=True):
            groups[group].take(strip.part(number))
            if goes_on[number]:
                open_groups.setdefault(group, []).append(number)
        ended: list[_Open | int] = [g for key, g in groups.items() if key not in open_groups]

        index = np.full(len(strip.codes), -1, np.int64)
        self._open = []
        for group, numbers in open_groups.items():
            index[numbers] = len(self._open)
            self._open.append(groups[group])
        goes_on[joined.numbers] = False
        for number in np.flatnonzero(goes_on).tolist():
            index[number] = len(self._open)
            self._open.append(strip.part(number))

        within = strip.pixels > 0
        within[0] = False
        within[joined.numbers] = False
        within[index >= 0] = False
        ended += np.flatnonzero(within).tolist()
        self._owner = index[strip.numbers[-1]]
        return ended


@dataclass(frozen=True, slots=True)
class _Joined:
    """Which open objects and numbers of the next strip are one object: a group each."""

    of_open: list[int]
    numbers: list[int]
    of_number: list[int]


def _groups(owners: Ints, numbers: NDArray[np.int32], count: int) -> _Joined:
    known, place = np.unique(numbers, return_inverse=True)
    total = count + len(known)
    links = coo_array((np.ones(len(owners), bool), (owners, place + count)), (total, total))
    _, group = connected_components(links, directed=False)
    return _Joined(group[:count].tolist(), known.tolist(), group[count:].tolist())


def _put(groups: dict[int, _Open], group: int, part: _Open) -> None:
    """Add to a group; the shorter list is copied, so that no part is copied often."""
    there = groups.get(group)
    if there is None:
        groups[group] = part
    elif len(there.turns) < len(part.turns):
        part.take(there)
        groups[group] = part
    else:
        there.take(part)


def _number(
    above: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    values: NDArray[np.number],
    top: int,
    *,
    last: bool,
) -> _Strip:
    whole = np.concatenate([above[None], labels])
    numbers, count = label(whole, background=0, connectivity=1, return_num=True)
    numbers = numbers.astype(np.int32, copy=False)
    # Pixels come in runs: to count those takes a fifth of the time and no array as large.
    first = _runs(numbers)
    codes = np.zeros(count + 1, np.uint8)
    codes[numbers.ravel()[first]] = whole.ravel()[first]
    counted = first[first >= whole.shape[1]]
    owner = numbers.ravel()[counted]
    lengths = np.diff(counted, append=numbers.size)
    pixels = np.bincount(owner, lengths, count + 1).astype(np.int64)
    totals = np.add.reduceat(values.ravel(), counted - whole.shape[1], dtype=np.float64)
    sums = np.bincount(owner, totals, count + 1).astype(np.float64, copy=False)
    pixels[0] = 0
    owners, turns = _turns(whole, numbers, top, last=last)
    order = np.argsort(owners, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count + 1))])
    return _Strip(numbers, codes, pixels, sums, turns[order], first)


def _runs(numbers: NDArray[np.int32]) -> Ints:
    """Where, in the flat image, runs of equal numbers begin; each row begins one."""
    begins = np.ones(numbers.shape, bool)
    np.not_equal(numbers[:, 1:], numbers[:, :-1], out=begins[:, 1:])
    found: Ints = np.flatnonzero(begins)
    return found


def _turns(
    whole: NDArray[np.uint8], numbers: NDArray[np.int32], top: int, *, last: bool
) -> tuple[NDArray[np.int32], Turns]:
    """Where outlines turn, on the lines above each row but the first: number and turn."""
    around = ((0, int(last)), (1, 1))
    labels, owners = np.pad(whole, around), np.pad(numbers, around).ravel()
    upright = labels[:, :-1] != labels[:, 1:]
    level = labels[:-1] != labels[1:]
    corners = np.flatnonzero((upright[:-1] | upright[1:]) & (level[:, :-1] | level[:, 1:]))
    y, x = np.divmod(corners, upright.shape[1])
    # By the side, left and right or up and down, on which the edge leaves the corner.
    sideways = level[y, x], level[y, x + 1]
    vertical = upright[y, x], upright[y + 1, x]
    pixel = {
        (right, down): (y + down) * labels.shape[1] + x + right
        for right in (0, 1)
        for down in (0, 1)
    }
    found_owners, found = [], []
    for right, down in pixel:
        turns = sideways[right] & vertical[down]
        lone = turns & ~sideways[1 - right] & ~vertical[1 - down]
        kind = RIGHT * right + DOWN * down
        for where, beside, concave in (
            (turns, (right, down), 0),
            (lone, (1 - right, 1 - down), CONCAVE),
        ):
            owner = owners[pixel[beside]]
            at = np.flatnonzero(where & (owner > 0))
            found_owners.append(owner[at])
            kinds = np.full(len(at), kind + concave)
            found.append(np.stack([y[at] + top, x[at], kinds], axis=1).astype(np.int32))
    return np.concatenate(found_owners), np.concatenate(found)


def _polygons(strip: _Strip, ended: list[_Open | int]) -> Iterator[Traced]:
    """The objects that end, in batches of about `_AT_ONCE` turns."""
    whole = np.array([entry for entry in ended if isinstance(entry, int)], np.int64)
    parts = [entry for entry in ended if not isinstance(entry, int)]
    lengths = strip.first_turn[whole + 1] - strip.first_turn[whole]
    for part in _batches(lengths):
        numbers = whole[part]
        # The turns of numbers that follow one another do, but for those left out.
        places = _ranges(strip.first_turn[numbers], lengths[part])
        owner = np.repeat(np.arange(len(numbers)), lengths[part])
        traced = outlines_of(strip.turns[places], owner)
        yield Traced(strip.codes[numbers], traced, strip.pixels[numbers], strip.sums[numbers])
    counts = np.array([sum(map(len, entry.turns)) for entry in parts], np.int64)
    for part in _batches(counts):
        some = parts[part]
        owner = np.repeat(np.arange(len(some)), counts[part])
        turns = np.concatenate([turns for entry in some for turns in entry.turns])
        yield Traced(
            np.array([entry.code for entry in some], np.uint8),
            outlines_of(turns, owner),
            np.array([entry.pixels for entry in some], np.int64),
            np.array([entry.total for entry in some], np.float64),
        )


def _batches(lengths: Ints) -> Iterator[slice]:
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        before = ends[first - 1] if first else 0
        after = max(int(np.searchsorted(ends, before + _AT_ONCE, side="right")), first + 1)
        yield slice(first, after)
        first = after


def _ranges(first: Ints, lengths: Ints) -> Ints:
    """first[0], first[0] + 1, ... (lengths[0] of them), first[1], ..."""
    before = np.cumsum(lengths) - lengths
    places: Ints = np.repeat(first - before, lengths) + np.arange(lengths.sum())
    return places
