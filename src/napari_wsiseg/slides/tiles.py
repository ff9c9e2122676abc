"""Keeps the tiles that were decoded last, so that neighbours' reads decode each once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

Key = tuple[int, int, int]
Tile = NDArray[np.uint8]

CACHE_BYTES = 32 * 2**20


class TileCache:
    """The tiles used last, up to `max_bytes`; safe for many threads.

    Two threads that want one tile at once decode it once: the second waits. The tile
    made last is kept even where it alone is above `max_bytes`.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Key, Tile] = OrderedDict()
        self._pending: dict[Key, Future[Tile]] = {}
        self._bytes = 0

    def get(self, key: Key, decode: Callable[[], Tile]) -> Tile:
        """The tile of this key, from `decode()` where it is not kept; do not write into it."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
            pending = self._pending.get(key)
            mine: Future[Tile] = Future()
            if pending is None:
                self._pending[key] = mine
        return self._make(key, decode, mine) if pending is None else pending.result()

    def clear(self) -> None:
        """Forget all tiles."""
        with self._lock:
            self._tiles.clear()
            self._bytes = 0

    def _make(self, key: Key, decode: Callable[[], Tile], mine: Future[Tile]) -> Tile:
        try:
            tile = decode()
        except BaseException as error:
            with self._lock:
                del self._pending[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._pending[key]
            self._keep(key, tile)
        mine.set_result(tile)
        return tile

    def _keep(self, key: Key, tile: Tile) -> None:
        self._tiles[key] = tile
        self._bytes += tile.nbytes
        while self._bytes > self._max_bytes and len(self._tiles) > 1:
            _, dropped = self._tiles.popitem(last=False)
            self._bytes -= dropped.nbytes
