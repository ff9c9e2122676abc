"""New results appear whole or not at all, and replace nothing that is not ours.

Exports are made in a draft too. Knows folders, not what is in them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from napari_wsiseg.errors import StoreError
from napari_wsiseg.faults import passing
from napari_wsiseg.store.files import (
    LOOKS_AFTER_FAILURE,
    PARTIAL,
    naming,
    partial_name,
    remove_partial,
    sync_folder,
    sync_tree,
)
from napari_wsiseg.store.lock import LOCKS, WriterLock, is_written, owners
from napari_wsiseg.store.metadata import is_result


@dataclass(frozen=True, slots=True)
class Draft:
    """A folder in which something is made.

    Parameters
    ----------
    folder
        Its temporary name, beside what it is for.
    lock
        Ours; it goes along when the folder gets a result's name.
    """

    folder: Path
    lock: WriterLock


@contextmanager
def locked_draft(target: Path) -> Iterator[Draft]:
    """A folder beside `target`, which goes if the block fails, and with the next one if we die.

    Raises
    ------
    StoreError
        If it cannot be locked.
    OSError
        If it cannot be made.
    """
    _sweep(target)
    folder = partial_name(target.with_name(f".{target.name}"))
    folder.mkdir()
    lock: WriterLock | None = None
    try:
        passing("draft")
        lock = WriterLock.acquire(folder)
        yield Draft(folder, lock)
    except BaseException:
        # A forked child ends its copy of this too, and must leave its parent's folder.
        if lock is None or lock.is_held:
            remove_partial(folder, LOOKS_AFTER_FAILURE)
        if lock is not None:
            # It may have its name already.
            lock.moved(target).release()
        raise


@contextmanager
def draft_of(target: Path, *, overwrite: bool) -> Iterator[Draft]:
    """A folder that becomes `target` when the block ends, and goes if it fails.

    Raises
    ------
    StoreError
        If something is at `target` already: anything but a result of ours always, a
        result unless `overwrite` is given, and one that is being written always. If
        the disk refuses.
    """
    old = _lock_old(target, overwrite=overwrite)
    try:
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            passing("draft")
            with locked_draft(target) as draft:
                yield draft
                passing("draft")
                sync_tree(draft.folder)
                _publish(draft.folder, target)
    finally:
        if old is not None:
            old.release()


def check_ours(target: Path) -> None:
    """Make sure that what is at `target`, if anything, is a result of ours.

    Raises
    ------
    StoreError
        If it is not.
    """
    if (target.exists() or target.is_symlink()) and not is_result(target):
        raise StoreError(
            f"{target} exists and is no result of napari-wsiseg; it is left as it is, "
            "choose another output."
        )


def _lock_old(target: Path, *, overwrite: bool) -> WriterLock | None:
    """Make sure that `target` is free, or may be replaced and nobody writes to it."""
    check_ours(target)
    if not target.exists():
        return None
    if not overwrite:
        raise StoreError(
            f"{target} exists; continue it (on_exists='resume'), replace it "
            "(on_exists='overwrite') or choose another output."
        )
    return WriterLock.acquire(target)


def _publish(folder: Path, target: Path) -> None:
    """Give the folder its name; an old result steps aside first and is deleted last."""
    passing("draft")
    if not target.exists():
        folder.rename(target)
        sync_folder(target.parent)
        return
    aside = partial_name(target.with_name(f".{target.name}"))
    target.rename(aside)
    try:
        passing("draft")
        folder.rename(target)
    except BaseException:
        if not target.exists():
            aside.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove drafts of `target` whose makers died."""
    pattern = re.compile(re.escape(f".{target.name}.") + "[0-9a-f]{32}" + re.escape(PARTIAL))
    for path in target.absolute().parent.iterdir():
        if pattern.fullmatch(path.name) is None or is_written(path):
            continue
        if any(owners(path)):
            shutil.rmtree(path, ignore_errors=True)
        else:
            _remove_empty(path)


def _remove_empty(draft: Path) -> None:
    """Remove a draft whose maker died before it could lock it: by then there is nothing in it."""
    with suppress(OSError):
        if (draft / LOCKS).is_dir():
            (draft / LOCKS).rmdir()
        draft.rmdir()
