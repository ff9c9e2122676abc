"""Keeps averaged display levels between sessions; knows no slide.

One Zarr folder a fingerprint, written under a temporary name and renamed when it is
complete. What was used longest ago goes when the folder passes its limit. Everything
here can be deleted at any time: it is made again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import platformdirs
import zarr
from zarr.codecs import BloscCodec

from napari_wsiseg.geometry import Size

VARIABLE = "NAPARI_WSISEG_CACHE"
MAX_BYTES = 20 * 10**9
_FORMAT = 1
_PARTIAL = ".partial"
_INCOMPLETE = "incomplete"
# Levels that a window may be showing stay, as do those that are being written.
_IN_USE_SECONDS = 24 * 3600


def folder() -> Path:
    """Where display levels are kept: $NAPARI_WSISEG_CACHE, else the user's cache folder."""
    root = os.environ.get(VARIABLE) or platformdirs.user_cache_dir("napari-wsiseg", appauthor=False)
    return Path(root) / "display"


def find(fingerprint: str, sizes: Sequence[Size], *, incomplete: bool = False) -> list[Any] | None:
    """The levels kept for this slide, or None where there are none of these sizes.

    Levels that were marked as incomplete count only where `incomplete` is set.
    """
    path = _entry(fingerprint)
    try:
        group = zarr.open_group(path, mode="r")
        arrays = [group[str(index)] for index in range(len(sizes))]
        whole = incomplete or not group.attrs.get(_INCOMPLETE)
        fits = (
            whole
            and group.attrs.get("format") == _FORMAT
            and all(
                isinstance(a, zarr.Array)
                and a.shape == (s.height, s.width, 3)
                and a.dtype == "uint8"
                for a, s in zip(arrays, sizes, strict=True)
            )
        )
    # Whatever lies there and is not what we wrote is made again.
    except Exception:  # noqa: BLE001
        return None
    if not fits:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return arrays


def make(
    fingerprint: str, sizes: Sequence[Size], build: Callable[[zarr.Group], object]
) -> list[Any]:
    """Let `build` write the levels, keep them, and drop the oldest of others.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    root = folder()
    root.mkdir(parents=True, exist_ok=True)
    path = _entry(fingerprint)
    partial, aside = (
        path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}{_PARTIAL}") for _ in range(2)
    )
    try:
        build(zarr.create_group(partial, attributes={"format": _FORMAT}))
        # Another process may have been quicker; what is there and not ours is replaced.
        if find(fingerprint, sizes) is None:
            with contextlib.suppress(FileNotFoundError):
                path.rename(aside)
            partial.replace(path)
    except OSError:
        # It may have been quicker by so little.
        if find(fingerprint, sizes) is None:
            raise
    finally:
        for left in (partial, aside):
            shutil.rmtree(left, ignore_errors=True)
    _trim(root, path)
    kept = find(fingerprint, sizes, incomplete=True)
    if kept is None:
        raise OSError(f"{path} cannot be read back")
    return kept


def mark_incomplete(group: zarr.Group) -> None:
    """Say that the levels show less than the slide may give another time."""
    group.attrs[_INCOMPLETE] = True


def create(group: zarr.Group, name: str, size: Size, chunk: int) -> Any:
    """An empty level, white where nothing is written."""
    return group.create_array(
        name,
        shape=(size.height, size.width, 3),
        chunks=(min(chunk, size.height), min(chunk, size.width), 3),
        dtype="uint8",
        fill_value=255,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle"),
    )


def _entry(fingerprint: str) -> Path:
    return folder() / f"{fingerprint[:32]}.zarr"


def _trim(root: Path, keep: Path) -> None:
    """Delete what was used longest ago until the rest is within the limit."""
    entries = []
    for path in root.iterdir():
        with contextlib.suppress(OSError):
            entries.append((path.stat().st_mtime, path, _bytes(path)))
    total = sum(size for _, _, size in entries)
    used_since = time.time() - _IN_USE_SECONDS
    for used, path, size in sorted(entries):
        stale = path.name.endswith(_PARTIAL)
        if path != keep and used < used_since and (stale or total > MAX_BYTES):
            shutil.rmtree(path, ignore_errors=True)
            total -= size


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
