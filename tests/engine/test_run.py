"""A whole run, from pixels to the stored map, against the plain mean over whole arrays."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.engine_cases import PositionModel, expected_map, picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import fields, plan, run, segment
from napari_wsiseg.errors import InferenceError, JobError, ModelError, StoreError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.merge import RowMerger
from napari_wsiseg.store import ProbabilityMap


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 16 px, so that small pictures have many."""
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))


@st.composite
def shapes(draw: st.DrawFn) -> PositionModel:
    output = [draw(st.integers(3, 24)) for _ in "yx"]
    given_ = [o + draw(st.integers(0, 9)) for o in output]
    stride = [draw(st.integers(max(o // 4, 1), o)) for o in output]
    return PositionModel(Size(*given_), Size(*output), Size(*stride))


def job_for(**values: object) -> SegmentationJob:
    """A job that compares exactly."""
    return SegmentationJob(**{"tissue": "none", "dtype": "float32"} | values)  # type: ignore[arg-type]


def values_of(result: ProbabilityMap) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Level 0 and its coverage."""
    return result.probabilities().compute(), result.coverage[0].compute()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    model=shapes(),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    batch=st.integers(1, 7),
    kept=st.sampled_from([0.02, 0.3, None]),
    spill=st.booleans(),
    order=st.permutations(range(3)),
)
def test_the_map_is_the_plain_mean(
    tmp_path_factory: pytest.TempPathFactory,
    model: PositionModel,
    height: int,
    width: int,
    batch: int,
    kept: float | None,
    spill: bool,
    order: list[int],
) -> None:
    """Any size, patch, stride, mask, batch split, spill point and order of regions."""
    pixels = picture(height, width)
    slide = slide_of(pixels)
    tissue = None if kept is None else np.random.default_rng(1).random((9, 7)) < kept
    output = tmp_path_factory.mktemp("run") / "a.ome.zarr"
    job = job_for(output=output, batch_size=batch)
    settled = plan(job, slide, model, tissue)
    if spill:
        job = job.model_copy(update={"memory_limit": settled.need.resident})
    thirds = [(third * height // 3, (third + 1) * height // 3) for third in order]
    for top, bottom in thirds:
        if bottom > top:
            region = (Region(top, 0, Size(bottom - top, width)),)
            run(job.model_copy(update={"region": region}), slide, model, tissue).close()
    with run(job, slide, model, tissue) as result:
        values, coverage = values_of(result)
        assert result.status == "complete"
        assert result.finished.all()
    expected, covered = expected_map(pixels, model, settled.grid)
    np.testing.assert_array_equal(coverage, covered)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert [p.name for p in output.parent.iterdir()] == ["a.ome.zarr"]


@pytest.fixture
def model() -> PositionModel:
    return PositionModel(Size(20, 24), Size(14, 16), Size(5, 9))


def test_memory_and_disk_hold_the_same_bits(tmp_path: Path, model: PositionModel) -> None:
    pixels = picture(90, 77)
    job = job_for(output=tmp_path / "a.ome.zarr", batch_size=4)
    resident = plan(job, slide_of(pixels), model).need.resident
    tight = job_for(output=tmp_path / "b.ome.zarr", batch_size=4, memory_limit=resident)
    kinds = [p.kind for p in segment(tight, slide_of(pixels), model)]
    assert "spill" in kinds
    with run(job, slide_of(pixels), model) as one, ProbabilityMap.open(tight.output) as other:
        assert not one.provenance["spilled"]
        assert other.provenance["spilled"]
        np.testing.assert_array_equal(values_of(one)[0], values_of(other)[0])


def test_progress_tells_of_batches_rows_and_the_end(model: PositionModel) -> None:
    slide = slide_of(picture(80, 40))
    steps = list(segment(job_for(batch_size=5), slide, model))
    batches = [s for s in steps if s.kind == "batch"]
    rows = [s for s in steps if s.kind == "row"]
    assert [s.patches_done for s in batches] == [*list(range(5, 80, 5)), 80]
    assert all(s.patches_total == 80 for s in steps)
    assert [s.row for s in rows] == [1, 2, 3, 4, 5]
    assert [(s.region.top, s.region.bottom) for s in rows if s.region] == [
        (0, 16),
        (16, 32),
        (32, 48),
        (48, 64),
        (64, 80),
    ]
    assert steps[-1].kind == "done"
    assert steps[-1].result.status == "complete"
    assert any(s.row < 5 for s in rows if s.patches_done < 80), "rows come while patches do"


def test_rows_can_be_read_when_they_are_announced(model: PositionModel) -> None:
    pixels = picture(80, 40)
    slide = slide_of(pixels)
    job = job_for(batch_size=5)
    expected, _ = expected_map(pixels, model, plan(job, slide, model).grid)
    seen = 0
    for step in segment(job, slide, model):
        if step.kind == "row" and step.region is not None:
            part = step.result.probabilities()[(slice(None), *step.region.slices)].compute()
            np.testing.assert_allclose(
                part, expected[(slice(None), *step.region.slices)], atol=1e-6
            )
            seen += 1
    assert seen == 5


def test_a_cancelled_run_keeps_its_rows_and_goes_on(tmp_path: Path, model: PositionModel) -> None:
    pixels = picture(120, 40)
    job = job_for(output=tmp_path / "a.ome.zarr", batch_size=5)
    steps = segment(job, slide_of(pixels), model)
    for step in steps:
        if step.kind == "row" and step.row == 3:
            break
    steps.close()
    with ProbabilityMap.open(job.output) as stopped:
        assert stopped.status == "cancelled"
        kept = stopped.finished.copy()
        assert kept[:3].all()
        assert not kept.all()
    model.calls.clear()
    with run(job, slide_of(pixels), model) as resumed:
        assert resumed.status == "complete"
        values, _ = values_of(resumed)
    assert sum(model.calls) < plan(job_for(), slide_of(pixels), model).patches
    with run(job_for(), slide_of(pixels), model) as whole:
        np.testing.assert_array_equal(values, values_of(whole)[0])


def test_a_finished_run_is_not_run_again(tmp_path: Path, model: PositionModel) -> None:
    job = job_for(output=tmp_path / "a.ome.zarr")
    run(job, slide_of(picture(40, 40)), model).close()
    model.calls.clear()
    run(job, slide_of(picture(40, 40)), model).close()
    assert model.calls == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"window": "gaussian"}, "window"),
        ({"dtype": "uint8"}, "dtype"),
        ({"stride_shape": 7}, "stride"),
    ],
)
def test_another_run_is_not_continued(
    tmp_path: Path, model: PositionModel, changed: dict[str, object], words: str
) -> None:
    output = tmp_path / "a.ome.zarr"
    run(job_for(output=output), slide_of(picture(40, 40)), model).close()
    with pytest.raises(StoreError, match=f"cannot be continued: it differs in .*{words}"):
        run(job_for(output=output, **changed), slide_of(picture(40, 40)), model)
    with pytest.raises(StoreError, match="it differs in slide"):
        run(job_for(output=output), slide_of(picture(40, 40, seed=5)), model)
    with pytest.raises(JobError, match="exists"):
        run(job_for(output=output, on_exists="error"), slide_of(picture(40, 40)), model)
    with run(
        job_for(output=output, on_exists="overwrite", **changed), slide_of(picture(40, 40)), model
    ) as result:
        assert result.status == "complete"


def test_batch_size_and_memory_do_not_make_another_run(
    tmp_path: Path, model: PositionModel
) -> None:
    output = tmp_path / "a.ome.zarr"
    run(job_for(output=output, batch_size=2), slide_of(picture(40, 40)), model).close()
    again = job_for(output=output, batch_size=3, memory_threshold=50)
    run(again, slide_of(picture(40, 40)), model).close()


def test_a_found_mask_is_settled_once(
    tmp_path: Path, model: PositionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds tissue may change between two versions; a result keeps its own mask."""
    pixels = picture(120, 40)
    tissue = np.zeros((12, 4), bool)
    tissue[2:10] = True
    job = job_for(output=tmp_path / "a.ome.zarr", tissue="auto", batch_size=5)
    steps = segment(job, slide_of(pixels), model, tissue)
    next(step for step in steps if step.kind == "row")
    steps.close()
    # The module: the package's `plan` is its function.
    planning = sys.modules["napari_wsiseg.engine.plan"]
    monkeypatch.setattr(planning, "tissue_for", lambda *_: pytest.fail("looked for again"))
    with run(job, slide_of(pixels), model) as resumed:
        assert resumed.finished.all()
        values, coverage = values_of(resumed)
    monkeypatch.undo()
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))
    with run(job_for(), slide_of(pixels), model, tissue) as whole:
        np.testing.assert_array_equal(values, values_of(whole)[0])
        np.testing.assert_array_equal(coverage, values_of(whole)[1])


def test_every_call_has_the_same_shape(model: PositionModel) -> None:
    run(job_for(batch_size=6), slide_of(picture(80, 40)), model)
    assert set(model.calls) == {6}


def test_nan_costs_its_patch_only(model: PositionModel) -> None:
    class Sick(PositionModel):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            answer = super().predict(patches)
            bad = patches[:, 0, 0, 0] == marked
            answer[bad, 0, 1, 1] = float("nan")
            return answer

    sick = Sick(Size(20, 20), Size(20, 20), Size(20, 20))
    pixels = picture(60, 60)
    pixels[::20, ::20, 0] = 0
    marked = 77
    pixels[20, 40, 0] = marked
    steps = list(segment(job_for(), slide_of(pixels), sick))
    result = steps[-1].result
    assert [(p.row, p.column) for p in result.failed_patches] == [(1, 2)]
    assert "NaN" in result.failed_patches[0].reason
    coverage = result.coverage[0].compute()
    assert not coverage[20:40, 40:60].any()
    assert coverage.sum() == 3600 - 400
    assert result.status == "complete"
    with pytest.raises(InferenceError, match="The patch at x 40, y 20 on the slide failed: "):
        run(job_for(strict=True), slide_of(pixels), sick)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a: a[:, :1], "classes"),
        (lambda a: a[:, :, :-1], "answered with the shape"),
        (lambda a: a * 3, "expected 0 to 1"),
        (lambda a: a[0], "answered with the shape"),
    ],
    ids=["class count", "height", "range", "no batch axis"],
)
def test_a_wrong_model_is_refused_before_there_is_an_output(
    tmp_path: Path, answer: object, words: str
) -> None:
    class Wrong(PositionModel):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            return answer(super().predict(patches))  # type: ignore[operator,no-any-return]

    wrong = Wrong(Size(20, 20), Size(20, 20), Size(20, 20))
    with pytest.raises(ModelError, match=words):
        run(job_for(output=tmp_path / "a.ome.zarr"), slide_of(picture(40, 40)), wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_model_keeps_what_is_finished(tmp_path: Path) -> None:
    class Tired(PositionModel):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            if len(self.calls) == 12:
                raise RuntimeError("out of coffee")
            return super().predict(patches)

    tired = Tired(Size(8, 40), Size(8, 40), Size(8, 40))
    job = job_for(output=tmp_path / "a.ome.zarr", batch_size=1)
    with pytest.raises(InferenceError, match="out of coffee"):
        run(job, slide_of(picture(120, 40)), tired)
    with ProbabilityMap.open(job.output) as result:
        assert result.status == "failed"
        assert result.finished.sum() >= 3
        assert not result.finished.all()


def test_a_batch_that_does_not_fit_is_halved() -> None:
    class Small(PositionModel):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            if len(patches) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().predict(patches)

    small = Small(Size(20, 20), Size(20, 20), Size(20, 20))
    pixels = picture(60, 60)
    result = run(job_for(batch_size=8), slide_of(pixels), small)
    plain = PositionModel(Size(20, 20), Size(20, 20), Size(20, 20))
    np.testing.assert_array_equal(
        values_of(result)[0], values_of(run(job_for(), slide_of(pixels), plain))[0]
    )
    assert set(small.calls) == {2}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("period", [None, 4])
def test_a_patch_that_does_not_fit_says_which_would(
    tmp_path: Path, error: Exception, period: int | None
) -> None:
    """Memory that others took in the middle of a run: the run keeps its geometry."""

    class Small(PositionModel):
        full = False

        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            if len(self.calls) > 2 and patches.shape[1] > 30 and self.full:
                self.tried = [*getattr(self, "tried", []), len(patches)]
                raise error
            return super().predict(patches)

    small = Small(Size(44, 36), Size(40, 32), Size(40, 32))
    small.spec = replace(small.spec, shift_period=period)
    shapes = {"patch_input_shape": (44, 36), "patch_output_shape": (40, 32)}
    job = job_for(output=tmp_path / "a.ome.zarr", batch_size=4, **shapes)
    pixels = picture(400, 64)
    small.full = True
    with pytest.raises(InferenceError) as caught:
        run(job, slide_of(pixels), small)
    assert caught.value.__cause__ is error
    assert small.tried == [4, 2, 1]
    words = str(caught.value)
    assert "One patch of 36 x 44 px (width x height) does not fit" in words
    if period is None:
        assert "another device, and run it on" in words
    else:
        # Half of the input's pixels at the most, by multiples of the period.
        assert "Patches of 20 x 24 px (width x height) would fit: " in words
        assert "patch_input_shape=(24, 20)" in words
        assert "patch_output_shape=(20, 16)" in words
    with ProbabilityMap.open(job.output) as stopped:
        assert stopped.status == "failed"
        assert stopped.finished.any()
        assert stopped.grid.patch_input == Size(44, 36)
    small.full = False
    with run(job, slide_of(pixels), small) as result:
        assert result.status == "complete"


def test_memory_that_ends_beside_the_model_is_one_sentence(
    model: PositionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(RowMerger, "add", refused)
    with pytest.raises(InferenceError, match="Memory ran out beside the model") as caught:
        run(job_for(), slide_of(picture(60, 60)), model)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_a_foreign_folder_is_left_alone(tmp_path: Path, model: PositionModel) -> None:
    foreign = tmp_path / "a.ome.zarr"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    for on_exists in ("resume", "overwrite", "error"):
        with pytest.raises((StoreError, JobError)):
            run(job_for(output=foreign, on_exists=on_exists), slide_of(picture(40, 40)), model)
    assert (foreign / "thesis.txt").read_text() == "years of work"


def test_a_white_slide_gives_a_complete_empty_result(tmp_path: Path, model: PositionModel) -> None:
    white = np.full((60, 60, 3), 255, np.uint8)
    job = job_for(output=tmp_path / "a.ome.zarr", tissue="auto")
    steps = list(segment(job, slide_of(white), model))
    assert any(s.kind == "warning" and s.message for s in steps)
    assert steps[-1].result.status == "complete"
    assert not steps[-1].result.coverage[0].any().compute()
    assert model.calls == []


def test_what_lies_outside_the_region_is_left_for_later(model: PositionModel) -> None:
    pixels = picture(64, 64)
    triangle = ((2.0, 2.0), (2.0, 20.0), (20.0, 2.0))
    job = job_for(region=(triangle,))
    result = run(job, slide_of(pixels), model)
    finished = result.finished
    assert finished.tolist()[0][:2] == [True, True]
    assert finished.sum() == 3
    with pytest.raises(JobError, match="holds no pixel"):
        run(job_for(region=(Region(500, 500, Size(5, 5)),)), slide_of(pixels), model)


@pytest.mark.parametrize("scale", [2, 3])
def test_a_map_may_be_stored_coarser(model: PositionModel, scale: int) -> None:
    pixels = picture(50, 41)
    job = job_for(save_resolution=f"baseline {1 / scale}")
    result = run(job, slide_of(pixels), model)
    expected, covered = expected_map(pixels, model, plan(job, slide_of(pixels), model).grid)
    assert covered.all()
    height, width = -(-50 // scale), -(-41 // scale)
    values, _ = values_of(result)
    assert values.shape == (2, height, width)
    for row, column in np.ndindex(height, width):
        block = expected[:, row * scale : (row + 1) * scale, column * scale : (column + 1) * scale]
        np.testing.assert_allclose(values[:, row, column], block.mean((1, 2)), atol=1e-6)


def test_an_odd_save_resolution_names_the_nearest_two(model: PositionModel) -> None:
    with pytest.raises(JobError, match=r"'baseline 0.5' and 'baseline 0.333333'"):
        run(job_for(save_resolution="baseline 0.4"), slide_of(picture(40, 40)), model)
