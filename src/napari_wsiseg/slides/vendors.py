"""Asks OpenSlide whose slide a file is, where OpenSlide can be loaded."""

from __future__ import annotations

from pathlib import Path

import tifffile

from napari_wsiseg.errors import SlideError, reason

# As in `make_levels`; a row of tiles of this side is still no burden.
_MAX_SIDE = 2**22
_MAX_TILE_PIXELS = 2**26
_MOST_PAGES = 4096


def check_tiff(path: Path) -> None:
    """Refuse a TIFF whose header claims what OpenSlide would end the process over.

    GLib, below OpenSlide, aborts where there is no memory for what a header asks for.

    Raises
    ------
    SlideError
        With the reason alone.
    """
    with path.open("rb") as file:
        if file.read(2) not in (b"II", b"MM"):
            return
    try:
        with tifffile.TiffFile(path) as tif:
            problem = _excess(tif)
    # It raises what it meets in a damaged file.
    except Exception as error:
        raise SlideError(f"it is cut short or damaged ({reason(error)})") from error
    if problem is not None:
        raise SlideError(problem)


def _excess(tif: tifffile.TiffFile) -> str | None:
    """What a file claims beyond all measure, or None."""
    for number, page in enumerate(page.aspage() for page in tif.pages):
        if number >= _MOST_PAGES:
            return f"it lists more than {_MOST_PAGES} pictures, as no slide does"
        sides = (page.imagelength, page.imagewidth)
        tile = page.tilelength * page.tilewidth if page.is_tiled else 0
        if max(sides) > _MAX_SIDE or tile > _MAX_TILE_PIXELS:
            return (
                f"it claims a picture of {sides[1]} x {sides[0]} px in tiles of {tile} px, which "
                "no slide has"
            )
    return None


def vendor_of(path: Path) -> str | None:
    """OpenSlide's name of the vendor, or None for what it does not know (or is not there)."""
    try:
        import openslide
    except (ImportError, OSError):
        return None
    vendor: str | None = openslide.OpenSlide.detect_format(path)
    return vendor
