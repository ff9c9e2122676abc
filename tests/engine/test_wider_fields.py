"""Rule 9: which geometry a fully convolutional model runs in, and what may decide on it."""

from __future__ import annotations

from itertools import product
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
# Near a UNet on two cores of a server.
SERVER = CallCost(4e-7, 1.2e-6)
INSTANT = CallCost(1e-12, 1e-12)


def searched(
    cost: CallCost, canvas: Size = SLIDE, *, tissue: TissueTable | None = None, most: int = 10**12
) -> PatchGrid:
    """The grid that is chosen where patches of at most so many pixels fit the memory."""
    search = FieldSearch(canvas, tissue, 0.0, 1, cost, lambda grid: grid.patch_input.area <= most)
    return widest_sensible(SPEC, search)


def arithmetic(grid: PatchGrid) -> int:
    return int(grid.keep.sum()) * grid.patch_input.area


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.2])
def test_a_busier_or_idler_machine_settles_on_the_same_grid(factor: float) -> None:
    slower = CallCost(SERVER.per_input * factor, SERVER.per_output / factor)
    both = CallCost(SERVER.per_input * factor, SERVER.per_output * factor)
    assert searched(SERVER) == searched(both) == searched(slower)
    assert searched(SERVER).patch_input.area > OWN.area


def test_the_least_arithmetic_is_no_matter_of_time() -> None:
    """Of all geometries, whatever goes into or comes out of a call costs."""
    lengths = {}
    for length in (SLIDE.height, SLIDE.width):
        sides = range(PERIOD, 4096 + 1, PERIOD)
        lengths[length] = min(-(-length // side) * (side + MARGIN) for side in sides)
    least = lengths[SLIDE.height] * lengths[SLIDE.width]
    grids = [searched(CallCost(*cost)) for cost in [(1e-9, 0), (0, 1e-9), (1e-9, 5e-8)]]
    assert all(grid == grids[0] for grid in grids)
    assert arithmetic(grids[0]) == least


@given(
    height=st.integers(1, 6000),
    width=st.integers(1, 6000),
    speed=st.floats(1e-9, 1e-4),
    tissue=st.sampled_from([None, 0.1, 0.5]),
)
def test_never_more_arithmetic_than_the_models_own_shape(
    height: int, width: int, speed: float, tissue: float | None
) -> None:
    mask = None if tissue is None else np.random.default_rng(0).random((20, 20)) < tissue
    table = None if mask is None else TissueTable(mask)
    canvas = Size(height, width)
    own = PatchGrid(canvas, OWN, Size(512, 512), Size(512, 512))
    own = own if table is None else own.masked(table)
    grid = searched(CallCost(speed, 3 * speed), canvas, tissue=table)
    assert arithmetic(grid) <= arithmetic(own)
    stride, answer = grid.stride, grid.patch_output
    assert stride == answer
    assert grid.patch_input == Size(answer.height + MARGIN, answer.width + MARGIN)
    assert stride.height % PERIOD == stride.width % PERIOD == 0


@pytest.mark.parametrize("exponent", range(-9, -3))
def test_a_call_takes_at_most_five_seconds(exponent: int) -> None:
    """The model's own patch is never refused; a larger one only where it is quick enough."""
    for mantissa, canvas in product((1, 2, 5), (SLIDE, Size(9000, 12000))):
        cost = CallCost(mantissa * 10.0**exponent, 3 * mantissa * 10.0**exponent)
        grid = searched(cost, canvas)
        if grid.patch_input.area > OWN.area:
            assert cost.seconds(grid.patch_input, grid.patch_output) <= LONGEST_CALL / 1.5
        assert grid.patch_input.area <= largest_patch(SPEC, cost)
    assert searched(INSTANT).patch_input.area > OWN.area


@pytest.mark.parametrize("most", [2**20, 3 * 2**19, 2**21, 2**22])
def test_a_wider_field_fits_the_memory(most: int) -> None:
    grid = searched(INSTANT, most=most)
    assert grid.patch_input.area <= most < searched(INSTANT).patch_input.area


def test_where_nothing_fits_the_models_own_shape_works_from_disk() -> None:
    grid = searched(INSTANT, most=0)
    assert (grid.patch_input, grid.patch_output) == (OWN, Size(512, 512))


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
        self.margin = margin
        self.now = 0.0
        self.cost = CallCost(1e-7, 2e-7)
        self.noise = iter([5.0, 1.0, 1.7, 1.0, 3.0, 2.0])

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        size = Size(*patches.shape[1:3])
        output = Size(size.height - self.margin, size.width - self.margin)
        self.now += self.cost.seconds(size, output) * next(self.noise)
        rows, columns = Region(self.margin // 2, self.margin // 2, output).slices
        return patches[:, rows, columns, 0][:, None] / 255


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Pixelwise:
    model = Pixelwise()
    monkeypatch.setattr(fields, "time", SimpleNamespace(perf_counter=lambda: model.now))
    return model


def test_the_quickest_of_several_calls_counts(timed: Pixelwise) -> None:
    """The first is slow, and any other may be disturbed."""
    cost = time_model(timed)
    assert cost.per_input == pytest.approx(1e-7)
    assert cost.per_output == pytest.approx(2e-7)
    assert next(timed.noise, None) is None, "each size was timed three times"


@pytest.mark.parametrize(("margin", "period"), [(0, 16), (64, 1024)])
def test_where_input_and_output_cannot_be_told_apart(margin: int, period: int) -> None:
    """No margin, or a period so long that both timed sizes are one."""
    model = Pixelwise(margin)
    model.noise = iter(lambda: 1.0, None)
    values = {"patch_input_shape": period + margin, "patch_output_shape": period}
    model.spec = ModelSpec("pixelwise", ("A",), shift_period=period, **values)
    cost = time_model(model)
    assert cost.per_input > 0
    assert cost.per_output == 0


def test_a_result_keeps_the_grid_that_it_was_begun_in(tmp_path: Path, timed: Pixelwise) -> None:
    slide = slide_of(picture(700, 600))
    job = SegmentationJob(tissue="none", output=tmp_path / "a.ome.zarr")
    timed.noise = iter(lambda: 1.0, None)
    with run(job.model_copy(update={"region": (Region(0, 0, Size(9, 9)),)}), slide, timed) as part:
        begun = part.grid
    timed.cost = CallCost(1.0, 1.0)
    fresh = SegmentationJob(tissue="none")
    assert plan(fresh, slide, timed).grid != begun
    assert plan(job, slide, timed).grid == begun
    with run(job, slide, timed) as whole:
        assert whole.grid == begun
        assert whole.finished.all()
