"""The plugin's settings in napari's preferences, typed; a damaged value counts as its default.

What they are called, and what they may be, stands in the manifest's `configurations`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari.settings import get_plugin_settings

_PLUGIN = "napari-wsiseg"
_log = logging.getLogger(__name__)


def default_output_folder() -> Path:
    """Where results go unless the user says: a folder in the home folder."""
    return Path.home() / _PLUGIN


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user has set, or used last.

    Parameters
    ----------
    output_folder
        Where results go.
    memory_threshold
        Percent of the free memory, 1..100.
    device
        As in `SegmentationJob`.
    offline
        Whether nothing is ever downloaded.
    stain
        "H&E", "H-DAB" or "other".
    model
        The name or file of the model used last; empty for none.
    export_format
        The format exported to last.
    slide_folder
        Where the last slide was opened from; None where none was.
    asked_for_slides
        Whether the user was asked to make this plugin the reader of slides.
    """

    output_folder: Path = field(default_factory=default_output_folder)
    memory_threshold: int = 80
    device: str = "auto"
    offline: bool = False
    stain: str = "H&E"
    model: str = ""
    export_format: str = "geojson"
    slide_folder: Path | None = None
    asked_for_slides: bool = False


_CATEGORIES = {
    "runs": ("output_folder", "memory_threshold", "device", "offline", "stain"),
    "last_used": ("model", "export_format", "slide_folder", "asked_for_slides"),
}


def read_settings() -> Settings:
    """The settings of now; the defaults where napari has none to give."""
    known = _known()
    settings = Settings()
    for category, names in _CATEGORIES.items():
        values = getattr(known, category, None)
        for name in names:
            value = _typed(name, getattr(values, name, None))
            if value is not None:
                settings = replace(settings, **{name: value})
    return settings


def remember(**changes: Any) -> None:
    """Keep settings, by the names of `Settings`, for the next session.

    A value that napari does not take is logged, and costs nothing else.
    """
    known = _known()
    for name, value in changes.items():
        category = next(group for group, names in _CATEGORIES.items() if name in names)
        values = getattr(known, category, None)
        if values is None:
            continue
        try:
            setattr(values, name, str(value) if isinstance(value, Path) else value)
        # pydantic's errors, and those of a disk that refuses: a run does not wait for them.
        except (ValueError, OSError) as error:
            _log.warning("The setting %s = %r is not kept: %s", name, value, error)


def _known() -> Any:
    """What napari keeps for us; None where our manifest is not registered, or disabled."""
    try:
        return get_plugin_settings(_PLUGIN)
    # A damaged file makes napari raise what it likes.
    except Exception as error:  # noqa: BLE001
        _log.warning("napari keeps no settings for %s: %s", _PLUGIN, error)
        return None


def _typed(name: str, value: Any) -> Any:
    """The value as `Settings` holds it; None where the default should stand."""
    if value is None:
        return None
    if name in ("output_folder", "slide_folder"):
        return Path(value).expanduser() if value else None
    kind = type(getattr(Settings(), name))
    return value if isinstance(value, kind) else None
