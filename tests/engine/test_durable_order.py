"""A chunk is on disk before it has its name, and has its name before the journal says so.

What a power cut leaves cannot be tried here; the order in which the disk is asked can.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import fields, run
from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.store.journal import JournalWriter

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows keeps names by itself")


def identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class Record:
    """An append to the journal: the chunks, when it began and when it returned."""

    chunks: list[tuple[int, int]]
    start: int
    end: int


class Disk:
    """Passes on what is asked of the disk, and notes its order.

    Attributes
    ----------
    synced
        (when, file or folder).
    named
        (when, file, its new name).
    records
        The journal's.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.synced: list[tuple[int, tuple[int, int]]] = []
        self.named: list[tuple[int, tuple[int, int], Path]] = []
        self.records: list[Record] = []
        self._steps = 0
        sync, replace, append = os.fsync, os.replace, JournalWriter.append

        def noted_sync(descriptor: int) -> None:
            sync(descriptor)
            self.synced.append((self._now(), identity(os.fstat(descriptor))))

        def noted_replace(source: Path, target: Path) -> None:
            self.named.append((self._now(), identity(source.stat()), Path(target)))
            replace(source, target)

        def noted_append(writer: JournalWriter, chunks: NDArray[np.intp]) -> None:
            start = self._now()
            append(writer, chunks)
            recorded = [(int(row), int(column)) for row, column in chunks]
            self.records.append(Record(recorded, start, self._now()))

        patch.setattr(os, "fsync", noted_sync)
        patch.setattr(os, "replace", noted_replace)
        patch.setattr(JournalWriter, "append", noted_append)

    def was_synced(self, what: tuple[int, int], after: int, before: int) -> bool:
        return any(after < when < before and file == what for when, file in self.synced)

    def last_named(self, path: Path, before: int) -> tuple[int, tuple[int, int]]:
        """When the file that had this name at that time got it, and which file that is."""
        found = [(when, file) for when, file, name in self.named if name == path and when < before]
        assert found, f"{path} had no name when its record was written"
        return found[-1]

    def _now(self) -> int:
        self._steps += 1
        return self._steps


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """What a run over 5 x 3 chunks asks."""
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))
    noted = Disk(monkeypatch)
    job = SegmentationJob(output=tmp_path / "a.ome.zarr", tissue="none", batch_size=2)
    model = PositionModel(Size(12, 44), Size(8, 40), Size(6, 40))
    run(job, slide_of(picture(70, 40)), model).close()
    monkeypatch.undo()
    recorded = sorted(chunk for record in noted.records for chunk in record.chunks)
    assert recorded == [(row, column) for row in range(5) for column in range(3)]
    return noted


def chunk_files(output: Path, row: int, column: int) -> list[Path]:
    """The files of a level-0 chunk and of those above it, finest first, values before coverage."""
    files = []
    for level in range(4):
        y, x = row >> level, column >> level
        files += [output / f"{level}/c/0/{y}/{x}", output / f"coverage/{level}/c/{y}/{x}"]
    return files


def test_synced_then_named_then_recorded(tmp_path: Path, disk: Disk) -> None:
    for record in disk.records:
        for row, column in record.chunks:
            times = []
            for path in chunk_files(tmp_path / "a.ome.zarr", row, column):
                named, file = disk.last_named(path, record.start)
                times.append(named)
                assert disk.was_synced(file, 0, named), f"{path} was named, and not on disk"
                folder = identity(path.parent.stat())
                assert disk.was_synced(folder, named, record.start), f"{path}: its name was not"
            assert times == sorted(times), "a coarser level shows what a finer one does not"


def test_each_row_renews_the_coarser_levels_before_its_record(tmp_path: Path, disk: Disk) -> None:
    earlier = 0
    for record in disk.records:
        for row, column in record.chunks:
            for path in chunk_files(tmp_path / "a.ome.zarr", row, column):
                assert disk.last_named(path, record.start)[0] > earlier
        earlier = record.end


def test_a_record_is_on_disk_when_its_row_is_announced(tmp_path: Path, disk: Disk) -> None:
    (segment,) = (tmp_path / "a.ome.zarr" / "journal").iterdir()
    journal = identity(segment.stat())
    assert all(disk.was_synced(journal, record.start, record.end) for record in disk.records)
