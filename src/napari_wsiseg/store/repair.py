"""Makes a result that a killed run left equal to one that stopped after its last record.

Knows what may be wrong then: files without a record, and coarse pixels that hold, or
lack, a part of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.store.arrays import open_arrays
from napari_wsiseg.store.chunks import ChunkWriter
from napari_wsiseg.store.homes import WritableFolder
from napari_wsiseg.store.map import ProbabilityMap
from napari_wsiseg.store.pyramid import coarsen, coarser_masks, doubled


def mend(home: WritableFolder, map_: ProbabilityMap) -> None:
    """Remove what no record names, and rebuild the coarse chunks that lie above it.

    Parameters
    ----------
    home
        The result, locked.
    map_
        What it holds.

    Raises
    ------
    StoreError
        If the map cannot be read, or the disk refuses; mending can be begun again.
    """
    recorded = home.recorded()
    levels = open_arrays(home.store, map_.layout, has_tissue=False).levels
    chunks = ChunkWriter(levels, home.put)
    home.sweep(recorded)
    stay = coarser_masks(recorded, len(levels))
    unsure = coarser_masks(~map_.finished, len(levels))
    try:
        for level in range(1, len(levels)):
            home.sweep_level(level, stay[level])
            for row, column in np.argwhere(stay[level] & unsure[level]).tolist():
                rebuilt = _rebuilt(map_, level, row, column)
                chunks.write(level, *rebuilt)
                chunks.wait()
            home.commit()
    finally:
        chunks.close()


def _rebuilt(
    map_: ProbabilityMap, level: int, row: int, column: int
) -> tuple[Region, NDArray[np.generic], NDArray[np.bool_]]:
    """One chunk of a level from the level below: where it lies, values, coverage."""
    chunk, sizes = map_.grid.chunk, map_.layout.sizes
    region = Region(row * chunk, column * chunk, Size(chunk, chunk)).clipped(sizes[level])
    below = map_.read(doubled(region, sizes[level - 1]), level - 1)
    return region, *coarsen(below.values, below.coverage)
