"""Reads TIFF slides tile by tile: Aperio SVS, OME-TIFF, generic pyramids, plain TIFF.

tifffile finds the tiles and decodes each once. Formats that need their maker's rules
to put tiles together (NDPI, BIF, SCN, Philips, Trestle) are left to OpenSlide.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_wsiseg.errors import SlideError, SlideWarning, reason
from napari_wsiseg.geometry import YX, Size
from napari_wsiseg.slides import fingerprint
from napari_wsiseg.slides.claims import check_tiff
from napari_wsiseg.slides.jpeg import check_tile_size, check_whole
from napari_wsiseg.slides.levels import TiledSlide
from napari_wsiseg.slides.pixels import as_rgb, check_pixels, ycc_to_rgb
from napari_wsiseg.slides.scale import choose_scale, describe, make_levels
from napari_wsiseg.slides.tiff_metadata import Metadata, read_metadata
from napari_wsiseg.slides.vendors import vendor_of

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OWN_VENDORS = (None, "aperio", "generic-tiff")
_APERIO_YCC = 33003
_JPEG = (6, 7)
_MASK = 4
_JPEG_2000 = (_APERIO_YCC, 33004, 33005, 34712)
_WEBP = 50001
_PICTURES = (*_JPEG, *_JPEG_2000, _WEBP)
# None, LZW, deflate, PackBits, LZMA, zstd: decoded into a buffer of the tile's size, never beyond.
_BYTES = (1, 5, 8, 32946, 50013, 32773, 34925, 50000)
_MOST_BYTES = 2**30
# More than the tile's pixels, where they do not compress, and the tables of a small one.
_TABLES = 2**20
# Uncompressed rows that lie one after the other are read in strips of our own choice.
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Plane:
    """Where the pixels of one level are: one page, or one page a colour."""

    pages: tuple[tifffile.TiffPage, ...]

    @property
    def page(self) -> tifffile.TiffPage:
        """The page that stands for all: they are stored alike."""
        return self.pages[0]

    @property
    def size(self) -> Size:
        """Height and width of the level."""
        return Size(self.page.imagelength, self.page.imagewidth)

    @property
    def raw(self) -> bool:
        """Whether rows lie uncompressed one after the other, in strips of any height."""
        page = self.page
        return (
            not page.is_tiled
            and page.compression == 1
            and page.predictor == 1
            and page.planarconfig == 1
            and page.bitspersample == 8
            and bool(page.is_contiguous)
        )

    @property
    def tile(self) -> Size:
        """What is decoded at once."""
        page = self.page
        if page.is_tiled:
            return Size(page.tilelength, page.tilewidth)
        rows = _ROWS_AT_ONCE if self.raw else page.rowsperstrip
        return Size(min(rows, page.imagelength), page.imagewidth)

    @property
    def bytes(self) -> int:
        """What a tile takes, decoded."""
        page = self.page
        return self.tile.area * page.samplesperpixel * max(page.bitspersample // 8, 1)

    @property
    def segments(self) -> int:
        """Tiles or strips that cover the level once."""
        across = -(-self.size.width // self.tile.width)
        return across * -(-self.size.height // self.tile.height)


def open_file(path: Path, mpp: YX | None, alias: str | None = None) -> TiffSlide:
    """Open a TIFF file.

    Raises
    ------
    SlideError
        With the reason alone, for a file that is another format's, damaged, or no picture.
    """
    with path.open("rb") as head:
        if head.read(4) not in _MAGIC:
            raise SlideError("it does not start like a TIFF file")
    check_tiff(path)
    vendor = vendor_of(path)
    if vendor not in _OWN_VENDORS:
        raise SlideError(f"a slide of the vendor {vendor} is left to OpenSlide")
    try:
        with tifffile.TiffFile(path) as tif:
            planes = _planes(tif)
            metadata = read_metadata(tif)
            short = _directory_is_short(tif)
            alike = _pages_alike(tif, planes[0])
    except SlideError:
        raise
    # tifffile raises struct, index, key and value errors alike for a damaged file.
    except Exception as error:
        raise SlideError(f"it is cut short or damaged ({reason(error)})") from error
    name = alias or path.name
    if short:
        warnings.warn(
            f"{name} is cut short: its directory goes on beyond its end, and levels may be "
            "missing; copy the file again.",
            SlideWarning,
            stacklevel=2,
        )
    if alike:
        warnings.warn(
            f"{name} holds {alike + 1} pictures of one size; only the first was opened.",
            SlideWarning,
            stacklevel=2,
        )
    return TiffSlide(path, planes, metadata, mpp, alias)


def _pages_alike(tif: tifffile.TiffFile, main: Plane) -> int:
    """How many further pages are as large as the slide: a stack, or channels."""
    if tif.is_ome:
        return 0
    pages = [page.aspage() for page in tif.pages]
    others = [page for page in pages if page.offset != main.page.offset]
    return sum(Plane((page,)).size == main.size and not page.subfiletype & _MASK for page in others)


def _directory_is_short(tif: tifffile.TiffFile) -> bool:
    """Whether the last page that could be read names a next one."""
    file, form = tif.filehandle, tif.tiff
    file.seek(tif.pages.next_page_offset or 0)
    pointer = file.read(form.offsetsize)
    return len(pointer) == form.offsetsize and any(pointer)


def _planes(tif: tifffile.TiffFile) -> list[Plane]:
    """The levels of the slide in this file, large to small, each checked to be readable."""
    if len(tif.pages) == 0:
        raise SlideError("it holds no readable picture and may be cut short")
    if tif.is_ome:
        planes = _ome_planes(tif)
    else:
        pages = [page.aspage() for page in tif.pages]
        main = pages[0]
        sub = [page.aspage() for page in main.pages or ()] if main.subifds else []
        rest = [page for page in pages[1:] if _is_level(tif, page, main)]
        planes = [Plane((page,)) for page in (main, *sub, *rest) if _alike(page, main)]
        planes.sort(key=lambda plane: -plane.size.area)
    for plane in planes:
        _check(plane)
    if tif.is_svs and any(0 in plane.page.databytecounts for plane in planes[1:]):
        raise SlideError("tiles are missing in its lower levels, which OpenSlide fills")
    return planes


def _ome_planes(tif: tifffile.TiffFile) -> list[Plane]:
    """The largest picture of an OME-TIFF; its colours may lie in three pages."""
    series = max(tif.series, key=lambda one: one.keyframe.imagelength * one.keyframe.imagewidth)
    extent = dict(zip(series.axes, series.shape, strict=True))
    stacked = [axis for axis in extent if axis not in "YXSC" and extent[axis] > 1]
    if stacked:
        raise SlideError(f"it holds a stack over the axes {''.join(stacked)}, not one picture")
    planes = []
    for level in series.levels:
        pages = tuple(page.aspage() for page in level.pages if page is not None)
        if len(pages) not in (1, 3) or len(pages) != len(level.pages):
            raise SlideError(f"it has {len(level.pages)} channels, where 1 or 3 (RGB) are needed")
        if any(page.parent.filehandle.path != tif.filehandle.path for page in pages):
            raise SlideError("its pixels are spread over several files; join them into one")
        planes.append(Plane(pages))
    return planes


def _is_level(tif: tifffile.TiffFile, page: tifffile.TiffPage, main: tifffile.TiffPage) -> bool:
    """Whether a further page is a smaller copy of the first (SVS: a tiled page)."""
    if tif.is_svs:
        return bool(page.is_tiled)
    return bool(page.subfiletype & 1) and page.is_tiled == main.is_tiled


def _alike(page: tifffile.TiffPage, main: tifffile.TiffPage) -> bool:
    """Whether two pages show the same field: as wide for their height, within a pixel."""
    factor = main.imagelength / max(page.imagelength, 1)
    off = abs(main.imagewidth / factor - page.imagewidth)
    return (page.samplesperpixel, page.dtype) == (main.samplesperpixel, main.dtype) and (
        off <= 1 + main.imagewidth / main.imagelength
    )


def _check(plane: Plane) -> None:
    page = plane.page
    for each in plane.pages:
        # tifffile looks into the file the first time; later it is closed.
        _ = each.decode, each.jpegtables, each.is_contiguous, each.colormap
    if page.dtype is None:
        raise SlideError(f"its pixels of {page.bitspersample} bits are not supported")
    check_pixels(page.dtype, page.samplesperpixel if len(plane.pages) == 1 else 3)
    if page.compression not in (*_BYTES, *_PICTURES):
        raise SlideError(f"its compression {page.compression!r} is not supported; save it as JPEG")
    if plane.bytes > _MOST_BYTES:
        raise SlideError(
            f"it is stored in pieces of {plane.tile}, which is too large to read; save it in tiles"
        )
    if page.imagedepth > 1:
        raise SlideError(f"it holds {page.imagedepth} focal planes, not one picture")
    # Other colour spaces (CMYK, CIELAB, filters of cameras) would show in wrong colours.
    jpeg = page.compression in (*_JPEG, _APERIO_YCC)
    if page.photometric not in (0, 1, 2, 3) and not (page.photometric == 6 and jpeg):
        raise SlideError(f"its colour space {page.photometric!r} is not supported; save it as RGB")
    expected = plane.segments * (page.samplesperpixel if page.planarconfig == 2 else 1)
    for places in [p for each in plane.pages for p in (each.dataoffsets, each.databytecounts)]:
        if places and np.asarray(places).dtype.kind not in "iu":
            raise SlideError("its list of tiles holds no numbers and may be damaged")
    found = min(len(page.dataoffsets), len(page.databytecounts))
    if not plane.raw and found < expected:
        raise SlideError(f"it lists {found} of {expected} tiles and may be damaged")


class TiffSlide(TiledSlide):
    """A TIFF file, decoded tile by tile."""

    def __init__(
        self,
        path: Path,
        planes: Sequence[Plane],
        metadata: Metadata,
        mpp: YX | None,
        alias: str | None,
    ) -> None:
        levels = make_levels([p.size for p in planes], [p.tile for p in planes])
        self._planes = [next(p for p in planes if p.size == level.size) for level in levels]
        self._file = _SharedFile(path)
        try:
            _warn_if_short(alias or path.name, self._planes, self._file.size)
            scale = choose_scale(mpp, metadata.mpp, metadata.objective_power)
            digest = fingerprint.of_files([path])
            super().__init__(describe(path, metadata.vendor, digest, levels, scale, alias=alias))
        except BaseException:
            self._file.close()
            raise

    def _decode(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        plane = self._planes[level]
        region = self._tile_region(level, row, column)
        if plane.raw:
            return self._decode_raw(plane, region.top, region.size)
        across = -(-plane.size.width // plane.tile.width)
        index = row * across + column
        separate = plane.page.samplesperpixel if plane.page.planarconfig == 2 else 1
        parts = [
            self._segment(page, index + sample * plane.segments)
            for page in plane.pages
            for sample in range(separate)
        ]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            # A tile that was left out when the file was written shows bare glass.
            return np.full((region.size.height, region.size.width, 3), 255, np.uint8)
        stored = known[0] if len(known) == 1 else np.concatenate(known, axis=2)
        return _as_shown(plane, stored[: region.size.height, : region.size.width])

    def _decode_raw(self, plane: Plane, top: int, size: Size) -> NDArray[np.uint8]:
        samples = plane.page.samplesperpixel
        stride = plane.size.width * samples
        data = self._file.read(plane.page.dataoffsets[0] + top * stride, size.height * stride)
        stored = np.frombuffer(data, np.uint8).reshape(size.height, size.width, samples)
        return _as_shown(plane, stored)

    def _segment(self, page: tifffile.TiffPage, index: int) -> NDArray[Any] | None:
        count = page.databytecounts[index]
        if count == 0:
            return None
        if count > 2 * Plane((page,)).bytes + _TABLES:
            raise SlideError(
                f"a tile claims to be stored in {count} bytes, more than its pixels are"
            )
        data = self._file.read(page.dataoffsets[index], count)
        if page.compression in _PICTURES:
            check_tile_size(data, Plane((page,)).tile)
        if page.compression in _JPEG:
            check_whole(data)
            stored = page.decode(data, index, jpegtables=page.jpegtables)[0]
        else:
            stored = page.decode(data, index)[0]
        return None if stored is None else stored[0]

    def _release(self) -> None:
        super()._release()
        self._file.close()


def _as_shown(plane: Plane, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """RGB on white from the samples of a level, by its colour space."""
    page = plane.page
    if len(plane.pages) == 3:
        return as_rgb(stored)
    if page.compression == _APERIO_YCC:
        return ycc_to_rgb(stored)
    if page.photometric == 3:
        table = np.asarray(page.colormap)
        return np.ascontiguousarray((table.T >> 8).astype(np.uint8)[stored[:, :, 0]])
    if page.photometric == 0:
        stored = stored.copy()
        stored[:, :, 0] = (1 if stored.dtype.kind == "f" else 255) - stored[:, :, 0]
    colours = 3 if page.photometric in (2, 6) else 1
    extra = page.extrasamples
    if stored.shape[2] > colours and not (extra and extra[0] in (1, 2)):
        stored = stored[:, :, :colours]
    return as_rgb(stored[:, :, : colours + 1], premultiplied=bool(extra) and extra[0] == 1)


def _warn_if_short(name: str, planes: Sequence[Plane], size: int) -> None:
    """Tell of tiles beyond the end of the file: reading there will fail, elsewhere not."""
    ends = [
        np.asarray(page.dataoffsets[: len(page.databytecounts)], np.float64)
        + np.asarray(page.databytecounts[: len(page.dataoffsets)], np.float64)
        for plane in planes
        for page in plane.pages
    ]
    missing = sum(int((end > size).sum()) for end in ends)
    total = sum(len(end) for end in ends)
    if missing == total:
        raise SlideError(f"it is cut short: all of its {total} tiles lie beyond its end")
    if missing:
        warnings.warn(
            f"{name} is cut short: {missing} of its {total} tiles lie beyond its end, and reading "
            "there fails; copy the file again.",
            SlideWarning,
            stacklevel=2,
        )


class _SharedFile:
    """A file that many threads read at any place."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, count: int) -> bytes:
        if not 0 <= offset <= offset + count <= self.size:
            raise SlideError(f"it is cut short: {count} bytes at {offset} lie beyond its end")
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(count)
        if len(data) < count:
            raise SlideError("it changed while it was read; open it again")
        return data

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        # Layers of a window hold slides that nobody closes.
        if hasattr(self, "_file"):
            self._file.close()
