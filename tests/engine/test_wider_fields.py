"""Rule 9: which geometry a fully convolutional model runs in, and what may decide on it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product, repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.engine_cases import picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import fields, plan, run
from napari_wsiseg.engine.fields import (
    LONGEST_CALL,
    CallCost,
    FieldSearch,
    is_quick,
    largest_patch,
    time_model,
    widest_sensible,
)
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid, TissueTable
from napari_wsiseg.spec import ModelSpec

SPEC = ModelSpec("net", classes=("A", "B"), stride_shape=450, shift_period=32)
PERIOD, MARGIN, OWN = 32, 512, Size(1024, 1024)
SLIDE = Size(2967, 2220)
# A UNet on two cores of a server.
SERVER = CallCost(4e-7, 1.2e-6)
MUCH = 10**12


def searched(
    largest: int, canvas: Size = SLIDE, *, tissue: TissueTable | None = None, most: int = MUCH
) -> PatchGrid:
    """The grid where patches of `largest` pixels are allowed, and of `most` fit the memory."""
    search = FieldSearch(
        canvas, tissue, 0.0, 1, largest, lambda grid: grid.patch_input.area <= most
    )
    return widest_sensible(SPEC, search)


def arithmetic(grid: PatchGrid) -> int:
    return int(grid.keep.sum()) * grid.patch_input.area


@pytest.mark.parametrize("factor", [0.01, 0.8, 0.9, 1.1, 1.2, 1.5])
def test_a_busier_or_idler_machine_settles_on_the_same_patches(factor: float) -> None:
    usual = largest_patch(SPEC, "cpu", SERVER)
    assert usual == largest_patch(SPEC, "cpu", None) > OWN.area
    for shares in ((factor, factor), (factor, 1 / factor), (1 / factor, factor)):
        if max(shares) <= 1.5:
            cost = CallCost(SERVER.per_input * shares[0], SERVER.per_output * shares[1])
            assert largest_patch(SPEC, "cpu", cost) == usual


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
@pytest.mark.parametrize("exponent", range(-9, -3))
def test_a_call_takes_at_most_five_seconds(device: str, exponent: int) -> None:
    """The model's own patch is never refused; a larger one only where it is quick enough."""
    for mantissa, canvas in product((1, 2, 5), (SLIDE, Size(9000, 12000))):
        cost = CallCost(mantissa * 10.0**exponent, 3 * mantissa * 10.0**exponent)
        grid = searched(largest_patch(SPEC, device, cost), canvas)
        if grid.patch_input.area > OWN.area:
            assert cost.seconds(grid.patch_input, grid.patch_output) <= LONGEST_CALL / 1.5
    assert largest_patch(SPEC, device, CallCost(1.0, 1.0)) == OWN.area
    assert largest_patch(SPEC, "cuda", None) > largest_patch(SPEC, "cpu", None)


@pytest.mark.parametrize("largest", [2**20, 3 * 2**19, 2**21, 2**22])
def test_no_patch_is_larger_than_allowed(largest: int) -> None:
    assert searched(largest).patch_input.area <= largest < searched(MUCH).patch_input.area


@pytest.mark.parametrize("most", [2**20, 3 * 2**19, 2**21, 2**22])
def test_a_wider_field_fits_the_memory(most: int) -> None:
    assert searched(MUCH, most=most).patch_input.area <= most < searched(MUCH).patch_input.area


def test_where_nothing_fits_the_models_own_shape_works_from_disk() -> None:
    grid = searched(MUCH, most=0)
    assert (grid.patch_input, grid.patch_output) == (OWN, Size(512, 512))


def test_it_is_the_least_arithmetic_of_all() -> None:
    least = 1
    for length in (SLIDE.height, SLIDE.width):
        sides = range(PERIOD, 4096 + 1, PERIOD)
        least *= min(-(-length // side) * (side + MARGIN) for side in sides)
    assert arithmetic(searched(MUCH)) == least


@given(
    height=st.integers(1, 6000),
    width=st.integers(1, 6000),
    largest=st.integers(OWN.area, 2**24),
    tissue=st.sampled_from([None, 0.1, 0.5]),
)
def test_never_more_arithmetic_than_the_models_own_shape(
    height: int, width: int, largest: int, tissue: float | None
) -> None:
    mask = None if tissue is None else np.random.default_rng(0).random((20, 20)) < tissue
    table = None if mask is None else TissueTable(mask)
    canvas = Size(height, width)
    own = PatchGrid(canvas, OWN, Size(512, 512), Size(512, 512))
    own = own if table is None else own.masked(table)
    grid = searched(largest, canvas, tissue=table)
    assert arithmetic(grid) <= arithmetic(own)
    stride, answer = grid.stride, grid.patch_output
    assert stride == answer
    assert grid.patch_input == Size(answer.height + MARGIN, answer.width + MARGIN)
    assert stride.height % PERIOD == stride.width % PERIOD == 0


class Pixelwise:
    """Fully convolutional, with a margin; each call takes what a clock of ours is told."""

    def __init__(self, margin: int = 64) -> None:
        self.spec = ModelSpec(
            "pixelwise",
            classes=("A",),
            patch_input_shape=32 + margin,
            patch_output_shape=32,
            activation="sigmoid",
            shift_period=16,
        )
        self.device = "cpu"
        self.margin = margin
        self.cost = CallCost(1e-7, 2e-7)
        self.now = self.busy = 0.0
        self.load: Iterator[float] = repeat(1.0)

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        size = Size(*patches.shape[1:3])
        output = Size(size.height - self.margin, size.width - self.margin)
        seconds = self.cost.seconds(size, output)
        self.now += seconds * next(self.load)
        self.busy += seconds * torch.get_num_threads()
        rows, columns = Region(self.margin // 2, self.margin // 2, output).slices
        return patches[:, rows, columns, 0][:, None] / 255


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Pixelwise:
    model = Pixelwise()
    clocks = SimpleNamespace(perf_counter=lambda: model.now, process_time=lambda: model.busy)
    monkeypatch.setattr(fields, "time", clocks)
    return model


def test_the_quickest_of_several_calls_counts(timed: Pixelwise) -> None:
    """The first is slow, and any other may be disturbed."""
    timed.load = iter([5.0, 1.0, 1.7, 1.0, 3.0, 2.0])
    now = time_model(timed).now
    assert now.per_input == pytest.approx(1e-7)
    assert now.per_output == pytest.approx(2e-7)
    assert next(timed.load, None) is None, "each size was timed three times"


def test_what_else_the_machine_does_does_not_change_the_grid(timed: Pixelwise) -> None:
    slide = slide_of(picture(3000, 200))
    job = SegmentationJob(tissue="none")
    timed.cost = CallCost(4e-7, 1.2e-6)
    idle = plan(job, slide, timed)
    timed.load = repeat(20.0)
    busy = plan(job, slide, timed)
    assert busy.grid == idle.grid
    assert busy.seconds > 5 * idle.seconds  # type: ignore[operator]
    timed.cost = CallCost(1e-3, 1e-3)
    assert plan(job, slide, timed).grid != idle.grid, "a slow machine is another matter"


@given(inputs=st.floats(1e-8, 1e-4), outputs=st.floats(1e-8, 1e-4))
def test_one_call_tells_only_what_many_would(inputs: float, outputs: float) -> None:
    model = Pixelwise(512)
    model.cost = CallCost(inputs, outputs)
    with pytest.MonkeyPatch.context() as patch:
        clocks = SimpleNamespace(perf_counter=lambda: model.now, process_time=lambda: model.busy)
        patch.setattr(fields, "time", clocks)
        if is_quick(model, "cpu"):
            alone = time_model(model).alone
            assert largest_patch(model.spec, "cpu", alone) == largest_patch(model.spec, "cpu", None)


@pytest.mark.parametrize("is_key", [True, False])
def test_runs_ask_a_quick_model_about_glass_once(
    timed: Pixelwise, monkeypatch: pytest.MonkeyPatch, is_key: bool
) -> None:
    if not is_key:
        monkeypatch.setattr(Pixelwise, "__hash__", None)
    asked: list[float] = []
    timed.load = (asked.append(timed.now) or 1.0 for _ in repeat(0))  # type: ignore[func-returns-value]
    slide = slide_of(picture(300, 200))

    def glass() -> int:
        before = len(asked)
        with run(SegmentationJob(tissue="none", batch_size=1), slide, timed) as result:
            return len(asked) - before - result.grid.keep.size

    assert [glass(), glass()] == ([1, 0] if is_key else [1, 1])
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    assert glass() == 1, "with other threads it may be another matter"


def test_runs_time_a_slow_model_in_earnest(timed: Pixelwise) -> None:
    asked: list[float] = []
    timed.load = (asked.append(timed.now) or 1.0 for _ in repeat(0))  # type: ignore[func-returns-value]
    timed.cost = CallCost(1e-3, 1e-3)
    for number in (1, 2):
        with run(
            SegmentationJob(tissue="none", batch_size=1), slide_of(picture(300, 200)), timed
        ) as result:
            assert len(asked) > number * (result.grid.keep.size + 1)


def test_of_another_device_the_clock_alone_tells(timed: Pixelwise) -> None:
    timed.device, timed.load = "cuda", repeat(3.0)
    timing = time_model(timed)
    assert timing.alone == timing.now
    assert timing.now.per_input == pytest.approx(3e-7)


@pytest.mark.parametrize(("margin", "period"), [(0, 16), (64, 1024)])
def test_where_input_and_output_cannot_be_told_apart(margin: int, period: int) -> None:
    """No margin, or a period so long that both timed sizes are one."""
    model = Pixelwise(margin)
    values = {"patch_input_shape": period + margin, "patch_output_shape": period}
    model.spec = ModelSpec("pixelwise", ("A",), shift_period=period, **values)
    now = time_model(model).now
    assert now.per_input > 0
    assert now.per_output == 0


def test_a_result_keeps_the_grid_that_it_was_begun_in(tmp_path: Path, timed: Pixelwise) -> None:
    slide = slide_of(picture(700, 600))
    job = SegmentationJob(tissue="none", output=tmp_path / "a.ome.zarr")
    with run(job.model_copy(update={"region": (Region(0, 0, Size(9, 9)),)}), slide, timed) as part:
        begun = part.grid
    timed.cost = CallCost(1.0, 1.0)
    assert plan(SegmentationJob(tissue="none"), slide, timed).grid != begun
    assert plan(job, slide, timed).grid == begun
    with run(job, slide, timed) as whole:
        assert whole.grid == begun
        assert whole.finished.all()
