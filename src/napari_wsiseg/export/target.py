"""Where an export goes: written under a temporary name, then renamed; knows no format."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_wsiseg.errors import ExportError
from napari_wsiseg.faults import passing
from napari_wsiseg.store import ProbabilityMap, is_export, is_result
from napari_wsiseg.store.arrays import TISSUE
from napari_wsiseg.store.drafts import locked_draft
from napari_wsiseg.store.files import sync_file, sync_folder, sync_tree
from napari_wsiseg.store.label_images import CORRECTED, LABELS


def check_free(path: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Raise ExportError if nothing may be written to `path`: asked before any work is done.

    A folder is replaced only if it is an earlier export: never a result. A file lies in no
    result.
    """
    if not is_folder and (home := _result_around(path)) is not None:
        raise ExportError(
            f"{path} is inside the result {home}, which holds no such files; choose another folder."
        )
    if path.is_dir() and not is_folder:
        raise ExportError(f"{path} is a folder; give the name of a file.")
    if path.is_dir() and not is_export(path):
        raise ExportError(f"{path} is there and is no export; choose another name.")
    if path.is_file() and is_folder:
        raise ExportError(f"{path} is a file, and this format is a folder; choose another name.")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} is there already; choose another name, or overwrite it.")
    parent = path.absolute().parent
    # A result without a tissue mask has no folder of labels yet.
    if not parent.is_dir() and not (parent.name == LABELS and parent.parent.is_dir()):
        raise ExportError(f"There is no folder {parent}; make it first.")


def is_label_image(path: Path, pm: ProbabilityMap) -> bool:
    """Whether a folder is to be a label image of the map's own result; links are followed.

    Raises
    ------
    ExportError
        If it is in another result, elsewhere in this one, the run's tissue mask or the
        corrected labels.
    """
    home = _result_around(path)
    if home is None:
        return False
    folder, copy = path.resolve(), "export a copy of their own instead"
    if pm.path is None or pm.path.resolve() != home:
        raise ExportError(f"{home} is another result than that of these labels; {copy}.")
    if folder.parent != home / LABELS:
        raise ExportError(
            f"{path} is inside the result; name {pm.path / LABELS / 'NAME'}, or {copy}."
        )
    if folder.name == Path(TISSUE).name:
        raise ExportError(f"{path} is the run's tissue mask; choose another name.")
    if folder.name == Path(CORRECTED).name:
        raise ExportError(f"{path} is for what is corrected by hand; choose another name.")
    return True


def _result_around(path: Path) -> Path | None:
    """The result in whose folder a path lies."""
    return next((home for home in path.resolve().parents if is_result(home)), None)


@contextmanager
def new_target(path: Path, *, is_folder: bool, overwrite: bool) -> Iterator[Path]:
    """A name in a draft beside `path`, renamed to it if all goes well, else removed.

    Raises
    ------
    ExportError
        If `path` is not free, or if the disk refuses.
    """
    check_free(path, is_folder=is_folder, overwrite=overwrite)
    try:
        passing("export")
        # A result without a tissue mask has no folder of labels yet.
        path.absolute().parent.mkdir(exist_ok=True)
        with locked_draft(path) as draft:
            partial = draft.folder / path.name
            yield partial
            passing("export")
            if is_folder:
                sync_tree(partial)
            else:
                sync_file(partial)
            passing("export")
            # Somebody may have written there meanwhile.
            check_free(path, is_folder=is_folder, overwrite=overwrite)
            _publish(partial, path)
            sync_folder(path.absolute().parent)
            draft.discard()
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"{path} cannot be written ({reason}); check the folder, its rights and its space."
        ) from error


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """`new_target` for a file."""
    with new_target(path, is_folder=False, overwrite=overwrite) as partial:
        yield partial


def _publish(partial: Path, path: Path) -> None:
    """Give an export its name; an old folder steps aside first, and goes with the draft."""
    if not partial.is_dir():
        partial.replace(path)
        return
    aside = partial.with_name(f"{path.name}.old")
    try:
        with suppress(FileNotFoundError):
            path.rename(aside)
        _check_old(aside, path)
        passing("export")
        partial.rename(path)
    except BaseException as error:
        if not path.exists() and os.path.lexists(aside):
            aside.rename(path)
        elif isinstance(error, OSError) and path.exists():
            raise _taken(path) from error
        raise


def _check_old(aside: Path, path: Path) -> None:
    """Raise ExportError if what stepped aside is no earlier export: it came since we looked."""
    if aside.exists() and not is_export(aside):
        raise _taken(path)


def _taken(path: Path) -> ExportError:
    return ExportError(
        f"{path} was written by another process meanwhile; it is left as it is, export again."
    )
