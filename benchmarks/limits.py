"""What no engine can do without, each part alone, with the best settings found; and a plain loop.

Decoding and writing use every core, a tile and a chunk a task; the model computes on patches
that lie in memory. Nothing here knows the engine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import torch  # noqa: TID253 - loaded by whoever times anything here
from numpy.typing import NDArray

from napari_wsiseg.geometry import Resolution
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.models import Segmenter
from napari_wsiseg.slides import Slide
from napari_wsiseg.store import ProbabilityMap

CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Cost:
    """Seconds on the wall and of processors."""

    wall: float
    processor: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.processor + other.processor)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.wall * times, self.processor * times)


class Stopwatch:
    """Adds up what goes on within its contexts."""

    def __init__(self) -> None:
        self.cost = Cost(0.0, 0.0)

    def __enter__(self) -> None:
        self._start = Cost(time.perf_counter(), time.process_time())

    def __exit__(self, *_: object) -> None:
        self.cost += Cost(
            time.perf_counter() - self._start.wall, time.process_time() - self._start.processor
        )


def timed(action: Callable[[], object]) -> Cost:
    """What an action costs."""
    watch = Stopwatch()
    with watch:
        action()
    return watch.cost


def decode_once(path: Path) -> Cost:
    """Every tile of level 0, straight from the file through libjpeg-turbo."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0].aspage()
        tables = page.jpegtables
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    number = os.open(path, os.O_RDONLY)

    def some(first: int) -> None:
        for offset, count in places[first : first + 32]:
            imagecodecs.jpeg8_decode(
                os.pread(number, count, offset),
                tables=tables,
                colorspace="YCBCR",
                outcolorspace="RGB",
            )

    try:
        with ThreadPoolExecutor(CORES) as pool:
            return timed(lambda: list(pool.map(some, range(0, len(places), 32))))
    finally:
        os.close(number)


def patches_in_memory(slide: Slide, grid: PatchGrid, count: int) -> NDArray[np.uint8]:
    """(count, height, width, 3) of the grid's first patches that hold tissue."""
    whole = Resolution.parse("baseline 1.0")
    places = np.argwhere(grid.keep)[:count]
    return np.stack([slide.read(grid.input_region(*place), whole) for place in places.tolist()])


def model_only(model: Segmenter, patches: NDArray[np.uint8], batch: int, count: int) -> Cost:
    """As many patches as asked for, in the batches of a run, round and round."""
    tensor = torch.from_numpy(patches)
    batches = [tensor[start : start + batch] for start in range(0, len(tensor), batch)]

    def loop() -> None:
        with torch.no_grad():
            for number in range(-(-count // batch)):
                model.predict(batches[number % len(batches)])

    return timed(loop)


def write_once(pm: ProbabilityMap, folder: Path) -> Cost:
    """The chunks of a finished map with pyramid and coverage: zstd level 1, a file each, no fsync.

    What is written is read a chunk row at a time, off the clock.
    """
    watch, chunk = Stopwatch(), pm.grid.chunk

    def put(number: int, pixels: NDArray[np.generic]) -> None:
        if pixels.any():
            data = imagecodecs.zstd_encode(np.ascontiguousarray(pixels), level=1)
            (folder / str(number)).write_bytes(data)

    with ThreadPoolExecutor(CORES) as pool:
        for level in (*pm.levels, *pm.coverage):
            for top in range(0, level.shape[-2], chunk):
                row = np.asarray(level[..., top : top + chunk, :])
                lefts = range(0, row.shape[-1], chunk)
                with watch:
                    list(pool.map(put, lefts, [row[..., x : x + chunk] for x in lefts]))
    return watch.cost


def plain_loop(slide: Slide, model: Segmenter, grid: PatchGrid, sample: int | None = None) -> Cost:
    """Read a patch, predict it, add it to an array in memory; then divide. Nothing is written.

    A model may answer for more than the grid's output: its centre counts. With a `sample`, so many
    patches are timed, spread over the grid, and stand for all.
    """
    height, width = grid.canvas.height, grid.canvas.width
    classes, whole = len(model.spec.classes), Resolution.parse("baseline 1.0")
    places = np.argwhere(grid.keep)
    picked = np.linspace(0, len(places) - 1, min(sample or len(places), len(places))).round()
    patches, rest = Stopwatch(), Stopwatch()
    with patches:
        sums = np.zeros((classes, height, width), np.float32)
        counts = np.zeros((height, width), np.float32)
        for row, column in places[picked.astype(int)].tolist():
            pixels = slide.read(grid.input_region(row, column), whole)
            with torch.inference_mode():
                answer = model.predict(torch.from_numpy(pixels[None]))[0].float().numpy()
            top = (answer.shape[1] - grid.patch_output.height) // 2
            left = (answer.shape[2] - grid.patch_output.width) // 2
            box = grid.output_region(row, column)
            y, x = box.slices
            sums[:, y, x] += answer[:, top : top + box.size.height, left : left + box.size.width]
            counts[y, x] += 1
    with rest:
        sums /= np.maximum(counts, 1)
    return patches.cost * (len(places) / len(picked)) + rest.cost
