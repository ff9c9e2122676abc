"""Reads what OpenSlide reads: NDPI, MRXS, SCN, BIF, DICOM and others, also SVS and TIFF.

Pixels are asked for in fixed blocks only. OpenSlide places a level's pixels by their
level-0 coordinates, so at levels whose downsample is not whole a free window would
fall between pixels, and parts would differ from the whole.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from napari_wsiseg.errors import SlideError, reason
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides import claims, fingerprint
from napari_wsiseg.slides.claims.beside import is_plain
from napari_wsiseg.slides.levels import TiledSlide
from napari_wsiseg.slides.pixels import as_rgb
from napari_wsiseg.slides.scale import choose_scale, describe, make_levels, positive

# One call to OpenSlide costs about as much as 100 x 100 pixels: join tiles below this side.
_LEAST_SIDE = 200
# What is read at once of files that do not say how they are tiled.
_BLOCK = 512
_CACHE_BYTES = 64 * 2**20
_HEAD = 256 * 1024
_LISTS_OF_FILES = ("hamamatsu",)


def open_file(path: Path, mpp: YX | None, alias: str | None = None) -> OpenSlideSlide:
    """Open a file, or a folder that holds a DICOM series.

    Raises
    ------
    SlideError
        With the reason alone, for what OpenSlide does not open.
    """
    file = _dicom_in(path) if path.is_dir() else path
    claims.check(file)
    try:
        vendor = openslide.OpenSlide.detect_format(file)
        if vendor is None:
            raise SlideError("it knows no such format, or the file is cut short or damaged")
        handle = openslide.OpenSlide(file)
    except openslide.OpenSlideError as error:
        raise SlideError(reason(error)) from error
    try:
        return OpenSlideSlide(path, file, handle, mpp, alias)
    except BaseException:
        handle.close()
        raise


def _dicom_in(folder: Path) -> Path:
    """A file of the first DICOM slide in a folder."""
    for file in sorted(folder.iterdir()):
        if (
            file.is_file()
            and claims.is_dicom(_head(file))
            and openslide.OpenSlide.detect_format(file) == "dicom"
        ):
            return file
    raise SlideError("the folder holds no DICOM slide; give a slide's file")


class OpenSlideSlide(TiledSlide):
    """A slide that OpenSlide decodes."""

    def __init__(
        self,
        path: Path,
        file: Path,
        handle: openslide.OpenSlide,
        mpp: YX | None,
        alias: str | None,
    ) -> None:
        values = handle.properties
        sizes = [Size(height, width) for width, height in handle.level_dimensions]
        levels = make_levels(sizes, [_tile(values, index) for index in range(len(sizes))])
        # OpenSlide counts levels that `make_levels` leaves out (no smaller than the one before).
        self._numbers = [sizes.index(level.size) for level in levels]
        power = positive(values.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER), 1)
        metadata = positive(
            values.get(openslide.PROPERTY_NAME_MPP_Y), values.get(openslide.PROPERTY_NAME_MPP_X)
        )
        vendor = values[openslide.PROPERTY_NAME_VENDOR]
        super().__init__(
            describe(
                path,
                vendor,
                fingerprint.of_files(_files(file, vendor, values)),
                levels,
                choose_scale(mpp, metadata, power.y if power else None),
                bounds=_bounds(values, levels[0].size),
                alias=alias,
            )
        )
        self._file = file
        self._handle = handle
        self._handle_lock = threading.Lock()
        self._bad: dict[tuple[int, int, int], str] = {}
        self._downsamples = handle.level_downsamples
        handle.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))

    def _decode(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        key = (level, row, column)
        if key in self._bad:
            raise openslide.OpenSlideError(self._bad[key])
        region = self._tile_region(*key)
        handle = self._handle
        try:
            return self._pixels(handle, level, region)
        except openslide.OpenSlideError:
            return self._decode_alone(handle, key, region)

    def _pixels(self, handle: openslide.OpenSlide, level: int, region: Region) -> NDArray[np.uint8]:
        number = self._numbers[level]
        scale = self._downsamples[number]
        corner = (round(region.left * scale), round(region.top * scale))
        picture = handle.read_region(corner, number, (region.size.width, region.size.height))
        return as_rgb(np.asarray(picture))

    def _decode_alone(
        self, broken: openslide.OpenSlide, key: tuple[int, int, int], region: Region
    ) -> NDArray[np.uint8]:
        """Decode with a handle that nobody else uses, after one that is shared has failed.

        OpenSlide refuses every read after one that failed, other threads' too: only here
        is it known whose tile is bad. The broken one is left to the garbage collector.
        """
        with self._handle_lock:
            alone = self._opened()
            try:
                pixels = self._pixels(alone, key[0], region)
            except openslide.OpenSlideError as error:
                # To open a handle may take long: no tile is to break another one.
                self._bad[key] = str(error)
                if self._handle is broken:
                    self._handle = self._opened()
                raise
            if self._handle is broken:
                self._handle = alone
            return pixels

    def _opened(self) -> openslide.OpenSlide:
        handle = openslide.OpenSlide(self._file)
        handle.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
        return handle

    def _release(self) -> None:
        super()._release()
        self._handle.close()


def _tile(values: Mapping[str, str], level: int) -> Size:
    """The file's own tile, or as many as make 200 px a side."""
    sides = []
    for axis in ("height", "width"):
        text = values.get(f"openslide.level[{level}].tile-{axis}", "")
        side = int(text) if text.isdigit() and 0 < int(text) <= 8192 else _BLOCK
        sides.append(-(-_LEAST_SIDE // side) * side)
    return Size(*sides)


def _bounds(values: Mapping[str, str], size: Size) -> Region | None:
    names = (
        openslide.PROPERTY_NAME_BOUNDS_Y,
        openslide.PROPERTY_NAME_BOUNDS_X,
        openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
        openslide.PROPERTY_NAME_BOUNDS_WIDTH,
    )
    texts = [values.get(name, "") for name in names]
    if not all(text.isdigit() for text in texts):
        return None
    top, left, height, width = (int(text) for text in texts)
    bounds = Region(top, left, Size(height, width)).clipped(size)
    return None if bounds.is_empty or bounds.size == size else bounds


def _files(file: Path, vendor: str, values: Mapping[str, str]) -> list[Path]:
    """All files that make the slide which `file` opens."""
    if vendor == "mirax":
        return [file, *(p for p in file.with_suffix("").iterdir() if p.is_file())]
    if vendor == "dicom":
        series = values.get("dicom.SeriesInstanceUID", "").encode()
        return [
            p for p in file.parent.iterdir() if p.is_file() and (p == file or _heads(p, series))
        ]
    if vendor in _LISTS_OF_FILES and not _is_tiff(file):
        listed = re.findall(r"=\s*([^\r\n/\\]+)", file.read_text("latin-1"))
        return [
            file,
            *sorted({p for name in listed if is_plain(p := file.parent / name.strip())}),
        ]
    return [file]


def _heads(path: Path, text: bytes) -> bool:
    """Whether a DICOM file's head holds the text."""
    head = _head(path)
    return bool(text) and claims.is_dicom(head) and text in head


def _head(path: Path) -> bytes:
    """How a file beside a slide begins; nothing of one that we may not read, nor OpenSlide."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except PermissionError:
        return b""


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"II", b"MM")
