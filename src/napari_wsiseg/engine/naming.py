"""What a slide's result is called."""

from __future__ import annotations

from pathlib import Path

from napari_wsiseg.errors import StoreError
from napari_wsiseg.slides.base import SlideInfo
from napari_wsiseg.store import ProbabilityMap


def result_path(folder: Path, info: SlideInfo) -> Path:
    """`<stem>.ome.zarr`, or, where that is another slide's, with 8 hex digits of the fingerprint.

    Parameters
    ----------
    folder
        Where results go; need not exist.
    info
        The slide.
    """
    plain = folder / f"{info.stem}.ome.zarr"
    marked = folder / f"{info.stem}-{info.fingerprint[:8]}.ome.zarr"
    return marked if marked.exists() or _is_anothers(plain, info.fingerprint) else plain


def _is_anothers(path: Path, fingerprint: str) -> bool:
    if not path.exists():
        return False
    try:
        with ProbabilityMap.open(path) as result:
            slide = result.provenance.get("slide")
    # What is no result of ours is not renamed around: the run refuses it, and says why.
    except StoreError:
        return False
    return isinstance(slide, dict) and slide.get("fingerprint") != fingerprint
