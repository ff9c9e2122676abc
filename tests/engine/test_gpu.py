"""Runs whose model computes and whose answers are merged on devices make the same map.

The devices are the processor, under one name or several: the way of the data is a GPU's,
without its streams. `benchmarks/gpu.py` holds a real GPU against these.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import Progress, fields, plan, run, segment
from napari_wsiseg.errors import InferenceError, ModelError
from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.messages import Band
from napari_wsiseg.models import BANDS, gpu
from napari_wsiseg.store import ProbabilityMap

# The package's `plan` is its function.
PLAN = sys.modules["napari_wsiseg.engine.plan"]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 16 px, so that small pictures have many."""
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))


class Copied(PositionModel):
    """Goes wherever it is sent, and notes where."""

    copies: int = 0

    def on(self, device: torch.device) -> Copied:
        self.copies += 1
        return self


def copied(side: int = 20) -> Copied:
    size = Size(side, side)
    return Copied(size, size, size)


def on_devices(
    job: SegmentationJob, pixels: NDArray[np.uint8], model: PositionModel, devices: int = 1
) -> Iterator[Progress]:
    """A run that is planned as usual, and then told to compute on devices."""
    slide = slide_of(pixels)
    settled = replace(plan(job, slide, model), gpus=("cpu",) * devices)
    return segment(job, slide, model, settled=settled)


def last(steps: Iterator[Progress]) -> ProbabilityMap:
    *_, step = steps
    return step.result


def job_for(**values: object) -> SegmentationJob:
    return SegmentationJob(**{"tissue": "none"} | values)  # type: ignore[arg-type]


def assert_same_bits(one: ProbabilityMap, other: ProbabilityMap) -> None:
    for mine, yours in zip(one.levels + one.coverage, other.levels + other.coverage, strict=True):
        assert mine.dtype == yours.dtype
        np.testing.assert_array_equal(mine.compute(), yours.compute())


@st.composite
def models(draw: st.DrawFn) -> Copied:
    output = [draw(st.integers(3, 24)) for _ in "yx"]
    given_ = [o + draw(st.integers(0, 9)) for o in output]
    stride = [draw(st.integers(max(o // 4, 1), o)) for o in output]
    return Copied(Size(*given_), Size(*output), Size(*stride))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    model=models(),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    batches=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kept=st.sampled_from([0.02, 0.3, None]),
    scale=st.integers(1, 3),
    window=st.sampled_from(["uniform", "gaussian"]),
    dtype=st.sampled_from(["uint8", "float16", "float32"]),
    devices=st.integers(1, 3),
)
def test_the_map_is_the_hosts_bit_for_bit(
    model: Copied,
    height: int,
    width: int,
    batches: tuple[int, int],
    kept: float | None,
    scale: int,
    window: str,
    dtype: str,
    devices: int,
) -> None:
    pixels = picture(height, width)
    tissue = None if kept is None else np.random.default_rng(1).random((9, 7)) < kept
    job = job_for(window=window, dtype=dtype, save_resolution=f"baseline {1 / scale}")
    slide = slide_of(pixels)
    on_host = job.model_copy(update={"batch_size": batches[0]})
    settled = plan(job.model_copy(update={"batch_size": batches[1]}), slide, model, tissue)
    settled = replace(settled, gpus=("cpu",) * devices)
    with (
        run(on_host, slide, model, tissue) as expected,
        last(segment(settled.job, slide, model, tissue, settled=settled)) as actual,
    ):
        assert actual.status == "complete"
        assert_same_bits(actual, expected)
    assert model.copies == (devices if devices > 1 else 0)


def test_so_many_bands_are_on_the_host_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays: list[weakref.ref[NDArray[np.generic]]] = []
    most, real = 0, gpu.GpuPlace._download

    def noted(self: gpu.GpuPlace, tensor: torch.Tensor) -> NDArray[np.generic]:
        nonlocal most
        array: NDArray[np.generic] = real(self, tensor)
        arrays.append(weakref.ref(array))
        most = max(most, sum(other() is not None for other in arrays))
        return array

    monkeypatch.setattr(gpu.GpuPlace, "_download", noted)
    values, coverage = torch.zeros(2, 4, 4), torch.ones(4, 4, dtype=torch.bool)
    place = gpu.GpuPlace(copied(), ["cpu"], 1, "uint8")
    for band in place.to_host(Band(0, 4 * column, values, coverage) for column in range(8)):
        assert band.coverage.all()
    assert most == BANDS * 2, "values and coverage of each"


def test_a_device_is_asked_ahead_and_answers_come_in_order() -> None:
    pixels, model = picture(100, 100), copied()
    under_way = [
        len(model.calls) - step.patches_done
        for step in on_devices(job_for(batch_size=1), pixels, model)
        if step.kind == "batch"
    ]
    # The plan timed the model before.
    timed = under_way[-1]
    assert [n - timed for n in under_way] == [2] * 23 + [1, 0]


def test_nan_costs_its_patch_only_and_overshoots_are_cut() -> None:
    class Sick(Copied):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            answer = super().predict(patches)
            answer[patches[:, 0, 0, 0] == 77, 0, 1, 1] = float("nan")
            answer[patches[:, 0, 0, 0] == 78, 0, 1, 1] = 1.0005
            answer[patches[:, 0, 0, 0] == 79, 1, 1, 1] = float("-inf")
            return answer

    sick = Sick(Size(20, 20), Size(20, 20), Size(20, 20))
    pixels = picture(60, 60)
    pixels[::20, ::20, 0] = [[0, 79, 0], [0, 78, 77], [0, 0, 0]]
    job = job_for(batch_size=2, dtype="float32")
    with last(on_devices(job, pixels, sick)) as actual, run(job, slide_of(pixels), sick) as plain:
        assert [(p.row, p.column) for p in actual.failed_patches] == [(0, 1), (1, 2)]
        assert actual.failed_patches == plain.failed_patches
        assert actual.probabilities()[0, 21, 21].compute() == 1
        assert_same_bits(actual, plain)
    strict = job.model_copy(update={"strict": True})
    with pytest.raises(InferenceError, match="at x 20, y 0 on the slide"):
        last(on_devices(strict, pixels, sick))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a: a[:, :1], "classes"),
        (lambda a: a[:, :, :-1], "answered with the shape"),
        (lambda a: a * 3, "expected 0 to 1"),
        (lambda a: a[0], "answered with the shape"),
        (lambda a: [a], "answered with a list"),
    ],
    ids=["class count", "height", "range", "no batch axis", "no tensor"],
)
def test_a_wrong_model_is_refused_before_there_is_an_output(
    tmp_path: Path, answer: object, words: str
) -> None:
    class Wrong(Copied):
        planned = False

        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            right = super().predict(patches)
            return answer(right) if self.planned else right  # type: ignore[operator,no-any-return]

    wrong = Wrong(Size(20, 20), Size(20, 20), Size(20, 20))
    steps = on_devices(job_for(output=tmp_path / "a.ome.zarr"), picture(40, 40), wrong)
    wrong.planned = True
    with pytest.raises(ModelError, match=words):
        last(steps)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_does_not_fit_is_halved() -> None:
    class Small(Copied):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            if len(patches) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().predict(patches)

    small = Small(Size(20, 20), Size(20, 20), Size(20, 20))
    pixels = picture(100, 60)
    job = job_for(batch_size=8)
    with (
        last(on_devices(job, pixels, small, 2)) as actual,
        run(job, slide_of(pixels), copied()) as expected,
    ):
        assert_same_bits(actual, expected)
    small.calls.clear()
    with last(on_devices(job, pixels, small)):
        assert set(small.calls) == {1, 2}, "1 is the plan's"


def test_a_call_that_does_not_fit_lets_go_of_its_memory() -> None:
    """A tensor that a failed call held would leave no room for half of the batch either."""
    held: list[weakref.ref[torch.Tensor]] = []

    class Small(Copied):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            assert [tensor() for tensor in held] == [None] * len(held)
            if len(patches) > 1:
                large = patches.float()
                held.append(weakref.ref(large))
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().predict(patches)

    small = Small(Size(20, 20), Size(20, 20), Size(20, 20))
    gc.disable()
    try:
        last(on_devices(job_for(batch_size=8), picture(60, 60), small))
        assert len(held) == 3
        assert gpu.best_batch(small, "cpu", Size(20, 20), 8) == 1
    finally:
        gc.enable()


def test_a_run_that_was_stopped_goes_on_elsewhere(tmp_path: Path) -> None:
    """Begun on devices, cancelled, then ended on the host; and the other way round."""
    pixels, model = picture(100, 40), copied()
    with run(job_for(), slide_of(pixels), model) as expected:
        for devices in (2, 0):
            job = job_for(output=tmp_path / f"{devices}.ome.zarr", batch_size=1)
            steps = on_devices(job, pixels, model, devices)
            for step in steps:
                if step.row == 2:
                    break
            steps.close()  # type: ignore[attr-defined]
            with ProbabilityMap.open(job.output) as half:
                assert half.status == "cancelled"
                assert half.finished.sum() >= 2
            model.calls.clear()
            with last(on_devices(job, pixels, model, 1 if devices == 0 else 0)) as actual:
                assert sum(model.calls) < 10
                assert_same_bits(actual, expected)


def test_a_failing_model_keeps_what_is_finished(tmp_path: Path) -> None:
    class Tired(Copied):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            if len(self.calls) == 14:
                raise RuntimeError("out of coffee")
            return super().predict(patches)

    tired = Tired(Size(8, 40), Size(8, 40), Size(8, 40))
    job = job_for(output=tmp_path / "a.ome.zarr", batch_size=1)
    with pytest.raises(InferenceError, match="out of coffee"):
        last(on_devices(job, picture(120, 40), tired))
    with ProbabilityMap.open(job.output) as result:
        assert result.status == "failed"
        assert result.finished.sum() >= 3
        assert not result.finished.all()


class TestPlan:
    """What a plan makes of a GPU; the numbers come from a stand-in for it."""

    @pytest.fixture
    def room(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
        given_ = {"room": 10**9}
        monkeypatch.setattr(gpu, "gpus_of", lambda _: ("cpu", "cpu"))
        monkeypatch.setattr(gpu, "free_memory", lambda _: given_["room"])
        monkeypatch.setattr(gpu, "best_batch", lambda _model, _gpu, _patch, most: most)
        return given_

    def test_what_lies_on_the_gpu_is_not_the_hosts(self, room: dict[str, int]) -> None:
        model = copied()
        model.bytes_per_pixel = 10**5  # type: ignore[attr-defined]
        settled = plan(job_for(batch_size=4), slide_of(picture(80, 80)), model)
        assert settled.gpus == ("cpu", "cpu")
        assert settled.need.canvas == 0
        assert settled.need.gpu > 4 * 400 * 10**5 > settled.need.batches

    def test_a_batch_fits_the_gpu(self, room: dict[str, int]) -> None:
        model, slide = copied(), slide_of(picture(80, 80))
        model.device = "cuda"  # type: ignore[attr-defined]
        model.bytes_per_pixel = 10**4  # type: ignore[attr-defined]
        wide = plan(job_for(), slide, model)
        assert wide.need.gpu <= 0.9 * room["room"]
        assert wide.batch_size > 16, "more than a processor would take"
        room["room"] = wide.need.gpu
        tight = plan(job_for(), slide, model)
        assert 1 < tight.batch_size < wide.batch_size

    def test_the_host_merges_what_does_not_fit_the_gpu(self, room: dict[str, int]) -> None:
        room["room"] = 10**4
        settled = plan(job_for(), slide_of(picture(80, 80)), copied())
        assert settled.gpus == ()
        assert settled.need.canvas > 0
        assert settled.need.gpu == 0

    def test_a_result_to_go_on_with_keeps_its_batch(
        self, room: dict[str, int], tmp_path: Path
    ) -> None:
        model, slide = copied(), slide_of(picture(80, 80))
        output = tmp_path / "a.ome.zarr"
        next(segment(job_for(output=output, batch_size=3), slide, model))
        assert plan(job_for(output=output), slide, model).batch_size == 3
        assert plan(job_for(), slide, model).batch_size != 3


class TestBatchByTrial:
    PATCH = Size(20, 20)

    @pytest.mark.parametrize(
        ("seconds", "best"),
        [
            ({1: 0.01, 2: 0.01, 4: 0.01, 8: 0.01}, 8),
            ({1: 0.01, 2: 0.012, 4: 0.0238, 8: 0.0475}, 2),
            ({1: 0.01, 2: 0.015, 4: 0.035, 8: 0.05}, 8),
            ({1: 0.01, 2: 0.02, 4: 0.04, 8: 0.08}, 1),
            ({1: 0.2, 2: 0.3}, 2),
        ],
        ids=["idle", "soon busy", "a bad one between", "busy at once", "slow"],
    )
    def test_the_least_that_keeps_the_gpu_busy(
        self, seconds: dict[int, float], best: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu.GpuReplica, "seconds", lambda _self, count, _patch: seconds[count])
        assert gpu.best_batch(copied(), "cpu", self.PATCH, 8) == best

    def test_stops_where_memory_ends(self) -> None:
        class Small(Copied):
            def predict(self, patches: torch.Tensor) -> torch.Tensor:
                if len(patches) > 2:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return super().predict(patches)

        small = Small(self.PATCH, self.PATCH, self.PATCH)
        assert gpu.best_batch(small, "cpu", self.PATCH, 64) <= 2


class TestWhichGpus:
    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ["H100", "A small one", "H100"]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])

    @pytest.mark.parametrize(
        ("device", "gpus"),
        [
            ("cuda", ("cuda:0", "cuda:2")),
            ("cuda:1", ("cuda:1",)),
            ("cpu", ()),
            ("mps", ()),
            ("the moon", ()),
            (None, ()),
        ],
    )
    def test_by_what_the_model_says(self, device: str | None, gpus: tuple[str, ...]) -> None:
        model = copied()
        model.device = device  # type: ignore[attr-defined]
        assert gpu.gpus_of(model) == gpus

    def test_one_that_cannot_be_copied(self) -> None:
        size = Size(20, 20)
        model = PositionModel(size, size, size)
        assert gpu.gpus_of(model) == ()
        model.device = "cuda"  # type: ignore[attr-defined]
        assert gpu.gpus_of(model) == ("cuda:0",)
