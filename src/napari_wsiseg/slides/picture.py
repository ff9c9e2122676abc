"""Reads plain PNG and JPEG pictures, decoded whole into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import JpegImagePlugin, PngImagePlugin
from PIL.ImageFile import ImageFile

from napari_wsiseg.errors import SlideError, reason
from napari_wsiseg.geometry import YX
from napari_wsiseg.slides import fingerprint
from napari_wsiseg.slides.array import MemorySlide, Picture, checked
from napari_wsiseg.slides.pixels import as_rgb
from napari_wsiseg.slides.scale import choose_scale, describe

# Such a picture cannot be read in parts: 1.2 GB is what is let into memory.
MAX_PIXELS = 400_000_000
_KINDS: tuple[tuple[bytes, str, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", "jpeg", JpegImagePlugin.JpegImageFile),
)
_DEEP_MODES = ("I", "F")


def open_file(path: Path, mpp: YX | None, alias: str | None = None) -> MemorySlide:
    """Open a PNG or JPEG file.

    Raises
    ------
    SlideError
        With the reason alone, for another format, a damaged file, or one too large.
    """
    with path.open("rb") as head:
        start = head.read(8)
    found = next((kind for kind in _KINDS if start.startswith(kind[0])), None)
    if found is None:
        raise SlideError("it starts like neither a PNG nor a JPEG file")
    _, vendor, plugin = found
    try:
        # Not `Image.open`: its limit is a setting of the whole process and far too low here.
        with plugin(path) as image:
            pixels = _decode(image)
    except SlideError:
        raise
    # Pillow raises OSError, SyntaxError, ValueError and others alike for a damaged file.
    except Exception as error:
        raise SlideError(f"it is cut short or damaged ({reason(error)})") from error
    levels, pictures = checked([Picture.of(pixels)])
    digest = fingerprint.of_files([path])
    scale = choose_scale(mpp, None, None)
    info = describe(path, vendor, digest, levels, scale, alias=alias)
    return MemorySlide(info, pictures)


def _decode(image: ImageFile) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if image.width * image.height > MAX_PIXELS:
        raise SlideError(
            f"it holds {image.width} x {image.height} px in one piece, above the limit of "
            f"{MAX_PIXELS / 1e6:.0f} million; save it as a tiled TIFF"
        )
    if image.mode.startswith(_DEEP_MODES):
        raise SlideError(
            f"its pixels are of mode {image.mode}, where 8-bit ones are needed; convert it"
        )
    alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    return as_rgb(np.asarray(image.convert("RGBA" if alpha else "RGB")))
