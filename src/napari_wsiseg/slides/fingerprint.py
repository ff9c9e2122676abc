"""Tells slides apart by content, never by name: the hash that a result belongs to.

Not a checksum of every byte: a slide may hold many GB. Of a file, the size and blocks
at even distances, first and last among them, are hashed (all of it up to 4 MiB); of a
slide in several files, each file so, in the order of the hashes; of pixels without a
file, shape, type and pixels at even distances.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.slides.resample import ReadPixels

_BLOCK = 64 * 1024
_BLOCKS = 64
_WHOLE_PIXELS = 2**22
_GRID = 8
_SAMPLE = 32


def of_files(paths: Iterable[Path]) -> str:
    """Hex sha256 over the content of the files; names and order do not matter."""
    digests = sorted(_of_file(path) for path in paths)
    return hashlib.sha256(b"files 1" + b"".join(digests)).hexdigest()


def _of_file(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        if size <= _BLOCK * _BLOCKS:
            starts: Sequence[int] = range(0, size, _BLOCK)
        else:
            starts = [index * (size - _BLOCK) // (_BLOCKS - 1) for index in range(_BLOCKS)]
        for start in starts:
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return digest.digest()


def of_memory(levels: Sequence[NDArray[Any]]) -> str:
    """Hex sha256 over arrays in memory: every pixel up to 4 Mpx, else every n-th."""
    digest = _over_shapes(levels)
    height, width = levels[0].shape[:2]
    step = max(1, int(np.ceil(np.sqrt(height * width / _WHOLE_PIXELS))))
    digest.update(np.ascontiguousarray(levels[0][::step, ::step]).tobytes())
    return digest.hexdigest()


def of_pixels(levels: Sequence[Any], sizes: Sequence[Size], readers: Sequence[ReadPixels]) -> str:
    """Hex sha256 over lazy levels: 8 x 8 patches of the first, the last whole where it is small.

    What is damaged counts as that: a slide with a spoiled chunk is one as long as it is spoiled.

    Parameters
    ----------
    levels
        The arrays, for their shapes and types.
    sizes, readers
        Height and width, and how to read, a level each.
    """
    digest = _over_shapes(levels)
    if sizes[-1].area <= _WHOLE_PIXELS and len(sizes) > 1:
        digest.update(_bytes(readers[-1], Region(0, 0, sizes[-1])))
    for top in _even(sizes[0].height):
        for left in _even(sizes[0].width):
            box = Region(top, left, Size(_SAMPLE, _SAMPLE)).clipped(sizes[0])
            digest.update(_bytes(readers[0], box))
    return digest.hexdigest()


def _bytes(read: ReadPixels, box: Region) -> bytes:
    try:
        return read(box).tobytes()
    # A disk that fails now may not fail the next time; what is left is a codec's complaint.
    except (OSError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - codecs raise what they like
        return b"damaged"


def _even(length: int) -> list[int]:
    last = max(length - _SAMPLE, 0)
    return sorted({index * last // (_GRID - 1) for index in range(_GRID)})


def _over_shapes(levels: Sequence[Any]) -> hashlib._Hash:
    text = ";".join(f"{tuple(level.shape)} {np.dtype(level.dtype)}" for level in levels)
    return hashlib.sha256(f"pixels 1 {text}".encode())
