"""New results appear whole or not at all, and replace nothing that is not ours.

Exports are made in a draft too. Knows folders, not what is in them.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
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

# Temporary folders are for nobody else.
_PRIVATE, _AS_ALL = 0o700, 0o777


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

    def discard(self, looks: int = 1) -> None:
        """Remove it; a second call does nothing, nor does one in a forked child.

        Parameters
        ----------
        looks
            As for `remove_partial`.
        """
        if self.lock.is_held:
            _remove(self.folder, self.lock)
            remove_partial(self.folder, looks)


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
    draft = _new_draft(target, _AS_ALL)
    try:
        yield draft
    except BaseException:
        if draft.folder.exists():
            draft.discard(LOOKS_AFTER_FAILURE)
        # It may have its name already.
        draft.lock.moved(target).release()
        raise


def temporary_draft(parent: Path) -> Draft:
    """A folder that is to be discarded; it goes with the next one in `parent` if we die.

    Raises
    ------
    StoreError
        If it cannot be locked.
    OSError
        If it cannot be made.
    """
    return _new_draft(parent / "napari-wsiseg", _PRIVATE)


def _new_draft(target: Path, mode: int) -> Draft:
    _sweep(target)
    while True:
        folder = partial_name(target.with_name(f".{target.name}"))
        folder.mkdir(mode)
        try:
            passing("draft")
            return Draft(folder, WriterLock.acquire(folder))
        except BaseException as error:
            # Another process takes one without a lock for that of one who died, and sweeps it.
            is_swept = isinstance(error, StoreError) and not folder.exists()
            if not is_swept:
                shutil.rmtree(folder, ignore_errors=True)
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
    check_ours(target)
    if target.is_symlink():
        # It stays, and what it leads to, maybe on a larger drive, is replaced there.
        target = target.resolve()
    old = _lock_old(target, overwrite=overwrite)
    try:
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            passing("draft")
            with locked_draft(target) as draft:
                yield draft
                passing("draft")
                sync_tree(draft.folder)
                _publish(draft, target, old)
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
    if not target.exists():
        return None
    if not overwrite:
        raise StoreError(
            f"{target} exists; continue it (on_exists='resume'), replace it "
            "(on_exists='overwrite') or choose another output."
        )
    return WriterLock.acquire(target)


def _publish(draft: Draft, target: Path, old: WriterLock | None) -> None:
    """Give the draft its name; an old result steps aside first and is deleted last.

    Only the one that we hold the lock of does: another process may have made, or replaced, a
    result there since we looked.
    """
    passing("draft")
    if old is None or _is_free(target):
        _rename(draft, target)
        sync_folder(target.parent)
        return
    aside = partial_name(target.with_name(f".{target.name}"))
    _move(target, aside, old)
    try:
        _check_old(old.moved(aside), target)
        passing("draft")
        _rename(draft, target)
    except BaseException:
        if draft.folder.exists():
            aside.rename(target)
        raise
    sync_folder(target.parent)
    _remove(aside, old.moved(aside))


def _rename(draft: Draft, target: Path) -> None:
    """Give the draft its name if that is free; no system puts it in place of a folder with files.

    Raises
    ------
    StoreError
        If somebody has made something there.
    """
    if not _is_free(target):
        raise _taken(target)
    try:
        _move(draft.folder, target, draft.lock)
    except OSError as error:
        if _is_free(target):
            raise
        raise _taken(target) from error


def _move(folder: Path, target: Path, lock: WriterLock) -> None:
    """Rename a folder that holds our lock."""
    try:
        folder.rename(target)
    except PermissionError:
        # On a Windows server's drive no folder is renamed in which a file is open.
        lock.let_go()
        folder.rename(target)


def _check_old(aside: WriterLock, target: Path) -> None:
    """Raise StoreError if what stepped aside is not the result that may be replaced."""
    if not aside.is_there:
        raise _taken(target)


def _is_free(target: Path) -> bool:
    return not os.path.lexists(target)


def _taken(target: Path) -> StoreError:
    return StoreError(
        f"{target} was made by another process meanwhile; it is left as it is, choose another "
        "output, or run again to continue or replace it."
    )


def _sweep(target: Path) -> None:
    """Remove drafts of `target` whose makers died; what cannot be looked into stays."""
    pattern = re.compile(re.escape(f".{target.name}.") + "[0-9a-f]{32}" + re.escape(PARTIAL))
    parent = target.absolute().parent
    # Anybody may put anything in /tmp.
    only_own = bool(parent.stat().st_mode & stat.S_ISVTX)
    for path in parent.iterdir():
        if pattern.fullmatch(path.name) is None:
            continue
        with suppress(OSError, StoreError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and not (only_own and found.st_uid != os.getuid()):
                _remove_dead(path)


def _remove_dead(draft: Path) -> None:
    """Remove a draft unless its maker lives.

    Raises
    ------
    OSError
        If it cannot be looked into.
    StoreError
        If it cannot be locked.
    """
    if is_written(draft):
        return
    if any(owners(draft)):
        _remove(draft, WriterLock.acquire(draft))
    else:
        _remove_empty(draft)


def _remove(folder: Path, lock: WriterLock) -> None:
    """Remove a folder of ours, its lock last: if we die meanwhile, the next one goes on."""
    with suppress(OSError):
        for path in folder.iterdir():
            if not path.is_dir() or path.is_symlink():
                path.unlink()
            elif path.name != LOCKS:
                shutil.rmtree(path, ignore_errors=True)
    lock.release()
    # Others who wanted the lock may have left theirs.
    shutil.rmtree(folder, ignore_errors=True)


def _remove_empty(draft: Path) -> None:
    """Remove a draft whose maker died before it could lock it: by then there is nothing in it."""
    with suppress(OSError):
        if (draft / LOCKS).is_dir():
            (draft / LOCKS).rmdir()
        draft.rmdir()
