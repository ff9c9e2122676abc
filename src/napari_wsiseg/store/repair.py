"""Makes a result that a killed run left equal to one that stopped after its last record.

Knows what may be wrong then: files without a record, and coarse pixels that hold, or
lack, a part of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import Mask
from napari_wsiseg.store.arrays import LevelArrays, open_arrays
from napari_wsiseg.store.chunks import ChunkWriter
from napari_wsiseg.store.homes import WritableFolder
from napari_wsiseg.store.layout import MapLayout
from napari_wsiseg.store.pyramid import coarsen, coarser_masks, doubled


def mend(home: WritableFolder, layout: MapLayout, unfinished: Mask) -> None:
    """Remove what no record names, and rebuild the coarse chunks that lie above it.

    Parameters
    ----------
    home
        The result, locked.
    layout
        The map's.
    unfinished
        (chunk rows, chunk columns) bool: level-0 chunks still to be written.

    Raises
    ------
    StoreError
        If the disk refuses; mending can be begun again.
    """
    recorded = home.recorded()
    levels = open_arrays(home.store, layout, has_tissue=False).levels
    chunks = ChunkWriter(levels, home.put)
    home.sweep(recorded)
    stay = coarser_masks(recorded, len(levels))
    unsure = coarser_masks(unfinished, len(levels))
    try:
        for level in range(1, len(levels)):
            home.sweep_level(level, stay[level])
            for row, column in np.argwhere(stay[level] & unsure[level]).tolist():
                rebuilt = _rebuilt(levels[level - 1], levels[level], row, column)
                chunks.write(level, *rebuilt)
                chunks.wait()
            home.commit()
    finally:
        chunks.close()


def _rebuilt(
    finer: LevelArrays, own: LevelArrays, row: int, column: int
) -> tuple[Region, NDArray[np.generic], NDArray[np.bool_]]:
    """One chunk of a level from the level below: where it lies, values, coverage."""
    chunk = own.coverage.chunks[-1]
    size, finer_size = (Size(*arrays.coverage.shape) for arrays in (own, finer))
    region = Region(row * chunk, column * chunk, Size(chunk, chunk)).clipped(size)
    y, x = doubled(region, finer_size).slices
    return region, *coarsen(np.asarray(finer.values[:, y, x]), np.asarray(finer.coverage[y, x]))
