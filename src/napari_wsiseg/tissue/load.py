"""Takes tissue masks that somebody brings: arrays, PNG, TIFF and NumPy files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.documents import open_plain
from napari_wsiseg.errors import JobError, reason
from napari_wsiseg.geometry import Size
from napari_wsiseg.slides.base import SlideInfo, file_stem, without_path
from napari_wsiseg.tissue.mask import TissueMask

_TIFF = (".tif", ".tiff")
_SUFFIXES = (".png", *_TIFF, ".npy")
_STRETCH = 0.05
_MOST_BYTES = 2**30


def load_tissue(source: Path | NDArray[Any], slide: SlideInfo) -> TissueMask:
    """The mask in a file or an array, laid over the whole slide.

    Parameters
    ----------
    source
        A PNG, TIFF or NumPy (.npy) file; a folder that holds one called as the slide is;
        or an array (h, w). Whatever is above 0 is tissue; of a colour picture, whatever is
        not black (transparency is not looked at). Any size: it is stretched over the slide.
    slide
        The slide that it is for.

    Raises
    ------
    JobError
        If there is no such file, or what it holds is no mask.
    """
    if isinstance(source, Path):
        mask = _in_file(source, slide)
        method = "file"
    else:
        mask = _as_mask(source, "The array")
        method = "array"
    size = Size(*mask.shape)
    told = []
    if _is_stretched(size, slide.size):
        told.append(
            f"The tissue mask is {size} and the slide {slide.size}: it is stretched to fit; "
            "check that it is of this slide."
        )
    if not mask.any():
        told.append("The tissue mask that was given is empty; nothing will be segmented.")
    parameters = {"method": method, "height": size.height, "width": size.width}
    return TissueMask(mask, parameters, tuple(told))


def _in_file(source: Path, slide: SlideInfo) -> NDArray[np.bool_]:
    """The mask in a file, or in the one of a folder; by its alias where the slide has one."""
    path = source
    try:
        if source.is_dir():
            path = _of_slide(source, slide)
        return _as_mask(_read(path), path.name)
    except JobError as error:
        if slide.alias is None:
            raise
        # Masks are called as their slides are. Not chained: a traceback shows all below.
        said = without_path(str(error), path, slide.alias) if path.is_file() else str(error)
        raise JobError(slide.without_path(said)) from None


def _of_slide(folder: Path, slide: SlideInfo) -> Path:
    """The file in the folder that is called as the slide is."""
    names = {slide.stem} if slide.path is None else {slide.stem, file_stem(slide.path)}
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and names & {path.stem, _bare(path)}
    )
    if len(found) == 1:
        return found[0]
    there = " and ".join(path.name for path in found) or "none"
    raise JobError(
        f"{folder} must hold one tissue mask for {slide.stem} "
        f"({slide.stem}.png, .tif or .npy); it holds {there}."
    )


def _bare(path: Path) -> str:
    """The stem of a name that ends in .ome.tif."""
    return path.stem.removesuffix(".ome")


def _read(path: Path) -> NDArray[Any]:
    suffix = path.suffix.lower()
    if not path.exists():
        raise JobError(f"There is no tissue mask {path}; check the name.")
    if suffix not in _SUFFIXES:
        raise JobError(f"{path} cannot be a tissue mask; give a PNG, TIFF or .npy file.")
    try:
        # A pipe would be waited for, a device read without end.
        open_plain(path).close()
        if suffix == ".npy":
            # A pickle in it could run code. Mapped: it takes no more room than the file has.
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_size(mapped.shape, mapped.dtype.itemsize)
            return np.array(mapped)
        if suffix in _TIFF:
            return _read_tiff(path)
        return _read_picture(path)
    # Decoders fail in ways that nobody lists; all mean that the file is no mask.
    except Exception as error:
        raise JobError(
            f"The tissue mask {path} cannot be read ({reason(error)}); save it again."
        ) from error


def _check_size(shape: Sequence[int], item: int) -> None:
    """Raise ValueError for what would fill the memory."""
    if prod(shape) * item > _MOST_BYTES:
        raise ValueError(f"its shape {tuple(shape)} is beyond any mask's; save it smaller")


def _read_tiff(path: Path) -> NDArray[Any]:
    from tifffile import TiffFile

    with TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        item = 0 if page.dtype is None else page.dtype.itemsize
        _check_size(page.shape, item)
        _check_size(page.chunks, item)
        return np.asarray(page.asarray())


def _read_picture(path: Path) -> NDArray[Any]:
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow warns of large pictures long before they are too large for a mask.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
            has_alpha = picture.mode in ("LA", "RGBA")
    return pixels[:, :, :-1] if has_alpha else pixels


def _as_mask(pixels: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """(h, w) bool."""
    is_number = pixels.dtype.kind in "buif"
    if not is_number or pixels.size == 0 or pixels.ndim not in (2, 3):
        raise JobError(
            f"{name} is no tissue mask: it holds {pixels.dtype} of shape {pixels.shape}; "
            "give numbers (height, width), above 0 where tissue is."
        )
    if pixels.ndim == 3 and pixels.shape[2] > 4:
        raise JobError(
            f"{name} is no tissue mask: its shape is {pixels.shape}; give (height, width)."
        )
    inside: NDArray[np.bool_] = pixels > 0
    if pixels.ndim == 2:
        return inside
    colours = inside[:, :, :3] if pixels.shape[2] > 2 else inside[:, :, :1]
    return np.array(colours.any(axis=2), bool)


def _is_stretched(mask: Size, slide: Size) -> bool:
    """Whether the mask's proportions are not the slide's, beyond what rounding makes."""
    height = mask.width * slide.height / slide.width
    width = mask.height * slide.width / slide.height
    off_height, off_width = abs(mask.height - height), abs(mask.width - width)
    return min(off_height, off_width) > 1 and off_height > _STRETCH * height
