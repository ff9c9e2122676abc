"""What results are called in a folder: each run its own, and the same run the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import napari_wsiseg as ws
from engine.engine_cases import picture
from napari_wsiseg.engine import run, segment
from napari_wsiseg.engine.naming import plan_in, result_path
from napari_wsiseg.models import Segmenter, load_model
from napari_wsiseg.slides import Slide

JOB = ws.SegmentationJob(tissue="none", resolution="baseline 1")


@pytest.fixture(scope="module")
def he() -> Segmenter:
    return load_model("he-stain")


@pytest.fixture(scope="module")
def dab() -> Segmenter:
    return load_model("hdab-stain")


def slide_in(folder: Path, pixels: NDArray[np.uint8] | None = None) -> Slide:
    path = folder / "case.png"
    Image.fromarray(picture(70, 50) if pixels is None else pixels).save(path)
    return ws.open_slide(path)


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    return slide_in(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def name(folder: Path, slide: Slide, model: Segmenter, job: ws.SegmentationJob = JOB) -> str:
    output = plan_in(folder, job, slide, model).job.output
    assert output is not None
    assert output.parent == folder
    return output.name


def finish(
    folder: Path, slide: Slide, model: Segmenter, job: ws.SegmentationJob = JOB
) -> ws.ProbabilityMap:
    plan = plan_in(folder, job, slide, model)
    for step in segment(plan.job, slide, model, settled=plan):
        result = step.result
    result.close()
    return result


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_first_is_called_as_its_slide(folder: Path, slide: Slide, he: Segmenter) -> None:
    assert name(folder, slide, he) == "case.ome.zarr"
    assert not folder.exists()


def test_the_same_run_is_gone_on_with(folder: Path, slide: Slide, he: Segmenter) -> None:
    finish(folder, slide, he)
    assert name(folder, slide, he) == "case.ome.zarr"
    assert plan_in(folder, JOB, slide, he).patches == 0
    # So is a part of the slide: the rest comes later.
    part = JOB.model_copy(update={"region": (ws.Region(0, 0, ws.Size(9, 9)),)})
    assert name(folder, slide, he, part) == "case.ome.zarr"


def test_a_run_that_was_stopped_is_gone_on_with(folder: Path, slide: Slide, he: Segmenter) -> None:
    plan = plan_in(folder, JOB, slide, he)
    steps = segment(plan.job, slide, he, settled=plan)
    next(steps)
    steps.close()
    assert name(folder, slide, he) == "case.ome.zarr"


def test_a_second_model_gets_a_name_of_its_own(
    folder: Path, slide: Slide, he: Segmenter, dab: Segmenter
) -> None:
    finish(folder, slide, he)
    before = contents(folder)
    assert name(folder, slide, dab) == "case-hdab-stain.ome.zarr"
    finish(folder, slide, dab)
    assert {path: data for path, data in contents(folder).items() if path in before} == before
    assert name(folder, slide, he) == "case.ome.zarr"
    assert name(folder, slide, dab) == "case-hdab-stain.ome.zarr"


def test_other_settings_get_a_number(folder: Path, slide: Slide, he: Segmenter) -> None:
    names = []
    for kind in ("uint8", "float16", "float32"):
        job = JOB.model_copy(update={"dtype": kind})
        names.append(name(folder, slide, he, job))
        finish(folder, slide, he, job)
    assert names == ["case.ome.zarr", "case-he-stain.ome.zarr", "case-he-stain-2.ome.zarr"]
    assert name(folder, slide, he, JOB.model_copy(update={"dtype": "float16"})) == names[1]


def test_another_slide_of_that_name_gets_its_fingerprint(
    folder: Path, slide: Slide, he: Segmenter, tmp_path: Path
) -> None:
    finish(folder, slide, he)
    (tmp_path / "other").mkdir()
    other = slide_in(tmp_path / "other", picture(70, 50, seed=1))
    marked = f"case-{other.info.fingerprint[:8]}.ome.zarr"
    assert name(folder, other, he) == marked
    assert result_path(folder, other.info).name == marked
    finish(folder, other, he)
    assert name(folder, other, he) == marked
    assert name(folder, slide, he) == "case.ome.zarr"


@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize("on_exists", ["resume", "overwrite"])
def test_what_is_foreign_is_left_alone(
    folder: Path, slide: Slide, he: Segmenter, what: str, on_exists: str
) -> None:
    theirs = folder / "case.ome.zarr"
    folder.mkdir()
    if what == "folder":
        theirs.mkdir()
        (theirs / "notes.txt").write_text("theirs")
    else:
        theirs.write_text("theirs")
    job = JOB.model_copy(update={"on_exists": on_exists})
    before = contents(folder)
    assert name(folder, slide, he, job) == "case-he-stain.ome.zarr"
    finish(folder, slide, he, job)
    assert {path: contents(folder)[path] for path in before} == before


def test_overwriting_takes_this_slides_and_models_result_alone(
    folder: Path, slide: Slide, he: Segmenter, dab: Segmenter
) -> None:
    finish(folder, slide, he)
    finish(folder, slide, dab)
    anew = JOB.model_copy(update={"on_exists": "overwrite", "dtype": "float32"})
    assert name(folder, slide, he, anew) == "case.ome.zarr"
    assert name(folder, slide, dab, anew) == "case-hdab-stain.ome.zarr"
    finish(folder, slide, dab, anew)
    with ws.ProbabilityMap.open(folder / "case.ome.zarr") as kept:
        assert kept.spec.name == "he-stain"
    with ws.ProbabilityMap.open(folder / "case-hdab-stain.ome.zarr") as replaced:
        assert replaced.layout.dtype == "float32"


def test_the_plan_is_the_runs(folder: Path, slide: Slide, he: Segmenter) -> None:
    """Settled once, as it was shown: a run by name ends with the same map."""
    finish(folder, slide, he)
    plain = run(JOB.model_copy(update={"output": folder / "plain.ome.zarr"}), slide, he)
    with plain, ws.ProbabilityMap.open(folder / "case.ome.zarr") as named:
        assert not named.info.differences(plain.info.identity)
        np.testing.assert_array_equal(
            named.probabilities().compute(), plain.probabilities().compute()
        )
