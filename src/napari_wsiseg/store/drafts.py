"""New results appear whole or not at all, and replace nothing that is not ours.

Knows folders, not what is in them.
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
from napari_wsiseg.store.files import PARTIAL, naming, partial_name, sync_folder, sync_tree
from napari_wsiseg.store.lock import LOCKS, WriterLock, may_write, owners
from napari_wsiseg.store.metadata import is_result


@dataclass(frozen=True, slots=True)
class Draft:
    """A folder that is not yet a result.

    Parameters
    ----------
    folder
        Its temporary name, beside the result's.
    lock
        Ours; it goes along when the folder gets its name.
    """

    folder: Path
    lock: WriterLock


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
            _sweep(target)
            folder = partial_name(target.with_name(f".{target.name}"))
            passing("draft")
            folder.mkdir()
        try:
            with naming(target):
                passing("draft")
                yield Draft(folder, WriterLock.acquire(folder))
                passing("draft")
                sync_tree(folder)
                _publish(folder, target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
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
    except OSError:
        aside.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove drafts of `target` whose makers died."""
    pattern = re.compile(re.escape(f".{target.name}.") + "[0-9a-f]{32}" + re.escape(PARTIAL))
    for path in target.parent.iterdir():
        if pattern.fullmatch(path.name):
            makers = list(owners(path))
            if not makers:
                _remove_empty(path)
            elif not any(may_write(path, maker) for maker in makers):
                shutil.rmtree(path, ignore_errors=True)


def _remove_empty(draft: Path) -> None:
    """Remove a draft whose maker died before it could lock it: by then there is nothing in it."""
    with suppress(OSError):
        if (draft / LOCKS).is_dir():
            (draft / LOCKS).rmdir()
        draft.rmdir()
