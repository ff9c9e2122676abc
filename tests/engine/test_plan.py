"""What a job comes to, before anything runs; and jobs that come to nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import plan, run
from napari_wsiseg.engine.words import plan_words
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.slides import open_slide


@pytest.fixture
def model() -> PositionModel:
    return PositionModel(Size(40, 44), Size(30, 32), Size(20, 20))


def job_for(**values: object) -> SegmentationJob:
    return SegmentationJob(**{"tissue": "none"} | values)  # type: ignore[arg-type]


def test_a_budget_too_small_names_the_least_that_works(model: PositionModel) -> None:
    slide = slide_of(picture(80, 80))
    with pytest.raises(JobError, match="one patch of 44 x 40 px") as caught:
        plan(job_for(memory_limit="1 MB"), slide, model)
    found = re.search(r"needs (\d+) MB", str(caught.value))
    assert found is not None
    least = int(found[1])
    with pytest.raises(JobError):
        plan(job_for(memory_limit=f"{least - 1} MB"), slide, model)
    result = run(job_for(memory_limit=f"{least} MB"), slide, model)
    assert result.status == "complete"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"patch_input_shape": 10}, "no larger than the margin of position, 12 x 10 px"),
        ({"patch_output_shape": 50, "patch_input_shape": 40}, "larger than its input"),
        ({"stride_shape": 31}, "stride height 31 is larger .* give at most 30"),
        ({"resolution": "baseline 5000", "stride_shape": 1}, "patches would lie on .* coarser"),
        ({"resolution": "0.5 mpp"}, "says nothing of its µm per pixel"),
        ({"resolution": "level 3"}, "has no level 3"),
        ({"region": (Region(0, 0, Size(-5, 10)),)}, "holds no pixel; give at least 1 x 1"),
        ({"region": (Region(0, 0, Size(-5, -5)),)}, "holds no pixel; give at least 1 x 1"),
        ({"region": (Region(90, 0, Size(5, 5)),)}, "holds no pixel of the slide"),
        ({"region": (((0.0, 0.0), (5.0, 5.0)),)}, "polygon of 2 points"),
        ({"region": ()}, "holds no pixel of the slide"),
    ],
    ids=str,
)
def test_jobs_that_cannot_be_done(
    model: PositionModel, values: dict[str, object], words: str
) -> None:
    with pytest.raises(JobError, match=words):
        plan(job_for(**values), slide_of(picture(80, 80)), model)


def test_shapes_that_are_not_named_follow_the_ones_that_are(model: PositionModel) -> None:
    slide = slide_of(picture(80, 80))
    grid = plan(job_for(patch_input_shape=(25, 30)), slide, model).grid
    assert (grid.patch_output, grid.stride) == (Size(15, 18), Size(15, 18))
    grid = plan(job_for(patch_output_shape=(16, 50)), slide, model).grid
    assert (grid.patch_input, grid.stride) == (Size(26, 62), Size(16, 20))


@pytest.mark.parametrize(
    ("run_at", "store_at"),
    [("baseline 1", "0.7 mpp"), ("0.5 mpp", "0.7 mpp"), ("0.5 mpp", "baseline 0.3")],
)
def test_the_save_resolutions_that_are_named_work(
    model: PositionModel, run_at: str, store_at: str
) -> None:
    """Also where a pixel of the slide is no square, and so only one of the units fits."""
    for mpp in ((0.25, 0.25), (0.25, 0.3)):
        slide = open_slide(picture(80, 80), mpp=mpp)
        with pytest.raises(JobError, match="the nearest are") as caught:
            plan(job_for(resolution=run_at, save_resolution=store_at), slide, model)
        nearest = str(caught.value).partition("the nearest are ")[2]
        names = re.findall(r"'([^']+)'", nearest)
        assert len(names) == 2
        for named in names:
            plan(job_for(resolution=run_at, save_resolution=named), slide, model)


def test_shapes_left_open_are_those_of_the_result_that_is_there(
    tmp_path: Path, model: PositionModel
) -> None:
    """What was left open is settled once: a later machine must not settle it otherwise."""
    slide, output = slide_of(picture(80, 80)), tmp_path / "a.ome.zarr"
    run(job_for(output=output, stride_shape=10), slide, model).close()
    assert plan(job_for(), slide, model).grid.stride == Size(20, 20)
    assert plan(job_for(output=output), slide, model).grid.stride == Size(10, 10)
    assert plan(job_for(output=output, stride_shape=20), slide, model).grid.stride == Size(20, 20)


def test_a_batch_that_takes_half_the_budget_is_halved(model: PositionModel) -> None:
    slide = slide_of(picture(80, 80))
    settled = plan(job_for(batch_size=4096, memory_limit="172 MB"), slide, model)
    assert settled.batch_size < 4096
    assert settled.need.batches <= 70 * 10**6
    assert any("batch_size 4096 does not fit" in sentence for sentence in settled.warnings)


def test_enlarging_is_warned_of(model: PositionModel) -> None:
    warnings = plan(job_for(resolution="baseline 4"), slide_of(picture(40, 40)), model).warnings
    assert any("enlarges the slide 4.0 times" in sentence for sentence in warnings)


def test_the_plan_is_what_the_run_does(model: PositionModel) -> None:
    slide = slide_of(picture(80, 80))
    tissue = np.zeros((8, 8), bool)
    tissue[1, 1] = True
    foretold = plan(job_for(), slide, model, tissue)
    result = run(job_for(), slide, model, tissue)
    assert foretold.patches == int(result.grid.keep.sum()) > 0
    assert foretold.size == result.size
    assert foretold.chunks == 1
    assert foretold.seconds is not None
    assert foretold.memory_bytes >= foretold.need.resident


def test_a_plan_counts_what_is_left(tmp_path: Path, model: PositionModel) -> None:
    slide = slide_of(picture(1100, 600))
    output = tmp_path / "a.ome.zarr"
    upper = job_for(output=output, region=(Region(0, 0, Size(500, 600)),))
    run(upper, slide, model).close()
    assert plan(upper, slide, model).patches == 0
    whole = job_for(output=output)
    left, fresh = plan(whole, slide, model), plan(job_for(), slide, model)
    assert 0 < left.patches < fresh.patches == fresh.grid.keep.size
    assert 0 < left.seconds < fresh.seconds  # type: ignore[operator]
    assert 0 < left.disk_bytes < fresh.disk_bytes
    in_all = fresh.patches
    assert f", {left.patches} of {in_all} patches left, about" in plan_words(left)
    assert f", {in_all} patches, about" in plan_words(fresh)
    assert plan_words(plan(upper, slide, model)).endswith(
        "600 x 1100 px, done before: nothing is left to compute"
    )
    steps = run(whole, slide, model)
    assert steps.finished.all()


def test_the_maps_scale_is_as_asked_for(model: PositionModel) -> None:
    slide = open_slide(picture(300, 200), mpp=0.499)
    settled = plan(job_for(resolution="0.7 mpp", save_resolution="2.1 mpp"), slide, model)
    assert settled.map_mpp == (0.7 * 3, 0.7 * 3)
    assert plan(job_for(resolution="baseline 0.5"), slide, model).map_mpp == (0.998, 0.998)
