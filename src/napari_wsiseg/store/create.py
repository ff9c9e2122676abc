"""Begins results and reopens them for writing; knows no run and no band."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.storage import MemoryStore

from napari_wsiseg.documents import LARGEST_JSON
from napari_wsiseg.errors import StoreError
from napari_wsiseg.store.arrays import create_arrays, open_arrays
from napari_wsiseg.store.drafts import draft_of
from napari_wsiseg.store.files import check_no_links
from napari_wsiseg.store.homes import Memory, WritableFolder
from napari_wsiseg.store.layout import MapLayout, TissueImage
from napari_wsiseg.store.lock import WriterLock
from napari_wsiseg.store.map import ProbabilityMap
from napari_wsiseg.store.metadata import FORMAT, ROOT, RunInfo, attributes, read_metadata
from napari_wsiseg.store.state import ANEW, State, write_state
from napari_wsiseg.store.tissue_labels import tissue_attributes, write_tissue

if TYPE_CHECKING:
    from zarr.abc.store import Store
    from zarr.core.buffer import Buffer

# Longer than this, two values are hashes or tables, which nobody compares by eye.
_LONGEST_VALUES = 80


def create_folder(
    target: Path,
    layout: MapLayout,
    info: RunInfo,
    tissue: TissueImage | None,
    *,
    overwrite: bool,
) -> WritableFolder:
    """An empty result on disk, locked.

    Raises
    ------
    StoreError
        If something stands in the way, or the disk refuses; nothing is left then.
    """
    with draft_of(target, overwrite=overwrite) as draft:
        put = partial(_put, draft.folder)
        made: dict[str, Buffer] = {}
        # Where Zarr is interrupted its threads still write, and would make a folder anew.
        _fill(MemoryStore(made), put, layout, info, tissue)
        for key, value in made.items():
            if len(value) > LARGEST_JSON and key == ROOT:
                raise StoreError(
                    f"What {target.name} says of its run would take {len(value) / 1e6:.0f} MB, of "
                    f"which {LARGEST_JSON / 1e6:.0f} are read; name simpler regions."
                )
            put(key, value.to_bytes())
        write_state(draft.folder, State("running"))
    return _writable(target, draft.lock.moved(target), info.identity)


def create_memory(layout: MapLayout, info: RunInfo, tissue: TissueImage | None) -> Memory:
    """An empty result in memory."""
    home = Memory(layout.grid.chunk_shape)
    _fill(home.store, partial(home.put, rank=0), layout, info, tissue)
    return home


def reopen_folder(target: Path, identity: Mapping[str, Any]) -> WritableFolder:
    """A result on disk that has this identity, locked.

    Raises
    ------
    StoreError
        If it has another or another format, is being written or cannot be read.
    """
    _check_same(target, identity)
    check_no_links(target)
    # Another may have replaced it before we had its lock.
    return _writable(target, WriterLock.acquire(target), identity)


def _check_same(target: Path, identity: Mapping[str, Any]) -> None:
    """Raise StoreError unless this is a result that can be continued by a run of this identity."""
    metadata = read_metadata(target)
    if metadata.format != FORMAT:
        raise StoreError(
            f"{target} cannot be continued: it is in format {metadata.format}, and this version "
            f"writes {FORMAT}; choose another output, or {ANEW}."
        )
    stored = metadata.info
    if names := stored.differences(identity):
        differences = ", ".join(
            _told(name, stored.identity.get(name), identity.get(name)) for name in names
        )
        raise StoreError(
            f"{target} cannot be continued: it differs in {differences}; choose another output, "
            f"or {ANEW}."
        )


def _writable(target: Path, lock: WriterLock, identity: Mapping[str, Any]) -> WritableFolder:
    """The result of this identity that has this lock; that is given back if it is another."""
    try:
        _check_same(target, identity)
        shape = ProbabilityMap.open(target).grid.chunk_shape
        return WritableFolder(target, shape, lock)
    except BaseException:
        lock.release()
        raise


def _put(folder: Path, key: str, data: bytes) -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _told(name: str, there: object, here: object) -> str:
    """What differs, in words: of nested values only the parts, of hashes only the name."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        parts = [key for key in {**there, **here} if there.get(key) != here.get(key)]
        return ", ".join(_told(f"{name} {key}", there.get(key), here.get(key)) for key in parts)
    values = f"{there!r} there, {here!r} here"
    return name if len(values) > _LONGEST_VALUES else f"{name} ({values})"


def _fill(
    store: Store,
    put: Callable[[str, bytes], None],
    layout: MapLayout,
    info: RunInfo,
    tissue: TissueImage | None,
) -> None:
    described = None if tissue is None else tissue_attributes(layout, tissue)
    has_tissue = tissue is not None
    create_arrays(store, layout, attributes(layout, info, has_tissue=has_tissue), described)
    arrays = open_arrays(store, layout, has_tissue=has_tissue)
    if tissue is not None and arrays.tissue is not None:
        write_tissue(arrays.tissue, layout, tissue.mask, put)
