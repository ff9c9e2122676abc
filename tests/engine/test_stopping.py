"""However a run ends, its threads do too, what is finished stays, and the same job goes on."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg import loading, memory
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import fields, plan, run, segment
from napari_wsiseg.errors import ModelError, SlideError, StoreError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.memory import MachineMemory
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.store.files import DurableFolder

PIXELS = picture(96, 40)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    ours = {t for t in threading.enumerate() if t.name.startswith("wsiseg")}
    assert ours <= before


def position_model() -> PositionModel:
    return PositionModel(Size(12, 44), Size(8, 40), Size(6, 40))


@pytest.fixture
def job(tmp_path: Path) -> SegmentationJob:
    return SegmentationJob(
        output=tmp_path / "a.ome.zarr", tissue="none", dtype="float32", batch_size=2
    )


@pytest.fixture(scope="module")
def whole() -> NDArray[np.float32]:
    """The map of an undisturbed run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))
        plain = SegmentationJob(tissue="none", dtype="float32", batch_size=2)
        result = run(plain, slide_of(PIXELS), position_model())
        values: NDArray[np.float32] = result.probabilities().compute()
        return values


def goes_on(job: SegmentationJob, whole: NDArray[np.float32]) -> None:
    """The same job, undisturbed, ends with the same bits and nothing beside the result."""
    with run(job, slide_of(PIXELS), position_model()) as result:
        assert result.status == "complete"
        np.testing.assert_array_equal(result.probabilities().compute(), whole)
    assert job.output is not None
    assert [p.name for p in job.output.parent.iterdir()] == ["a.ome.zarr"]


class Failing(PositionModel):
    """Raises at its n-th call."""

    def __init__(self, call: int, error: BaseException) -> None:
        plain = position_model().spec
        super().__init__(
            Size(*plain.patch_input_shape),
            Size(*plain.patch_output_shape),
            Size(*(plain.stride_shape or (1, 1))),
        )
        self._call, self._error = call, error
        # To a result it is the model that does not fail.
        self.backend = f"{PositionModel.__module__}.{PositionModel.__qualname__}"

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        if len(self.calls) == self._call:
            raise self._error
        return super().predict(patches)


@pytest.mark.parametrize("step", range(14))
def test_a_run_closed_at_any_step_goes_on(
    job: SegmentationJob, whole: NDArray[np.float32], step: int
) -> None:
    steps = segment(job, slide_of(PIXELS), position_model())
    for _ in range(step + 1):
        last = next(steps, None)
        assert last is not None, "the run has as many steps"
    steps.close()
    with ProbabilityMap.open(job.output) as stopped:  # type: ignore[arg-type]
        assert stopped.status == "cancelled"
        assert stopped.finished.any(1).sum() >= last.row  # type: ignore[union-attr]
    goes_on(job, whole)


@pytest.mark.parametrize("call", [0, 1, 5])
def test_an_interrupt_in_the_model(
    job: SegmentationJob, whole: NDArray[np.float32], call: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(job, slide_of(PIXELS), Failing(call, KeyboardInterrupt()))
    if call == 0:
        assert not job.output.exists()  # type: ignore[union-attr]
    else:
        with ProbabilityMap.open(job.output) as stopped:  # type: ignore[arg-type]
            assert stopped.status == "cancelled"
    goes_on(job, whole)


def test_a_reader_that_breaks_keeps_the_finished_rows(
    job: SegmentationJob, whole: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no SlideError is no fault of one tile: it ends the run, and is what is raised."""
    monkeypatch.setattr(loading, "block_size", lambda *_: Size(16, 40))

    class Broken:
        def __init__(self) -> None:
            self._slide = slide_of(PIXELS)
            self.info = self._slide.info

        def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
            if region.top >= 80:
                raise ZeroDivisionError("the reader's own fault")
            return self._slide.read_at(region, downsample)

    with pytest.raises(ZeroDivisionError, match="the reader's own fault"):
        run(job, Broken(), position_model())  # type: ignore[arg-type]
    with ProbabilityMap.open(job.output) as stopped:  # type: ignore[arg-type]
        assert stopped.status == "failed"
        assert stopped.finished[:3].all()
    goes_on(job, whole)


@pytest.mark.parametrize("call", [0, 5])
def test_a_slide_that_goes_away_is_no_damage(tmp_path: Path, call: int) -> None:
    """A drive that is unplugged: what is left is computed when the slide is there again."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(600, 40), tile=(16, 48), photometric="rgb")
    data = path.read_bytes()
    job = SegmentationJob(output=tmp_path / "out" / "a.ome.zarr", tissue="none", batch_size=2)

    class Unplugging(Failing):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            if len(self.calls) == call:
                os.truncate(path, 0)
                path.unlink()
            return super().predict(patches)

    with pytest.raises(SlideError, match="is not there any more"):
        run(job, path, Unplugging(-1, KeyboardInterrupt()))
    path.write_bytes(data)
    with run(job, path, position_model()) as result:
        assert result.status == "complete"
        assert not result.failed_patches
        assert result.coverage[0].compute().all()


def test_a_full_disk_keeps_the_finished_rows(
    job: SegmentationJob, whole: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, keys = DurableFolder.put, []

    def full(self: DurableFolder, key: str, data: bytes | None, rank: int) -> None:
        keys.append(key)
        if len(keys) > 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, key, data, rank)

    with monkeypatch.context() as patch:
        patch.setattr(DurableFolder, "put", full)
        with pytest.raises(StoreError, match="No space left"):
            run(job, slide_of(PIXELS), position_model())
    with ProbabilityMap.open(job.output) as stopped:  # type: ignore[arg-type]
        assert stopped.status == "failed"
        assert stopped.finished.any()
        assert not stopped.finished.all()
    goes_on(job, whole)


def test_no_room_to_work_from_disk_is_what_is_raised(
    job: SegmentationJob, whole: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canvas must move to disk in the middle of the run, and the disk is full."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    steps = segment(job, slide_of(PIXELS), position_model())
    while next(steps).kind != "row":
        pass
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full, raising=False)
        patch.setattr(memory, "_BETWEEN_LOOKS", 0)
        patch.setattr(memory, "machine_memory", lambda: MachineMemory(10**12, 10**8))
        with pytest.raises(StoreError, match="No room for"):
            list(steps)
    with ProbabilityMap.open(job.output) as stopped:  # type: ignore[arg-type]
        assert stopped.status == "failed"
        assert stopped.finished.any()
    goes_on(job, whole)


@pytest.mark.parametrize("on_disk", [True, False])
def test_pressure_in_the_middle_of_a_run_does_not_change_a_bit(
    job: SegmentationJob,
    whole: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    on_disk: bool,
) -> None:
    if not on_disk:
        job = job.model_copy(update={"output": None})
    kinds = []
    for step in segment(job, slide_of(PIXELS), position_model()):
        kinds.append(step.kind)
        if step.kind == "row" and step.row == 2:
            monkeypatch.setattr(memory, "_BETWEEN_LOOKS", 0)
            monkeypatch.setattr(memory, "machine_memory", lambda: MachineMemory(10**12, 10**8))
    assert "spill" not in kinds[: kinds.index("row")]
    assert kinds.count("spill") == 1
    with step.result as result:
        assert result.provenance["spilled"]
        np.testing.assert_array_equal(result.probabilities().compute(), whole)


@pytest.mark.parametrize("cut", ["one row fewer", "one patch fewer"])
def test_a_shape_that_changes_later_is_no_silent_shift(job: SegmentationJob, cut: str) -> None:
    class Shrinking(Failing):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            answer = super().predict(patches)
            if len(self.calls) < 6:
                return answer
            return answer[:, :, 1:] if cut == "one row fewer" else answer[1:]

    with pytest.raises(ModelError, match="answered with the shape"):
        run(job, slide_of(PIXELS), Shrinking(-1, KeyboardInterrupt()))
    with ProbabilityMap.open(job.output) as stopped:  # type: ignore[arg-type]
        assert stopped.status == "failed"
        assert stopped.finished.any()


def test_a_run_that_fails_at_once_leaves_no_folders(tmp_path: Path) -> None:
    output = tmp_path / "new" / "newer" / "a.ome.zarr"
    job = SegmentationJob(output=output, tissue="none")
    with pytest.raises(Exception, match="first"):
        run(job, slide_of(PIXELS), Failing(0, ValueError("first")))
    assert list(tmp_path.iterdir()) == []


def test_planning_writes_nothing(tmp_path: Path, job: SegmentationJob) -> None:
    afresh = job.model_copy(update={"output": tmp_path / "new" / "b.ome.zarr"})
    plan(afresh, slide_of(PIXELS), position_model())
    assert list(tmp_path.iterdir()) == []
    run(job, slide_of(PIXELS), position_model()).close()
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}
    assert plan(job, slide_of(PIXELS), position_model()).patches == 0
    after = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}
    assert before == after
