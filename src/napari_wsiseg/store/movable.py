"""Keys in memory that can move to disk while arrays use them.

Knows no map, only keys and bytes.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from napari_wsiseg.errors import StoreError
from napari_wsiseg.faults import passing
from napari_wsiseg.store.drafts import temporary_draft
from napari_wsiseg.store.files import naming, once_read, partial_name

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype


class MovableStore(WrapperStore["Store"]):
    """Keys in memory that can move to a temporary folder under the arrays that use them.

    The folder goes when the store is closed or no array holds it any more, or, where the process
    is killed, with the next one. Open arrays over it with mode "r+": Zarr wraps a store for "r" in
    a copy, which would not move.

    Attributes
    ----------
    lock
        Held by whoever writes; `move` waits for it.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._buffers: dict[str, Buffer] = {}
        super().__init__(MemoryStore(self._buffers) if store is None else store)
        self.lock = threading.RLock()
        self._closed = False
        self._remove: weakref.finalize[..., MovableStore] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held in memory; 0 once moved."""
        return sum(len(value) for value in self._buffers.values())

    @property
    def folder(self) -> Path | None:
        """Where the keys lie once moved."""
        return self._store.root if isinstance(self._store, LocalStore) else None

    def move(self, parent: Path | None = None) -> None:
        """Move the keys to a new temporary folder in `parent`; a second call does nothing.

        Raises
        ------
        StoreError
            If the disk refuses; the keys then stay in memory.
        """
        with self.lock:
            if self.folder is not None:
                return
            parent = Path(tempfile.gettempdir()) if parent is None else parent
            with naming(parent):
                draft = temporary_draft(parent)
                try:
                    passing("spill")
                    folder = draft.folder / "map"
                    folder.mkdir()
                    self.copy_to(folder)
                except BaseException:
                    draft.discard()
                    raise
            self._remove = weakref.finalize(self, draft.discard)
            self._store = LocalStore(folder)
            self._buffers = {}

    def copy_to(self, folder: Path) -> None:
        """Write the keys as files of an existing folder."""
        if self.folder is not None:
            shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        for key, value in self._buffers.items():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value.to_bytes())

    def put(self, key: str, data: bytes | None, rank: int) -> None:  # noqa: ARG002 - no order here
        """Set a key, or remove it (None), at once; the caller holds `lock`.

        Raises
        ------
        StoreError
            If the map was moved, and the disk refuses.
        """
        if self.folder is not None:
            path = self.folder / key
            with naming(path):
                if data is None:
                    path.unlink(missing_ok=True)
                    return
                passing("spill")
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = partial_name(path)
                temporary.write_bytes(data)
                once_read(partial(temporary.replace, path))
        elif data is None:
            self._buffers.pop(key, None)
        else:
            self._buffers[key] = default_buffer_prototype().buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of a key; a closed store refuses, where Zarr would read zeros."""
        if self._closed:
            raise StoreError("The map was closed and is gone; save it before it is closed.")
        return await super().get(key, prototype, byte_range)

    def close(self) -> None:
        """Let go of the keys, and of the folder where there is one."""
        self._closed = True
        if self._remove is not None:
            self._remove()
        self._buffers.clear()
        super().close()
