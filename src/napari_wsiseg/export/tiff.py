"""Writes pyramidal OME-TIFF: labels, or probabilities.

Levels are SubIFDs, tiles are 512 x 512 and compressed with zlib; they are written row by
row, so that memory is that of a row of tiles. Bio-Formats, QuPath and tifffile see all
levels; OpenSlide, which knows no SubIFDs, sees level 0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.qupath_script import check_script, write_script
from napari_wsiseg.export.request import ExportRequest, Step
from napari_wsiseg.export.tiff_metadata import ome_metadata
from napari_wsiseg.export.tiff_planes import TILE, Labels, Planes, Probabilities
from napari_wsiseg.geometry import Region
from napari_wsiseg.labels.pyramid import histogram
from napari_wsiseg.validation import raises

# Tiles that are read at once.
_PANEL = 8 * TILE
# Bytes that tifffile holds at once of what it packs or unpacks: unless told it takes 256 MB.
_BUFFER = 8 << 20
_LOOK = 0.1


@raises(ExportError, "An OME-TIFF export")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TiffWriter:
    """Writes labels or probabilities as a pyramidal OME-TIFF.

    Labels come with a Groovy script beside the file that imports them into QuPath.
    Classes that exclude each other are one channel of labels, others one channel each.

    Parameters
    ----------
    content
        "labels", or "probabilities": a channel a class, as stored (uint8 is probability *
        255), float16 as float32.
    not_analysed
        255: the value of pixels that were not analysed. None: 0, as those without a
        label. Of labels only.

    Raises
    ------
    ExportError
        If an option has another value, or the two contradict each other.
    """

    content: Literal["labels", "probabilities"] = "labels"
    not_analysed: Literal[255] | None = None

    def __post_init__(self) -> None:
        if self.content == "probabilities" and self.not_analysed is not None:
            raise ExportError("Probabilities have no value for not_analysed; export the labels.")

    def write(self, request: ExportRequest, partial: Path, target: Path) -> Iterator[Step]:
        """Write to `partial`, then read that back and compare; for labels, write the script.

        Raises
        ------
        ExportError
            If the script's name is taken, or what was written does not read back.
        StoreError
            If the map cannot be read.
        """
        if not request.codes:
            raise ExportError("No class is exported; name one at least.")
        if self.content == "probabilities":
            if request.labels.corrections:
                raise ExportError("Probabilities are the model's, not corrected; export labels.")
            yield from _write(request, Probabilities(request), partial, target, 0.0)
            return
        check_script(target)
        # Beside the file: there is room, or there is none for the file either.
        with TemporaryDirectory(
            prefix=f"{partial.name}-", dir=partial.parent, ignore_cleanup_errors=True
        ) as folder:
            labels = Labels(request, Path(folder), self.not_analysed)
            for part in labels.prepare():
                yield Step("writing", 0.6 * part)
            yield from _write(request, labels, partial, target, 0.6)
        script = write_script(request, target)
        yield Step(
            "checking",
            1.0,
            f"{script.name} imports the labels into QuPath: open it there with the slide.",
        )


def _write(
    request: ExportRequest, planes: Planes, partial: Path, target: Path, begun: float
) -> Iterator[Step]:
    metadata = ome_metadata(request, planes, target.name)
    written = _Written(planes)

    def work() -> None:
        _write_tiff(partial, planes, metadata, written)

    for _ in _in_background(work, written.stop):
        yield Step("writing", begun + (1 - begun) * written.part)
    yield Step("writing", 1.0)
    planes.check(written.counts)
    yield from _check(partial, target, planes, written.counts)


class _Written:
    """What has been handed to the file: how much, and how many bytes of which value.

    Parameters
    ----------
    planes
        What is written.
    """

    def __init__(self, planes: Planes) -> None:
        self.counts = np.zeros((len(planes.sizes), planes.count, 256), np.int64)
        self.stop = threading.Event()
        self._pixels = 0
        self._total = planes.count * sum(size.area for size in planes.sizes)

    @property
    def part(self) -> float:
        """0..1."""
        return self._pixels / self._total

    def tiles(self, planes: Planes, level: int) -> Iterator[NDArray[Any]]:
        """The tiles of a level, plane by plane, from the top left; padded with 0."""
        size = planes.sizes[level]
        for plane in range(planes.count):
            for top in range(0, size.height, TILE):
                for left in range(0, size.width, _PANEL):
                    region = Region.from_bounds(top, left, top + TILE, left + _PANEL).clipped(size)
                    block = planes.read(plane, level, region)
                    self.counts[level, plane] += histogram(block)
                    self._pixels += region.size.area
                    for column in range(0, region.size.width, TILE):
                        if self.stop.is_set():
                            raise _Stopped
                        yield _padded(block[:, column : column + TILE])


class _Stopped(Exception):  # noqa: N818 - nothing has failed
    """The export was closed while it wrote."""


def _padded(tile: NDArray[Any]) -> NDArray[Any]:
    if tile.shape == (TILE, TILE):
        return np.ascontiguousarray(tile)
    whole = np.zeros((TILE, TILE), tile.dtype)
    whole[: tile.shape[0], : tile.shape[1]] = tile
    return whole


def _write_tiff(path: Path, planes: Planes, metadata: dict[str, Any], written: _Written) -> None:
    mpp = planes.mpp
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for level, size in enumerate(planes.sizes):
            scale: dict[str, Any] = {}
            if mpp is not None:
                per_cm = tuple(10_000 / (um * 2**level) for um in (mpp.x, mpp.y))
                scale = {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
            place: dict[str, Any] = {"subfiletype": 1, "metadata": None}
            if level == 0:
                place = {"subifds": len(planes.sizes) - 1, "metadata": metadata}
            tiff.write(
                written.tiles(planes, level),
                shape=(*planes.leading, size.height, size.width),
                dtype=planes.dtype,
                tile=(TILE, TILE),
                photometric="minisblack",
                compression="zlib",
                buffersize=_BUFFER,
                software=metadata["Creator"],
                **scale,
                **place,
            )


def _in_background(work: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    """Do the work in a thread, and look up now and then; closed, it stops the work.

    tifffile asks for its tiles: a generator cannot hand them over one by one.
    """
    done: SimpleQueue[None] = SimpleQueue()
    with ThreadPoolExecutor(1, "wsiseg-tiff") as pool:
        future = pool.submit(work)
        future.add_done_callback(lambda _: done.put(None))
        try:
            while not future.done():
                yield
                try:
                    done.get(timeout=_LOOK)
                except Empty:
                    continue
        finally:
            stop.set()
        future.result()


def _check(
    partial: Path, target: Path, planes: Planes, counts: NDArray[np.int64]
) -> Iterator[Step]:
    """Read what was written, tile by tile.

    Raises
    ------
    ExportError
        If it is not what was written.
    """
    damaged = ExportError(
        f"{target} did not read back as it was written; check the disk and export again."
    )
    found = np.zeros_like(counts)
    done, total = 0, planes.count * sum(size.area for size in planes.sizes)
    try:
        for level, plane, tile in _tiles(partial, planes):
            found[level, plane] += histogram(tile)
            done += tile.size
            yield Step("checking", min(done / total, 1.0))
    # tifffile and its codecs fail in ways that nobody lists.
    except Exception as error:
        raise damaged from error
    if done != total or (found != counts).any():
        raise damaged


def _tiles(path: Path, planes: Planes) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Level, plane and pixels of every tile, without what pads them; none of another image."""
    shapes = [(*planes.leading, size.height, size.width) for size in planes.sizes]
    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        same = tiff.series[0].axes == "CYX"[-len(shapes[0]) :]
        if not same or [level.shape for level in levels] != shapes:
            return
        for level, plane in np.ndindex(len(levels), planes.count):
            size, page = planes.sizes[level], levels[level].pages[plane]
            assert page is not None  # noqa: S101 - the shapes say that it is there
            for tile, place, _ in page.segments(maxworkers=1, buffersize=_BUFFER):
                if tile is not None:
                    top, left = place[2:4]
                    yield level, plane, tile[0, : size.height - top, : size.width - left, 0]
