"""`CorrectedLabels`: the label image of a result that a person has corrected, on disk.

Whole for the map, at the map's levels, one label a pixel. Knows neither who corrects nor
what is measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore, MemoryStore

from napari_wsiseg.errors import StoreError, reason
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.labels.decide import decide
from napari_wsiseg.labels.pyramid import LabelPyramid, Labels, ZarrArray, level_arrays
from napari_wsiseg.labels.record import (
    ATTRIBUTES,
    NAME,
    Correction,
    Record,
    damaged,
    first_record,
    group_file,
    read_record,
)
from napari_wsiseg.labels.rule import DecisionRule
from napari_wsiseg.slides.zarr_chunks import bounded
from napari_wsiseg.slides.zarr_files import PlainFiles
from napari_wsiseg.store.chunks import encoded
from napari_wsiseg.store.files import (
    LOOKS_AFTER_FAILURE,
    PARTIAL,
    DurableFolder,
    naming,
    partial_name,
    remove_partial,
    sync_folder,
    sync_tree,
)
from napari_wsiseg.store.label_images import CORRECTED, list_label

if TYPE_CHECKING:
    from napari_wsiseg.store import ProbabilityMap
    from napari_wsiseg.store.layout import MapLayout

# Chunks that are decided at once.
_PANEL = 8


class CorrectedLabels:
    """The corrected labels of a result, opened by `open`.

    Parameters
    ----------
    pm
        The map.
    folder
        The label image's.
    arrays
        Its levels, large to small.
    record
        What it says of itself.
    """

    def __init__(
        self, pm: ProbabilityMap, folder: Path, arrays: tuple[ZarrArray, ...], record: Record
    ) -> None:
        self._pm, self._folder, self._arrays, self._record = pm, folder, arrays, record

    @classmethod
    def open(cls, pm: ProbabilityMap) -> Self:
        """Open those of a map.

        Raises
        ------
        StoreError
            If there are none, they are damaged, or the run has gone on since.
        """
        folder = folder_of(pm)
        if not is_there(pm):
            raise StoreError(f"{folder} is not there: nothing was corrected in this result yet.")
        record, arrays = read_record(folder), _open_arrays(folder, pm.layout)
        if record.result != pm.info.digest or len(record.pixels) != len(pm.classes):
            raise damaged(folder, "they are another result's")
        finished = int(pm.finished.sum())
        if record.finished_chunks != finished:
            raise StoreError(
                f"{folder} was made of {record.finished_chunks} finished chunks, and the result "
                f"has {finished} by now; discard the corrections, and correct it anew."
            )
        return cls(pm, folder, arrays, record)

    @property
    def rule(self) -> DecisionRule:
        """The rule that made the labels before they were corrected."""
        return self._record.rule

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """What was corrected, the earliest first."""
        return self._record.corrections

    def read(self, region: Region, level: int = 0) -> Labels:
        """(height, width) labels of a region, in pixels of the level.

        Raises
        ------
        StoreError
            If they cannot be read there.
        """
        try:
            labels: Labels = np.asarray(self._arrays[level][region.slices])
        # Zarr and its codecs fail in ways that nobody lists.
        except Exception as error:
            raise damaged(self._folder, f"level {level}: {reason(error)}") from error
        if labels.max(initial=0) > len(self._pm.classes):
            raise damaged(self._folder, f"level {level} holds the label {labels.max()}")
        return labels

    def paint(self, box: Region, labels: Labels, correction: Correction) -> None:
        """Put labels into a box, at every level; of each file the old or the new is there.

        Parameters
        ----------
        box
            In pixels of level 0, inside the map.
        labels
            (height, width) of the box.
        correction
            What is recorded of it.

        Raises
        ------
        StoreError
            If the labels there cannot be read, or the disk refuses: nothing is changed then.
        """
        more = _pixels_of(labels, self._pm) - _pixels_of(self.read(box), self._pm)
        record = self._record.with_correction(correction, more)
        files = DurableFolder(self._folder)
        try:
            # First, so that what was begun is recorded if the power fails between two renames,
            # and level 0 last, so that painting the same again mends every level.
            files.put(ATTRIBUTES, group_file(self._pm, record), 0)
            for level, (region, part) in enumerate(self._levels_over(box, labels)):
                self._put_chunks(files, level, region, part)
            files.commit()
        finally:
            files.close()
        self._record = record

    def _levels_over(self, box: Region, labels: Labels) -> Iterator[tuple[Region, ZarrArray]]:
        """What each level holds where the box is, grown to whole pixels of the coarsest."""
        side = 2 ** (len(self._arrays) - 1)
        around = Region.from_bounds(
            box.top // side * side,
            box.left // side * side,
            -(-box.bottom // side) * side,
            -(-box.right // side) * side,
        ).clipped(self._pm.size)
        sizes = [around.size]
        while len(sizes) < len(self._arrays):
            sizes.append(Size(-(-sizes[-1].height // 2), -(-sizes[-1].width // 2)))
        pyramid = LabelPyramid(level_arrays(MemoryStore(), "", sizes, self._pm.grid.chunk))
        for strip in _strips(around, self._pm.grid.chunk):
            rows = self.read(strip)
            _lay_over(rows, strip, labels, box)
            pyramid.add(rows)
        pyramid.finish()
        for level, part in enumerate(pyramid.arrays):
            yield Region(around.top >> level, around.left >> level, Size(*part.shape)), part

    def _put_chunks(
        self, files: DurableFolder, level: int, region: Region, part: ZarrArray
    ) -> None:
        """Stage the chunks of a level that change where `part` lies."""
        size, side = Size(*self._arrays[level].shape), self._pm.grid.chunk
        rank = len(self._arrays) - level
        for row in range(region.top // side, -(-region.bottom // side)):
            for column in range(region.left // side, -(-region.right // side)):
                chunk = Region(row * side, column * side, Size(side, side)).clipped(size)
                met = chunk.intersection(region)
                old = self.read(chunk, level)
                new = old.copy()
                found = np.asarray(part[met.shifted(-region.top, -region.left).slices])
                new[met.shifted(-chunk.top, -chunk.left).slices] = found
                # One that is 0 all over is written too: removing it would show at once.
                if not np.array_equal(old, new):
                    files.put(f"{level}/c/{row}/{column}", encoded(new, (side, side)), rank)


def folder_of(pm: ProbabilityMap) -> Path:
    """Where the corrected labels of a map lie, or would.

    Raises
    ------
    StoreError
        If the map is in memory.
    """
    if pm.path is None:
        raise StoreError(
            "The map is in memory, where corrections would be lost; save it (pm.save) and "
            "correct the result that was saved."
        )
    return pm.path / CORRECTED


def is_there(pm: ProbabilityMap) -> bool:
    """Whether a map has corrected labels."""
    return pm.path is not None and (pm.path / CORRECTED).is_dir()


def create(
    pm: ProbabilityMap, rule: DecisionRule, box: Region, labels: Labels, correction: Correction
) -> Iterator[float]:
    """Make the corrected labels of a map, with a first correction; yields what part is done.

    Memory is that of a few rows of chunks. The folder appears whole or not at all. The
    caller holds the result's lock.

    Parameters
    ----------
    pm
        The map.
    rule
        What makes a label where nothing is painted.
    box, labels, correction
        As `CorrectedLabels.paint`.

    Raises
    ------
    StoreError
        If the map cannot be read, or the disk refuses.
    """
    folder = folder_of(pm)
    partial = partial_name(folder)
    try:
        with naming(folder):
            folder.parent.mkdir(exist_ok=True)
            group = zarr.create_group(LocalStore(partial), zarr_format=3)
            arrays = level_arrays(group.store, "", pm.layout.sizes, pm.grid.chunk)
            pyramid = LabelPyramid(arrays)
            for strip in _strips(Region(0, 0, pm.size), pm.grid.chunk):
                rows = _decided(pm, rule, strip)
                _lay_over(rows, strip, labels, box)
                pyramid.add(rows)
                yield strip.bottom / pm.size.height
            pyramid.finish()
            record = first_record(pm, rule, pyramid.counts[0], correction)
            (partial / ATTRIBUTES).write_bytes(group_file(pm, record))
            sync_tree(partial)
            partial.rename(folder)
            sync_folder(folder.parent)
    except BaseException:
        remove_partial(partial, LOOKS_AFTER_FAILURE)
        raise
    try:
        list_label(folder.parent.parent, NAME)
    except StoreError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def sweep(pm: ProbabilityMap) -> None:
    """Remove what killed writers of corrections left; the caller holds the result's lock."""
    labels = folder_of(pm).parent
    for path in [*labels.glob(f"{NAME}.*{PARTIAL}"), *labels.glob(f"{NAME}/**/*{PARTIAL}")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def decided(pm: ProbabilityMap, rule: DecisionRule, region: Region) -> Labels:
    """(height, width): one label a pixel, of independent classes the most probable."""
    block = pm.read(region)
    return decide(block.values, block.coverage, block.tissue, pm.spec, rule)


def _decided(pm: ProbabilityMap, rule: DecisionRule, strip: Region) -> Labels:
    """The labels of a strip, a few chunks at a time: probabilities take a lot of memory."""
    rows, width = np.empty((strip.size.height, strip.size.width), np.uint8), _PANEL * pm.grid.chunk
    for left in range(0, strip.right, width):
        panel = Region.from_bounds(strip.top, left, strip.bottom, min(left + width, strip.right))
        rows[:, panel.left : panel.right] = decided(pm, rule, panel)
    return rows


def _strips(region: Region, height: int) -> Iterator[Region]:
    for top in range(region.top, region.bottom, height):
        bottom = min(top + height, region.bottom)
        yield Region.from_bounds(top, region.left, bottom, region.right)


def _lay_over(rows: Labels, strip: Region, labels: Labels, box: Region) -> None:
    """Put what of the box lies in a strip over the strip's labels."""
    met = strip.intersection(box)
    if not met.is_empty:
        over = labels[met.shifted(-box.top, -box.left).slices]
        rows[met.shifted(-strip.top, -strip.left).slices] = over


def _pixels_of(labels: Labels, pm: ProbabilityMap) -> NDArray[np.int64]:
    """(classes,) How many pixels have the label of each class."""
    return np.array([np.count_nonzero(labels == i + 1) for i in range(len(pm.classes))])


def _open_arrays(folder: Path, layout: MapLayout) -> tuple[ZarrArray, ...]:
    store, side = PlainFiles(folder), layout.grid.chunk
    arrays: list[zarr.Array[Any]] = []
    for level, size in enumerate(layout.sizes):
        try:
            array = bounded(zarr.open_array(store, path=f"{level}", mode="r", zarr_format=3))
        # As above.
        except Exception as error:
            raise damaged(folder, f"level {level}: {reason(error)}") from error
        found = (array.shape, array.dtype, array.chunks)
        if found != ((size.height, size.width), np.dtype(np.uint8), (side, side)):
            raise damaged(folder, f"level {level} has the wrong shape, type or chunks")
        arrays.append(array)
    return tuple(arrays)
