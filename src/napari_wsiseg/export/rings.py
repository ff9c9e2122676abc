"""Polygons from the corners where outlines turn; knows no image."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Turns = NDArray[np.int32]
"""(n, 3): y, x and kind of a corner where an outline turns."""

RIGHT, DOWN, CONCAVE = 1, 2, 4
"""Kind of a turn, to be added: its level edge leaves to the right (else left), its upright one
down (else up), and the object is what lies outside this angle (else inside)."""


def outlines_of(turns: Turns, owner: NDArray[np.int64]) -> NDArray[np.object_]:
    """Polygons from the turns of their outlines.

    Along a row of corners the turns of an object, from the left, are the ends of its
    edges by pairs; along a column too. That is all there is to follow.

    Parameters
    ----------
    turns
        Of whole objects.
    owner
        (n,) from 0 on, ascending: the object of each turn.
    """
    height, width = (int(extent) + 1 for extent in turns[:, :2].max(axis=0))
    y, x = turns[:, 0].astype(np.int64), turns[:, 1].astype(np.int64)
    right = (turns[:, 2] & RIGHT) > 0
    key = ((owner * height + y) * width + x) * 2 + right
    order = np.argsort(key)
    key, y, x, owner, right = key[order], y[order], x[order], owner[order], right[order]
    down = (turns[order, 2] & DOWN) > 0
    # With the object to the right of its outline, from here an edge sets out sideways.
    departs = (right == down) ^ ((turns[order, 2] & CONCAVE) > 0)
    # Two pixels of an object that share only this corner: outlines run around what is not
    # the object, so that a hole touches the outline from inside and none crosses itself.
    twice = np.flatnonzero(key[1:] >> 1 == key[:-1] >> 1)
    down[twice], down[twice + 1] = down[twice + 1], down[twice]
    column = np.argsort(((owner * width + x) * height + y) * 2 + down)
    across = np.empty_like(column)
    across[column[::2]], across[column[1::2]] = column[1::2], column[::2]

    departures = np.flatnonzero(departs)
    place = np.cumsum(departs) - 1
    sequence, first = _cycles(place[across[departures ^ 1]].tolist())
    corners = np.repeat(departures[sequence], 2)
    corners[1::2] ^= 1
    ring = np.repeat(np.arange(len(first)), 2 * np.diff([*first, len(sequence)]))
    points = np.stack([x[corners], y[corners]], axis=1).astype(np.float64)
    rings = shapely.linearrings(points, indices=ring)
    # The first turn of an object is on its outer ring, and that ring comes first.
    of = owner[departures[np.asarray(sequence)[first]]]
    return np.asarray(shapely.polygons(rings, indices=of), object)


def _cycles(following: list[int]) -> tuple[list[int], list[int]]:
    """All indices in the order in which they follow one another, and where cycles begin."""
    sequence: list[int] = []
    first: list[int] = []
    seen = bytearray(len(following))
    for start in range(len(following)):
        if seen[start]:
            continue
        first.append(len(sequence))
        index = start
        while not seen[index]:
            seen[index] = 1
            sequence.append(index)
            index = following[index]
    return sequence, first
