"""Sample slides: one that is made here, one that is fetched; both are kept in the cache folder.

The made one comes without µm per pixel, and is left so: nothing tells the scale of the
picture that it is made of, and a guess would make wrong areas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from napari_wsiseg._napari.settings import read_settings
from napari_wsiseg.errors import SlideError

MADE = "napari-wsiseg://made-slide.tif"
REAL = "napari-wsiseg://CMU-1-Small-Region.svs"


def made_slide() -> Path:
    """The made slide (H-DAB colon, 4096 x 4096 px, no scale), written when it is not there.

    Raises
    ------
    SlideError
        If the cache folder cannot be written.
    """
    from napari_wsiseg.demo import write_slide

    path = _folder() / "made-slide.tif"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SlideError(
                f"The sample slide cannot be kept in {path.parent} ({error.strerror or error}); "
                "make room, or make that folder writable."
            ) from error
        write_slide(path)
    return path


def real_slide() -> Path:
    """OpenSlide's CMU-1-Small-Region.svs (H&E skin, 20x), downloaded when it is not there.

    Raises
    ------
    SlideError
        If it cannot be downloaded, or the settings say that nothing is to be.
    """
    from napari_wsiseg.demo import REAL_URL, fetch_real_slide

    path = _folder() / REAL_URL.rpartition("/")[2]
    if read_settings().offline and not path.exists():
        raise SlideError(
            f"{path.name} is not downloaded, as the settings say offline; allow it there, or put "
            f"the file at {path}."
        )
    return fetch_real_slide()


def _folder() -> Path:
    """Where slides are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("napari-wsiseg", appauthor=False) / "slides"


SAMPLES: Mapping[str, Callable[[], Path]] = {MADE: made_slide, REAL: real_slide}
"""Where each sample's file comes from, by the address that the manifest gives it.

Addresses, as napari takes what a function makes at once only, in the main thread.
"""
