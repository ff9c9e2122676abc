"""Opens Zarr arrays of others so that no chunk becomes larger than its shape says.

Zarr's own codecs make room for whatever a chunk's header claims: a few kilobytes can fill the
memory. Knows no pixels and no OME metadata.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import imagecodecs
import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec, Codec
from zarr.abc.numcodec import Numcodec
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.core.array import AsyncArray
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.core.metadata import ArrayV2Metadata
from zarr.storage import StorePath

from napari_wsiseg.errors import SlideError
from napari_wsiseg.slides.zarr_files import PlainFiles

MOST_BYTES = 2**30
"""What a chunk may hold, decoded."""

_MOST_IN_A_SHARD = 2**20
# What a shard's index and codecs take for a chunk, at the most.
_LISTED = 2**7
# A codec may add checksums and headers to what the next one compresses.
_SLACK = 2**16

_Decode = Callable[[bytes, int], bytes]


def _lz4(data: bytes, most: int) -> bytes:
    return bytes(imagecodecs.lz4_decode(data, header=True, out=most))


def _by(decode: Callable[..., Any]) -> _Decode:
    return lambda data, most: bytes(decode(data, out=most))


# Those of imagecodecs stop where the room that they are given ends.
_DECODERS: dict[str, _Decode] = {
    "zstd": _by(imagecodecs.zstd_decode),
    "blosc": _by(imagecodecs.blosc_decode),
    "gzip": _by(imagecodecs.gzip_decode),
    "zlib": _by(imagecodecs.zlib_decode),
    "lz4": _lz4,
}
_NAMES: dict[type[Codec], str] = {ZstdCodec: "zstd", BloscCodec: "blosc", GzipCodec: "gzip"}
_HARMLESS = (BytesCodec, Crc32cCodec, TransposeCodec)


@dataclass(frozen=True)
class _Bounded(BytesBytesCodec):
    """A codec of Zarr 3 that decodes to a chunk's size at most."""

    is_fixed_size = False

    codec: BytesBytesCodec
    decoder: _Decode

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        item = chunk_spec.dtype.to_native_dtype().itemsize
        most = math.prod(chunk_spec.shape) * item + _SLACK
        data = await asyncio.to_thread(self.decoder, chunk_bytes.to_bytes(), most)
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        (encoded,) = await self.codec.encode([(chunk_bytes, chunk_spec)])
        return encoded

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        return self.codec.compute_encoded_size(input_byte_length, chunk_spec)


class _BoundedNumcodec(Numcodec):
    """A codec of Zarr 2 that decodes to a chunk's size at most; slides are never written."""

    codec_id = "bounded"

    def __init__(self, decoder: _Decode, most: int) -> None:
        self._decoder, self._most = decoder, most

    def encode(self, buf: Any) -> Any:
        raise NotImplementedError

    def decode(self, buf: Any, out: Any | None = None) -> Any:
        del out
        return self._decoder(bytes(buf), self._most)

    def get_config(self) -> Any:
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: Any) -> Self:
        raise NotImplementedError


def bounded(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, whose chunks are refused where they are larger than their shape.

    Raises
    ------
    SlideError
        With the reason alone, if it holds no numbers, or its chunks are too large, or stored in
        a way that cannot be bounded or runs code.
    """
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "buif":
        raise SlideError(f"its pixels are {array.dtype}, where numbers are needed")
    size = math.prod(array.chunks) * dtype.itemsize
    if size > MOST_BYTES or size == 0:
        raise SlideError(
            f"its chunks of {array.chunks} are too large to read; save it in smaller ones"
        )
    inner = array.async_array
    metadata: Any = inner.metadata
    shard = array.shards or array.chunks
    count = math.prod(shard) // math.prod(array.chunks)
    if count > _MOST_IN_A_SHARD:
        raise SlideError(f"its shards of {shard} hold too many chunks; save it in smaller ones")
    if isinstance(metadata, ArrayV2Metadata):
        changed: Any = _bounded_2(metadata, size)
    else:
        changed = replace(metadata, codecs=tuple(map(_bounded_3, metadata.codecs)))
    place = inner.store_path
    if isinstance(place.store, PlainFiles):
        # What does not compress takes a little more. A part of a shard: its index, or a chunk.
        most, part = 2 * count * (size + _LISTED), 2 * (size + count * _LISTED)
        place = StorePath(place.store.limited(most + _SLACK, part + _SLACK), place.path)
    return zarr.Array(AsyncArray(changed, place, inner.config))


def _bounded_2(metadata: ArrayV2Metadata, most: int) -> ArrayV2Metadata:
    for kept in metadata.filters or ():
        raise _unknown(str(kept.codec_id))
    if metadata.compressor is None:
        return metadata
    name = str(metadata.compressor.codec_id)
    if name not in _DECODERS:
        raise _unknown(name)
    return replace(metadata, compressor=_BoundedNumcodec(_DECODERS[name], most))


def _bounded_3(codec: Codec) -> Codec:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(map(_bounded_3, codec.codecs)))
    if isinstance(codec, _HARMLESS):
        return codec
    name = _NAMES.get(type(codec))
    if name is None or not isinstance(codec, BytesBytesCodec):
        raise _unknown(type(codec).__name__)
    return _Bounded(codec, _DECODERS[name])


def _unknown(name: str) -> SlideError:
    if "pickle" in name.lower():
        return SlideError("it is stored as pickles, which run code and are never read")
    known = ", ".join(_DECODERS)
    return SlideError(f"it is stored with the codec {name!r}; save it with one of {known}")
