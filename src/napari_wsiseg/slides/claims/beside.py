"""The files beside a slide's own, which OpenSlide opens by the names that the slide tells."""

from __future__ import annotations

import stat
from pathlib import Path

from napari_wsiseg.errors import SlideError


def below(folder: Path, name: str) -> Path:
    """The file that a name leads OpenSlide to: also an absolute one counts from the folder."""
    return folder / name.strip().lstrip("/").replace("\0", "")


def is_plain(path: Path) -> bool:
    """Whether a plain file is there; what is not, OpenSlide tells.

    Raises
    ------
    SlideError
        With the reason alone, where it is a pipe or a device, which OpenSlide would wait for.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SlideError(f"{path.name} is a pipe or a device, where a plain file is needed")
    return stat.S_ISREG(mode)
