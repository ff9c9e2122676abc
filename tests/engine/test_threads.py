"""Whatever fails, in any stage: the run stops soon, its first cause is kept, no thread stays."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import dask
import numpy as np
import psutil
import pytest
import torch
import zarr
from numpy.typing import NDArray

from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg import loading
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import fields, run, segment
from napari_wsiseg.engine.beside import Beside
from napari_wsiseg.errors import InferenceError, StoreError, WsisegError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.loading import PatchLoader
from napari_wsiseg.merge import RowMerger
from napari_wsiseg.slides import Slide
from napari_wsiseg.store import MapWriter, ProbabilityMap, lock
from napari_wsiseg.store.chunks import ChunkWriter
from napari_wsiseg.store.files import DurableFolder
from napari_wsiseg.threads import Background

PIXELS = picture(96, 40)
# Zarr has a loop of its own, and threads for it: both outlive every use of it.
_ZARRS = ("zarr", "asyncio")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))
    monkeypatch.setattr(loading, "block_size", lambda *_: Size(16, 40))


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    threads, children = set(threading.enumerate()), psutil.Process().children(recursive=True)
    held = set(lock._held)
    yield
    assert set(lock._held) <= held
    new = set(threading.enumerate()) - threads
    assert [t.name for t in new if not t.name.startswith(_ZARRS)] == []
    assert psutil.Process().children(recursive=True) == children


@pytest.fixture
def job(tmp_path: Path) -> SegmentationJob:
    return SegmentationJob(output=tmp_path / "a.ome.zarr", tissue="none", batch_size=2)


class Model(PositionModel):
    """Raises at its n-th call."""

    def __init__(self, call: int = -1, error: BaseException | None = None) -> None:
        super().__init__(Size(12, 44), Size(8, 40), Size(6, 40))
        self._call, self._error = call, error

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        if self._error is not None and len(self.calls) == self._call:
            raise self._error
        return super().predict(patches)


class Broken:
    """A slide whose reader breaks below a row: no damage, but the reader's own fault."""

    def __init__(self, row: int, error: BaseException) -> None:
        self._slide: Slide = slide_of(PIXELS)
        self.info = self._slide.info
        self._row, self._error = row, error

    def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
        if region.top >= self._row:
            raise self._error
        return self._slide.read_at(region, downsample)


def causes(error: BaseException) -> list[BaseException]:
    """An error and what led to it, the last being the first that happened."""
    chain: list[BaseException] = []
    while error not in chain:
        chain.append(error)
        error = error.__cause__ or error
    return chain


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("error", [ValueError("first"), OSError(errno.EIO, "first"), MemoryError()])
@pytest.mark.parametrize("stage", ["model", "merge", "encode", "write", "rows"])
def test_the_first_cause_is_told(
    job: SegmentationJob,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    error: Exception,
    place: int,
) -> None:
    calls = 0

    def failing(real: object, *arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > place:
            raise error
        return real(*arguments)  # type: ignore[operator]

    target, name = {
        "merge": (RowMerger, "add"),
        "encode": (ChunkWriter, "_encode"),
        "write": (DurableFolder, "put"),
        "rows": (MapWriter, "add"),
        "model": (Model, "predict"),
    }[stage]
    real = getattr(target, name)
    first = stage == "model" and place == 0
    with monkeypatch.context() as patch:
        steps = segment(job, slide_of(PIXELS), Model())
        if not first:
            next(steps)  # an output is put the same way as what fails here
        patch.setattr(target, name, lambda *a: failing(real, *a))
        with pytest.raises((WsisegError, type(error))) as caught:
            list(steps)
    assert causes(caught.value)[-1] is error
    if stage == "model":
        assert isinstance(caught.value, InferenceError)
    if stage in ("encode", "write"):
        assert isinstance(caught.value, StoreError)
    if not first:
        with ProbabilityMap.open(job.output) as stopped:  # type: ignore[arg-type]
            assert stopped.status == "failed"


@pytest.mark.parametrize("row", [0, 32, 80])
@pytest.mark.parametrize("error", [ZeroDivisionError("first"), MemoryError(), SystemExit(3)])
def test_a_reader_that_breaks_is_told(job: SegmentationJob, row: int, error: BaseException) -> None:
    with pytest.raises((WsisegError, type(error))) as caught:
        run(job, Broken(row, error), Model())  # type: ignore[arg-type]
    assert causes(caught.value)[-1] is error


@pytest.mark.parametrize("steps", [0, 1, 5, 9])
def test_closed_half_way_at_once_nothing_runs_on(job: SegmentationJob, steps: int) -> None:
    going = segment(job, slide_of(PIXELS), Model())
    for _ in range(steps):
        next(going)
    going.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("wsiseg")]


def test_an_interrupt_in_the_caller_ends_the_run(job: SegmentationJob) -> None:
    def watch() -> None:
        for step in segment(job, slide_of(PIXELS), Model()):
            if step.kind == "row":
                raise KeyboardInterrupt

    try:
        watch()
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("the interrupt is the caller's")
    gc.collect()
    with ProbabilityMap.open(job.output) as stopped:  # type: ignore[arg-type]
        assert stopped.status == "cancelled"
        assert stopped.finished.any()


def test_an_interrupt_within_run_leaves_no_thread_even_while_it_is_looked_at(
    job: SegmentationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MapWriter, "finished_rows", _interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(job, slide_of(PIXELS), Model())
    assert not [t for t in threading.enumerate() if t.name.startswith("wsiseg")]
    assert caught.value.__traceback__ is not None


def _interrupted(_: object = None) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["wsiseg-loader", "wsiseg-merger", "wsiseg-map-writer"])
def test_an_interrupt_while_a_thread_begins_leaves_none(
    job: SegmentationJob, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == name:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(job, slide_of(PIXELS), Model())
    run(job, slide_of(PIXELS), Model()).close()


_ENDS = [
    function.__code__
    for function in (
        PatchLoader.__exit__,
        PatchLoader.end,
        Beside.__exit__,
        Beside.end,
        Background.end,
        Background._stop_and_wait,
        MapWriter.close,
    )
]


def test_an_interrupt_as_a_stage_is_to_end_leaves_nothing(job: SegmentationJob) -> None:
    """At the moment at which a call begins, before it could do anything; at each such call."""
    struck = []

    def strike_at(number: int) -> Callable[[FrameType, str, object], None]:
        left = number

        def strike(frame: FrameType, event: str, _: object) -> None:
            nonlocal left
            left -= event == "call" and frame.f_code in _ENDS
            if left == 0:
                sys.setprofile(None)
                struck.append(frame.f_code)
                raise KeyboardInterrupt

        return strike

    for number in itertools.count(1):
        sys.setprofile(strike_at(number))
        try:
            result = run(job, slide_of(PIXELS), Model())
        except KeyboardInterrupt:
            assert not [t.name for t in threading.enumerate() if t.name.startswith("wsiseg")]
            assert not lock._held
        else:
            break
        finally:
            sys.setprofile(None)
        with run(job, slide_of(PIXELS), Model()) as mended:
            assert mended.status == "complete"
        shutil.rmtree(job.output)  # type: ignore[arg-type]
    result.close()
    assert set(struck) == set(_ENDS)


@pytest.mark.parametrize("waiting", ["threads that begin", "Zarr"])
def test_an_interrupt_stays_one_where_a_lock_fails_over_it(
    job: SegmentationJob, monkeypatch: pytest.MonkeyPatch, waiting: str
) -> None:
    """Of those that are written in Python, and are waited for just then."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()

    target, name = {
        "threads that begin": (threading.Thread, "start"),
        "Zarr": (zarr, "open_array"),
    }[waiting]
    with monkeypatch.context() as patch:
        patch.setattr(target, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(job, slide_of(PIXELS), Model())
    with run(job, slide_of(PIXELS), Model()) as result:
        assert result.status == "complete"


def test_an_error_after_an_interrupt_that_the_caller_handles_is_told(job: SegmentationJob) -> None:
    error = ValueError("first")
    try:
        _interrupted()
    except KeyboardInterrupt:
        with pytest.raises(InferenceError, match="first"):
            run(job, slide_of(PIXELS), Model(0, error))


def test_two_runs_go_on_beside_each_other(job: SegmentationJob) -> None:
    """Of two outputs; one more at the same output is refused, and harms the first in nothing."""
    other = job.model_copy(update={"output": job.output.with_name("b.ome.zarr")})  # type: ignore[union-attr]
    first, second = (segment(j, slide_of(PIXELS), Model()) for j in (job, other))
    for steps in (first, second, first, second):
        next(steps)
    with pytest.raises(StoreError, match=f"is being written by process {os.getpid()}"):
        run(job, slide_of(PIXELS), Model())
    with pytest.raises(StoreError, match=f"is being written by process {os.getpid()}"):
        run(job.model_copy(update={"on_exists": "overwrite"}), slide_of(PIXELS), Model())
    *_, last = first
    *_, other_last = second
    assert last.result.status == other_last.result.status == "complete"
    for pair in zip(last.result.levels, other_last.result.levels, strict=True):
        # Dask's own threads would outlive this.
        np.testing.assert_array_equal(*dask.compute(*pair, scheduler="synchronous"))


def test_a_run_in_another_thread_than_the_main_one(job: SegmentationJob) -> None:
    statuses: list[str] = []

    def work() -> None:
        statuses.append(run(job, slide_of(PIXELS), Model()).status)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert statuses == ["complete"]


def test_a_disk_that_fails_ends_the_run_within_a_row_of_patches(
    job: SegmentationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a wide slide a row of patches takes minutes."""
    writers: list[MapWriter] = []
    begin = MapWriter.begin

    def noted(self: MapWriter, chunks: NDArray[np.bool_]) -> None:
        writers.append(self)
        begin(self, chunks)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Wide(PositionModel):
        late = 0

        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            if len(self.calls) == 4 * across + 5:  # in the third row: the first is being written
                pause = threading.Event()
                while writers[0]._recorder._error is None:
                    pause.wait(0.001)
            self.late += len(self.calls) > 4 * across + 5
            return super().predict(patches)

    monkeypatch.setattr(MapWriter, "begin", noted)
    across, model = 50, Wide(Size(8, 8), Size(8, 8), Size(8, 8))
    steps = segment(job.model_copy(update={"batch_size": 1}), slide_of(picture(96, 400)), model)
    next(steps)
    monkeypatch.setattr(DurableFolder, "put", full)
    with pytest.raises(StoreError, match="No space left"):
        list(steps)
    assert model.late == 0
