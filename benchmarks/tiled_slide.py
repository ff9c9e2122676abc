"""Slides as scanners write them, of any size, made of one small picture laid out mirrored."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_wsiseg.demo import write_slide as write_made_slide
from napari_wsiseg.geometry import Region, Resolution, Size
from napari_wsiseg.slides import open_slide

TILE = 240
_FACTORS = (1, 4, 16)
_QUALITY = 75
_REAL = Path(__file__).parents[2] / "shared" / "data" / "CMU-1-Small-Region.svs"


def source() -> Path | None:
    """The real slide: $WSISEG_REAL_SLIDE, or where it lies beside the checkout."""
    real = Path(os.environ.get("WSISEG_REAL_SLIDE", _REAL))
    return real if real.is_file() else None


def picture() -> NDArray[np.uint8]:
    """(height, width, 3) of the real slide where it is there, else of the made one."""
    with tempfile.TemporaryDirectory() as folder:
        path = source()
        if path is None:
            path = Path(folder) / "made.tif"
            write_made_slide(path)
        with open_slide(path) as slide:
            step, full = _FACTORS[-1], slide.info.size
            size = Size(full.height // step * step, full.width // step * step)
            return slide.read(Region(0, 0, size), Resolution.parse("baseline 1.0"))


def write(path: Path, size: Size, *, half: bool = False) -> None:
    """Write a tiled JPEG TIFF (4:2:0, quality 75, tiles of 240 px) with three levels, 0.5 µm/px.

    Parameters
    ----------
    path
        The file.
    size
        Of level 0.
    half
        Tissue in the upper left and the lower right quarter only, white elsewhere.
    """
    pixels = picture()
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for factor in _FACTORS:
            level = Size(-(-size.height // factor), -(-size.width // factor))
            file.write(
                _tiles(_coarser(pixels, factor), level, half=half),
                shape=(level.height, level.width, 3),
                dtype=np.uint8,
                photometric="rgb",
                subsampling=(2, 2),
                tile=(TILE, TILE),
                compression="jpeg",
                compressionargs={"level": _QUALITY},
                subfiletype=0 if factor == 1 else 1,
                resolution=(20000 / factor, 20000 / factor),
                resolutionunit="CENTIMETER",
                software=False,
                metadata=None,
            )


def _coarser(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    height, width = (side // factor for side in pixels.shape[:2])
    means = pixels.reshape(height, factor, width, factor, 3).mean((1, 3))
    return np.rint(means).astype(np.uint8)


def _tiles(pixels: NDArray[np.uint8], size: Size, *, half: bool) -> Iterator[NDArray[np.uint8]]:
    for top in range(0, size.height, TILE):
        rows = np.arange(top, top + TILE)
        for left in range(0, size.width, TILE):
            columns = np.arange(left, left + TILE)
            tile = pixels[
                np.ix_(_mirrored(rows, pixels.shape[0]), _mirrored(columns, pixels.shape[1]))
            ]
            if half:
                lower, right = 2 * rows >= size.height, 2 * columns >= size.width
                tile[lower[:, None] != right[None, :]] = 255
            yield tile


def _mirrored(places: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    places = places % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)
