"""Where an export goes: written under a temporary name, then renamed; knows no format."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_wsiseg.errors import ExportError


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise ExportError if nothing may be written to `path`: asked before any work is done."""
    if path.is_dir():
        raise ExportError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} is there already; choose another name, or overwrite it.")
    if not path.absolute().parent.is_dir():
        raise ExportError(f"There is no folder {path.absolute().parent}; make it first.")


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it if all goes well, else removed.

    Raises
    ------
    ExportError
        If something is at `path` and `overwrite` is False, if a folder is there or none
        around it, or if the disk refuses.
    """
    check_free(path, overwrite=overwrite)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise ExportError(
            f"{path} cannot be written ({reason}); check the folder, its rights and its space."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
