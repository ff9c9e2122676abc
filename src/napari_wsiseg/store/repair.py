"""Makes a result that a killed run left equal to one that stopped after its last record.

Knows what may be wrong then: files without a record, and coarse pixels that hold, or
lack, a part of them.
"""

from __future__ import annotations

import numpy as np

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import Mask
from napari_wsiseg.store.arrays import LevelArrays, MapArrays
from napari_wsiseg.store.homes import WritableFolder
from napari_wsiseg.store.pyramid import Window, coarsen, coarser_masks, doubled


def mend(home: WritableFolder, arrays: MapArrays, unfinished: Mask) -> None:
    """Remove what no record names, and rebuild the coarse chunks that lie above it.

    Parameters
    ----------
    home
        The result, locked.
    arrays
        Its arrays, opened over the home's store.
    unfinished
        (chunk rows, chunk columns) bool: level-0 chunks still to be written.

    Raises
    ------
    StoreError
        If the disk refuses; mending can be begun again.
    """
    recorded = home.recorded()
    home.sweep(recorded)
    stay = coarser_masks(recorded, len(arrays.levels))
    unsure = coarser_masks(unfinished, len(arrays.levels))
    for level in range(1, len(arrays.levels)):
        home.sweep_level(level, stay[level])
        for row, column in np.argwhere(stay[level] & unsure[level]).tolist():
            _rebuild(arrays.levels[level - 1], arrays.levels[level], row, column)
        home.commit()


def _rebuild(finer: LevelArrays, own: LevelArrays, row: int, column: int) -> None:
    """Compute and store one chunk of a level from the level below."""
    chunk = own.coverage.chunks[-1]
    size, finer_size = (Size(*arrays.coverage.shape) for arrays in (own, finer))
    region = Region(row * chunk, column * chunk, Size(chunk, chunk)).clipped(size)
    y, x = doubled(region, finer_size).slices
    values, coverage = coarsen(np.asarray(finer.values[:, y, x]), np.asarray(finer.coverage[y, x]))
    Window(region, values, coverage).write(own, region)
