"""`view`: a slide or a result in napari, which runs as a program of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from napari_wsiseg.cli.terminal import INTERRUPTED
from napari_wsiseg.errors import JobError

_PROGRAM = "napari_wsiseg._napari"
_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
_SIGNALLED = 128


def view_paths(paths: Sequence[Path]) -> int:
    """Open slides and results in napari with the panel; its exit status.

    Raises
    ------
    JobError
        If napari or Qt is not installed, or a path is not there.
    """
    _check_installed()
    for path in paths:
        if not path.exists():
            raise JobError(f"There is nothing at {path}; check the name.")
    # The window's process: what napari and Qt load and print stays out of this one.
    command = [sys.executable, "-m", _PROGRAM, "--", *map(str, paths)]
    process = subprocess.Popen(command)  # noqa: S603 - our own program
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # The window heard it too, and ends by itself: what is finished is kept.
        process.wait()
        return INTERRUPTED
    return status if status >= 0 else _SIGNALLED - status


def _check_installed() -> None:
    missing = [] if importlib.util.find_spec("napari") else ["napari"]
    if not any(importlib.util.find_spec(binding) for binding in _BINDINGS):
        missing.append("Qt (PyQt6 or PySide6)")
    if missing:
        raise JobError(
            f"The window needs {' and '.join(missing)}, not installed here; run "
            "'pip install \"napari-wsiseg[all]\"'."
        )
