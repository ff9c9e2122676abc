"""Files of Zarr folders that others made: plain ones alone, each no larger than it can be.

Zarr's own store reads whatever has the name of a chunk to its end, which a device never reaches,
and waits for whoever writes to a pipe. Knows no codec and no pixel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from napari_wsiseg.documents import UnreadableError, open_plain

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

_LARGEST_METADATA = 2**24


class PlainFiles(LocalStore):
    """A Zarr folder, read only.

    Parameters
    ----------
    root
        The folder.
    read_only
        As Zarr's own stores take it; it has to be true.
    most, most_of_part
        Bytes of a file that is read whole, and of a part of one; what has more is refused.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        read_only: bool = True,
        most: int = _LARGEST_METADATA,
        most_of_part: int = _LARGEST_METADATA,
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._most, self._most_of_part = most, most_of_part

    def limited(self, most: int, most_of_part: int) -> Self:
        """The same folder with other limits."""
        return type(self)(self.root, read_only=self.read_only, most=most, most_of_part=most_of_part)

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same folder, as Zarr copies stores."""
        return type(self)(
            self.root, read_only=read_only, most=self._most, most_of_part=self._most_of_part
        )

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """A file's bytes, or a part of them; None where there is none.

        Raises
        ------
        OSError, UnreadableError
            If it cannot be read, is a pipe or a device, or is larger than it can be.
        """
        try:
            content = _read(self.root / key, byte_range, self._most, self._most_of_part)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except UnreadableError as error:
            raise UnreadableError(f"{key}: {error}") from None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(content)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """The same in a thread; errors as `get_sync`."""
        return await asyncio.to_thread(
            self.get_sync, key, prototype=prototype, byte_range=byte_range
        )

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Parts of several files; errors as `get_sync`."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]


def _read(path: Path, asked: ByteRequest | None, most: int, most_of_part: int) -> bytes:
    with open_plain(path) as file:
        start, stop = _span(asked, file.seek(0, 2))
        limit = most if asked is None else most_of_part
        if stop - start > limit:
            raise UnreadableError(
                f"it takes {stop - start} bytes, where it can take {limit} at the most"
            )
        file.seek(start)
        return file.read(stop - start)


def _span(asked: ByteRequest | None, size: int) -> tuple[int, int]:
    """Where what was asked for begins and ends in a file of this size."""
    match asked:
        case RangeByteRequest(start, end):
            start, stop = min(start, size), min(end, size)
        case OffsetByteRequest(offset):
            start, stop = min(offset, size), size
        case SuffixByteRequest(suffix):
            start, stop = max(size - suffix, 0), size
        case _:
            start, stop = 0, size
    return start, max(start, stop)
