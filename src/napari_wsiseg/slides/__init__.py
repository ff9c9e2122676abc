"""Opens slides: which reader takes a file is a table, tried in order, by content.

Readers are loaded when they are tried, so that one that cannot be loaded costs its
formats only.
"""

from __future__ import annotations

import importlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_wsiseg.documents import from_home
from napari_wsiseg.errors import SlideError, SlideWarning
from napari_wsiseg.geometry import YX
from napari_wsiseg.slides.base import Level, Slide, SlideInfo, without_path
from napari_wsiseg.validation import check_name

if TYPE_CHECKING:
    from napari_wsiseg.slides.scale import UserMpp

__all__ = ["READERS", "Level", "Reader", "Slide", "SlideInfo", "open_slide"]


@dataclass(frozen=True, slots=True)
class Reader:
    """One way to read files.

    Parameters
    ----------
    name
        What people call it.
    module
        Holds `open_file(path, mpp, alias)`, which raises SlideError with the reason why not.
    suffixes
        What such files are usually called; another reader that takes one says so.
    """

    name: str
    module: str
    suffixes: frozenset[str]

    def unusable(self) -> str | None:
        """Why the reader cannot be loaded here, or None where it can."""
        try:
            importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            return f"it cannot be loaded here ({error})"
        return None

    def open(self, path: Path, mpp: YX | None, alias: str | None = None) -> Slide:
        """The slide.

        Raises
        ------
        SlideError
            With the reason alone, where this reader cannot open the file.
        """
        problem = self.unusable()
        if problem is not None:
            raise SlideError(problem)
        slide: Slide = importlib.import_module(self.module).open_file(path, mpp, alias)
        return slide


_TIFF_SUFFIXES = frozenset({".svs", ".tif", ".tiff", ".btf", ".tf8", ".tf2"})
READERS = (
    Reader("TIFF", "napari_wsiseg.slides.tiff", _TIFF_SUFFIXES),
    Reader(
        "OpenSlide",
        "napari_wsiseg.slides.openslide_reader",
        _TIFF_SUFFIXES
        | {".ndpi", ".vms", ".vmu", ".mrxs", ".scn", ".bif", ".dcm", ".svslide", ".czi"},
    ),
    Reader("PNG or JPEG", "napari_wsiseg.slides.picture", frozenset({".png", ".jpg", ".jpeg"})),
    # Last, as importing zarr takes longer than all the others' look at a file.
    Reader("OME-Zarr", "napari_wsiseg.slides.omezarr", frozenset({".zarr"})),
)


def open_slide(
    source: str | os.PathLike[str] | Any, mpp: UserMpp = None, alias: str | None = None
) -> Slide:
    """Open a slide file or folder, an array, a list of levels, or a napari image layer.

    Parameters
    ----------
    source
        A path; or a numpy or dask array (height, width, 3) of uint8 (floats in 0..1,
        grey and alpha are converted); or a list of such, large to small; or a layer.
    mpp
        µm per level-0 pixel, one number or (y, x); wins over what the file says.
    alias
        What the slide is called, in messages and results, in place of its file's name.

    Warns
    -----
    SlideWarning
        If the scale is only nominal, the file's name belies its content, or its end is missing.

    Raises
    ------
    SlideError
        If nothing can read it; says what was tried and why each failed.
    JobError
        If `mpp` is not above 0, or `alias` would not do as the name of a file.
    """
    from napari_wsiseg.slides.scale import user_scale

    given = user_scale(mpp)
    if alias is not None:
        check_name(alias)
    if not isinstance(source, (str, os.PathLike)):
        from napari_wsiseg.slides.array import open_array

        return open_array(source, given, alias)
    path = from_home(Path(source))
    if alias is None:
        return _opened(path, given, None)
    try:
        return _opened(path, given, alias)
    except SlideError as error:
        # Not chained: what lies below names the file, and a traceback shows all of it.
        raise SlideError(without_path(str(error), path, alias)) from None


def _opened(path: Path, given: YX | None, alias: str | None) -> Slide:
    """The slide, by the first reader that takes it."""
    _check_present(path)
    tried: list[str] = []
    for reader in READERS:
        try:
            slide = reader.open(path, given, alias)
        except SlideError as error:
            tried.append(f"{reader.name}: {str(error).rstrip('.')}")
        except OSError as error:
            tried.append(f"{reader.name}: {error.strerror or error}")
        else:
            _warn_of_name(path, reader, alias)
            return slide
    raise SlideError(f"{path} cannot be opened as a slide ({'; '.join(tried)}).")


def _check_present(path: Path) -> None:
    """Raise SlideError for what cannot be a slide at all."""
    try:
        if not path.exists():
            raise SlideError(f"There is no slide at {path}; check the name.")
        if path.is_dir():
            if next(path.iterdir(), None) is None:
                raise SlideError(f"{path} is an empty folder; give a slide's file or folder.")
            return
        if not path.is_file():
            raise SlideError(f"{path} is neither a file nor a folder; give a slide's file.")
        with path.open("rb") as file:
            if not file.read(1):
                raise SlideError(f"{path} is empty (0 bytes); copy the slide again.")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SlideError(
            f"{path} cannot be read ({reason}); check the file and its rights."
        ) from error


def _warn_of_name(path: Path, reader: Reader, alias: str | None) -> None:
    suffix = path.suffix.lower()
    named = [other.name for other in READERS if suffix in other.suffixes]
    if named and reader.name not in named:
        warnings.warn(
            f"{alias or path.name} is not what its name says; its content was opened as "
            f"{reader.name}.",
            SlideWarning,
            stacklevel=4,
        )
