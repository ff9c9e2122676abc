"""napari's way in: which files are ours to read, and how; and being the default for slides."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari import current_viewer
from napari.settings import get_settings
from napari.utils.notifications import show_warning

from napari_wsiseg._napari.samples import SAMPLES
from napari_wsiseg._napari.slide_layer import (
    LayerData,
    Preparation,
    close,
    close_when_removed,
    prepare_in_background,
    show_scale_bar,
    tell,
)
from napari_wsiseg.errors import SlideError, SlideWarning
from napari_wsiseg.slides import READERS, Slide, open_slide

if TYPE_CHECKING:
    from napari import Viewer

PLUGIN = "napari-wsiseg"
SLIDE_SUFFIXES = (".svs", ".ndpi", ".vms", ".vmu", ".mrxs", ".scn", ".bif", ".svslide")
"""What only slides are called. Not .tif and .zarr, nor .czi and .dcm: others read those too."""

_ZARR = ("zarr.json", ".zgroup", ".zattrs")
_NOTHING = [(None,)]
"""What a reader answers that has read something and has no layers to give."""

Layers = Sequence[LayerData | tuple[None]]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], Layers] | None:
    """Our reader for slides and results; None for what is neither.

    What only slides are called is taken by its name, so that a damaged one is told of;
    all else by its content.
    """
    paths = _listed(path)
    return read if paths and all(_is_ours(one) for one in paths) else None


def read(path: str | list[str]) -> Layers:
    """Read slides and results, each for itself: several are no stack.

    With a window, what takes time goes on in the background and adds its layers itself,
    and errors are told there. Without one, all is done at once.

    Raises
    ------
    WsisegError
        Without a window, if something cannot be read.
    """
    viewer = _window()
    layers: list[LayerData] = []
    for one in _listed(path):
        try:
            layers += _read(one, viewer)
        # Whatever it is: in a window it is told, and costs no other file.
        except Exception as error:
            if viewer is None:
                for layer in layers:
                    close(layer)
                raise
            tell(error)
    return layers or _NOTHING


def is_result(path: Path) -> bool:
    """Whether a result lies there; loads the store only for what may be one."""
    if not (path / _ZARR[0]).is_file():
        return False
    from napari_wsiseg.store import is_result as holds_result

    return holds_result(path)


def is_default_reader() -> bool:
    """Whether napari opens slides with this plugin, without asking."""
    preferred = get_settings().plugins.extension2reader
    return all(preferred.get(f"*{suffix}") == PLUGIN for suffix in SLIDE_SUFFIXES)


def make_default_reader() -> None:
    """Have napari open what only slides are called with this plugin, without asking."""
    plugins = get_settings().plugins
    ours = {f"*{suffix}": PLUGIN for suffix in SLIDE_SUFFIXES}
    # napari keeps what is set anew; what is changed in place it does not notice.
    plugins.extension2reader = {**plugins.extension2reader, **ours}


def _listed(path: str | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)


def _window() -> Viewer | None:
    """The window to add layers to; None in a script, and in a thread of somebody's."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return current_viewer()


def _is_ours(path: str) -> bool:
    if path in SAMPLES:
        return True
    place = Path(path)
    if place.is_dir():
        return any((place / name).is_file() for name in _ZARR) and (
            is_result(place) or _opens(place)
        )
    suffix = place.suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return True
    return any(suffix in reader.suffixes for reader in READERS) and _opens(place)


def _opens(path: Path) -> bool:
    """Whether it is a slide by its content; reads no more than its head."""
    try:
        with _quietly(path):
            return True
    except SlideError:
        return False


def _quietly(path: Path) -> Slide:
    # It is opened again when it is read, and says what it has to say then.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlideWarning)
        return open_slide(path)


def _read(path: str, viewer: Viewer | None) -> list[LayerData]:
    if path not in SAMPLES and is_result(Path(path)):
        return _read_result(Path(path), viewer)
    preparation = Preparation(lambda: open_slide(_file(path)), Path(path).name)
    if viewer is not None and not _is_at_hand(path):
        prepare_in_background(viewer, preparation)
        return []
    prepared = preparation()
    if prepared.error is not None:
        raise prepared.error
    if viewer is not None:
        close_when_removed(viewer)
        show_scale_bar(viewer)
    if prepared.remarks:
        _remark("\n".join(prepared.remarks), viewer)
    return [] if prepared.layer is None else [prepared.layer]


def _read_result(path: Path, viewer: Viewer | None) -> list[LayerData]:
    from napari_wsiseg._napari.open_result import open_result, result_layer_data

    if viewer is None:
        return result_layer_data(path)
    open_result(viewer, path)
    return []


def _file(path: str) -> Path:
    return SAMPLES[path]() if path in SAMPLES else Path(path)


def _is_at_hand(path: str) -> bool:
    """Whether a slide can be shown at once: no level has to be averaged, nothing fetched."""
    # Loading what makes the levels holds a window up as long as averaging small ones.
    pyramid = sys.modules.get("napari_wsiseg.slides.pyramid")
    if path in SAMPLES or pyramid is None:
        return False
    with _quietly(Path(path)) as slide:
        return bool(pyramid.levels_are_ready(slide.info))


def _remark(text: str, viewer: Viewer | None) -> None:
    if viewer is None:
        warnings.warn(text, SlideWarning, stacklevel=4)
    else:
        show_warning(text)
