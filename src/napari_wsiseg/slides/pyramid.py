"""Makes a slide's levels for display: its own, and averaged ones where it has too few.

Averaged levels are computed once, by streaming, and kept in a cache file that the
slide's fingerprint names; never as a lazy graph over level 0, which a viewer would
compute whole to draw its coarsest level.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray

from napari_wsiseg.errors import SlideError, SlideWarning
from napari_wsiseg.geometry import YX, Region, Size, size_at
from napari_wsiseg.slides import display_cache
from napari_wsiseg.slides.base import Level, SlideInfo
from napari_wsiseg.slides.damage import read_around
from napari_wsiseg.slides.resample import ReadPixels, resample

if TYPE_CHECKING:
    from napari_wsiseg.slides.levels import LevelSlide

COARSEST = 512
# Scanners write every fourth size; a wider gap makes a viewer load too much.
_WIDEST_GAP = 4.5
# Halving would cost a third of the slide again; above this area quarter instead.
_HALVED_PIXELS = 2**28
_CHUNK = 512
_GREY = 200
_SHOWN_CHUNK = 1024
_MEMORY_BYTES = 256 * 2**20
_THREADS = max(1, min(4, (os.cpu_count() or 2) - 1))


@dataclass(frozen=True, slots=True)
class Shown:
    """A level for display.

    Parameters
    ----------
    size, downsample
        As in `Level`.
    own
        The file's level, or None for one that is averaged.
    step
        Pixels of the level before per pixel of an averaged one.
    """

    size: Size
    downsample: YX
    own: int | None
    step: int = 1


def plan_levels(info: SlideInfo) -> list[Shown]:
    """The file's own levels, with averaged ones where gaps are wide or the last is too large."""
    shown: list[Shown] = []
    for index, level in enumerate(info.levels):
        if shown:
            shown += _between(info.size, shown[-1], level)
        shown.append(Shown(level.size, level.downsample, index))
    while max(shown[-1].size.height, shown[-1].size.width) > COARSEST:
        shown.append(_coarser(info.size, shown[-1]))
    return shown


def _between(base: Size, last: Shown, level: Level) -> list[Shown]:
    added: list[Shown] = []
    while level.downsample.y / last.downsample.y > _WIDEST_GAP:
        last = _coarser(base, last)
        added.append(last)
    return added


def _coarser(base: Size, last: Shown) -> Shown:
    step = 2 if last.size.area <= _HALVED_PIXELS else 4
    downsample = YX(last.downsample.y * step, last.downsample.x * step)
    return Shown(size_at(base, downsample), downsample, None, step)


def levels_are_ready(info: SlideInfo) -> bool:
    """Whether `display_levels` answers at once: the levels are the file's own, or kept."""
    sizes = [level.size for level in plan_levels(info) if level.own is None]
    return not sizes or display_cache.find(info.fingerprint, sizes) is not None


def display_levels(slide: LevelSlide) -> list[da.Array]:
    """Lazy levels (height, width, 3) uint8, large to small, the last at most 512 px.

    Raises
    ------
    SlideError
        If the slide cannot be read, or averaged levels can be kept nowhere.
    """
    plan = plan_levels(slide.info)
    averaged = [level for level in plan if level.own is None]
    stored = iter(_averaged(slide, plan) if averaged else [])
    return [
        _own(slide, level.own) if level.own is not None else _lazy(next(stored), _SHOWN_CHUNK)
        for level in plan
    ]


def _averaged(slide: LevelSlide, plan: Sequence[Shown]) -> list[Any]:
    sizes = [level.size for level in plan if level.own is None]
    total = sum(size.area for size in sizes) * 3
    small = total <= _MEMORY_BYTES
    # An array may be written to while a file is not: its averages are not kept for later.
    if small and slide.info.path is None:
        return _build(slide, plan, zarr.create_group({}))
    kept = display_cache.find(slide.info.fingerprint, sizes)
    if kept is not None:
        return kept
    try:
        return display_cache.make(
            slide.info.fingerprint, sizes, lambda group: _build(slide, plan, group)
        )
    except OSError as error:
        if small:
            return _build(slide, plan, zarr.create_group({}))
        raise SlideError(
            f"{slide.info.stem} needs up to {total / 1e9:.1f} GB for its display levels, which "
            f"cannot be kept in {display_cache.folder()} ({error.strerror or error}); free the "
            f"disk, or name another folder with {display_cache.VARIABLE}."
        ) from error


def _build(slide: LevelSlide, plan: Sequence[Shown], group: zarr.Group) -> list[Any]:
    """Write every averaged level into the group, each from the level before it."""
    arrays: list[Any] = []
    unreadable: list[Region] = []
    read: ReadPixels | None = None
    for before, level in zip([None, *plan[:-1]], plan, strict=True):
        if level.own is not None:
            read = functools.partial(_shown, slide, level.own, unreadable=unreadable)
        elif before is not None and read is not None:
            array = display_cache.create(group, str(len(arrays)), level.size, _CHUNK)
            _average(read, before.size, level, array)
            arrays.append(array)
            read = functools.partial(_cut, array)
    if unreadable:
        display_cache.mark_incomplete(group)
        warnings.warn(
            f"{slide.info.stem} cannot be read in {len(unreadable)} places, which are shown grey.",
            SlideWarning,
            stacklevel=2,
        )
    return arrays


def _average(read: ReadPixels, source: Size, level: Shown, array: Any) -> None:
    factor = YX(level.step, level.step)

    def fill(box: Region) -> None:
        array[box.slices] = resample(read, source, box, factor)

    boxes = [
        Region(top, left, Size(_CHUNK, _CHUNK)).clipped(level.size)
        for top in range(0, level.size.height, _CHUNK)
        for left in range(0, level.size.width, _CHUNK)
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        futures = [pool.submit(fill, box) for box in boxes]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _cut(array: Any, region: Region) -> NDArray[np.uint8]:
    return np.asarray(array[region.slices], np.uint8)


def _shown(
    slide: LevelSlide, level: int, region: Region, unreadable: list[Region] | None = None
) -> NDArray[np.uint8]:
    """Pixels of a level for the eye: grey where a tile cannot be read, so that the rest shows."""
    try:
        return slide.read_level(level, region)
    except SlideError:
        if slide.closed:
            raise
    read = functools.partial(slide.read_level, level)
    out, gaps = read_around(read, read, slide.info.levels[level], region, YX(1, 1))
    for gap in gaps:
        out[gap.region.shifted(-region.top, -region.left).slices] = _GREY
    if unreadable is not None:
        unreadable += [gap.region for gap in gaps]
    return out


class _LevelArray:
    """A slide's level as something that dask can slice."""

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, slide: LevelSlide, level: int) -> None:
        self._slide = slide
        self._level = level
        size = slide.info.levels[level].size
        self.shape = (size.height, size.width, 3)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        rows, columns, channels = (
            range(*part.indices(n)) for part, n in zip(key, self.shape, strict=True)
        )
        box = Region.from_bounds(rows.start, columns.start, rows.stop, columns.stop)
        return _shown(self._slide, self._level, box)[:, :, channels.start : channels.stop]


def _own(slide: LevelSlide, level: int) -> da.Array:
    tile = slide.info.levels[level].tile
    return _lazy(_LevelArray(slide, level), (_near(tile.height), _near(tile.width)))


def _near(tile: int) -> int:
    """The multiple of a tile's side that is nearest to what is drawn at once."""
    return tile * max(1, round(_SHOWN_CHUNK / tile))


def _lazy(array: Any, chunk: int | tuple[int, int]) -> da.Array:
    rows, columns = (chunk, chunk) if isinstance(chunk, int) else chunk
    lazy: da.Array = da.from_array(
        array, chunks=(rows, columns, 3), name=False, asarray=False, meta=_META
    )
    return lazy


_META = np.empty((0, 0, 0), np.uint8)
