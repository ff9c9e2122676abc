"""Slides to try things on: one made from a picture that comes with scikit-image, one real.

Knows no model and no result.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import SlideError
from napari_wsiseg.store.files import partial_name

SIDE = 4096
_LEVELS = 4
_TILE = 256
_QUALITY = 90

# OpenSlide's freely distributable test data (CC0 1.0), as openslide.org publishes it.
REAL_URL = "https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs"
REAL_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"


def write_slide(path: Path) -> None:
    """Write a pyramidal, tiled JPEG TIFF, 4096 x 4096 px, without a scale.

    scikit-image's `immunohistochemistry` (colon, DAB and hematoxylin, 512 x 512 px), laid
    out mirrored, so that no seam shows. The same bytes every time.

    Parameters
    ----------
    path
        The TIFF file; replaced where it is there, never left half written.

    Raises
    ------
    SlideError
        If the file cannot be written.
    """
    from skimage.data import immunohistochemistry
    from tifffile import TiffWriter

    picture = immunohistochemistry()
    across = np.hstack([picture, picture[:, ::-1]])
    block = np.vstack([across, across[::-1]])
    pixels: NDArray[np.uint8] = np.tile(block, (SIDE // len(block), SIDE // len(block), 1))
    partial = partial_name(path)
    try:
        with TiffWriter(partial) as file:
            for level in range(_LEVELS):
                file.write(
                    pixels,
                    photometric="rgb",
                    tile=(_TILE, _TILE),
                    compression="jpeg",
                    compressionargs={"level": _QUALITY},
                    subfiletype=1 if level else 0,
                    software=False,
                    metadata=None,
                )
                height, width = (side // 2 for side in pixels.shape[:2])
                means = pixels.reshape(height, 2, width, 2, 3).mean((1, 3))
                pixels = np.rint(means).astype(np.uint8)
        partial.replace(path)
    except OSError as error:
        raise SlideError(
            f"{path} cannot be written ({error.strerror or error}); "
            "choose another folder, or make room in this one."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def fetch_real_slide() -> Path:
    """OpenSlide's CMU-1-Small-Region.svs (H&E skin, 20x), downloaded once into the cache folder.

    Raises
    ------
    SlideError
        If it is not in the cache and cannot be downloaded whole.
    """
    import pooch
    from platformdirs import user_cache_path

    folder = user_cache_path("napari-wsiseg", appauthor=False) / "slides"
    name = REAL_URL.rpartition("/")[2]
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        return Path(pooch.retrieve(REAL_URL, f"sha256:{REAL_SHA256}", name, folder))
    # requests' errors are OSErrors; a wrong checksum is a ValueError.
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise SlideError(
            f"{name} could not be downloaded ({why}); fetch {REAL_URL} where there is "
            f"a network and put it at {folder / name}, or run the demo without --real."
        ) from error
