"""What may stand in place of a job's slide, model and mask, and what may not."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import napari_wsiseg as ws
from engine.engine_cases import picture
from models.deterministic_weights import deterministic_state_dict
from napari_wsiseg.models.runtimes import is_installed
from napari_wsiseg.models.unet import UNet
from napari_wsiseg.slides.picture import open_file

JOB = ws.SegmentationJob(tissue="none", resolution="baseline 1")


def values_of(result: ws.ProbabilityMap) -> NDArray[np.generic]:
    values: NDArray[np.generic] = result.probabilities().compute()
    return values


@pytest.fixture
def slide_file(tmp_path: Path) -> Path:
    path = tmp_path / "slide.png"
    Image.fromarray(picture(70, 50)).save(path)
    return path


@pytest.fixture
def expected(slide_file: Path) -> NDArray[np.generic]:
    """By open objects alone."""
    with ws.open_slide(slide_file) as slide:
        return values_of(ws.run(JOB, slide, ws.load_model("hdab-stain")))


def test_a_slide_may_be_a_path_or_an_array(slide_file: Path, expected: NDArray[np.generic]) -> None:
    pixels = np.asarray(Image.open(slide_file))
    for slide in (slide_file, str(slide_file), pixels, [pixels]):
        assert ws.plan(JOB, slide).size == ws.Size(70, 50)  # type: ignore[arg-type]
        result = ws.run(JOB, slide, "hdab-stain")  # type: ignore[arg-type]
        np.testing.assert_array_equal(values_of(result), expected)


def test_a_model_may_be_a_name(slide_file: Path, expected: NDArray[np.generic]) -> None:
    job = JOB.model_copy(update={"slide": slide_file})
    assert ws.plan(job, model="hdab-stain").spec.name == "hdab-stain"
    result = ws.run(job, model="hdab-stain")
    np.testing.assert_array_equal(values_of(result), expected)
    assert result.job["model"] == result.spec.name == "hdab-stain"


def test_the_jobs_scale_holds_for_such_a_slide_too(slide_file: Path) -> None:
    job = JOB.model_copy(update={"mpp": 0.5})
    for slide in (slide_file, picture(70, 50)):
        assert ws.plan(job, slide).info.mpp == (0.5, 0.5)


@pytest.mark.parametrize("ending", ["done", "closed", "failed"])
def test_what_a_run_opens_it_closes(
    slide_file: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    kind = type(open_file(slide_file, None))
    close = kind.close

    def noted(self: ws.slides.Slide) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(kind, "close", noted)
    steps = ws.segment(JOB, slide_file, 5 if ending == "failed" else "he-stain")  # type: ignore[arg-type]
    if ending == "failed":
        with pytest.raises(ws.ModelError):
            next(steps)
    else:
        next(steps)
        list(steps) if ending == "done" else steps.close()
    assert len(closed) == 1
    with ws.open_slide(slide_file) as slide:
        ws.run(JOB, slide)
        assert len(closed) == 1, "what was given open stays open"


@pytest.mark.parametrize(
    ("slide", "model", "words"),
    [
        (5, None, "A int is no slide; give a path, an array"),
        ("gone.svs", None, "There is no slide at gone.svs"),
        (None, 5, "A int is no model; give a name, a file"),
        (None, "he-strain", "he-stain"),
        (None, ws.SegmentationJob, "is no model"),
    ],
)
def test_what_is_neither_is_refused_in_one_sentence(
    slide: object, model: object, words: str
) -> None:
    given = picture(20, 20) if slide is None else slide
    for do in (ws.plan, ws.run):
        with pytest.raises((ws.SlideError, ws.ModelError), match=words):
            do(JOB, given, model)  # type: ignore[operator]


def test_a_mask_that_is_none_is_refused() -> None:
    with pytest.raises(ws.JobError, match="mask"):
        ws.plan(JOB, picture(20, 20), tissue="mask.png")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["slide", "weights", "output", "mpp", "batch_size", "region"])
def test_a_value_of_the_wrong_kind_is_told_shortly(field: str) -> None:
    """An array belongs beside the job, and its pixels not into a sentence."""
    with pytest.raises(ws.JobError) as caught:
        ws.SegmentationJob(**{field: picture(40, 40)})
    told = str(caught.value)
    assert told.startswith(f"{field} ")
    assert "array(" in told
    assert len(told) < 250
    assert "\n" not in told


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up weights of fcn-tissue_mask."""
    with torch.device("meta"):
        network = UNet(2, (3,))
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    state = {
        key: torch.from_numpy(np.array(value))
        for key, value in deterministic_state_dict(shapes).items()
    }
    path = tmp_path_factory.mktemp("weights") / "fcn.pth"
    torch.save(state, path)
    return path


def _job(weights: Path, output: Path) -> ws.SegmentationJob:
    return ws.SegmentationJob(
        model="fcn-tissue_mask",
        weights=weights,
        resolution="baseline 1",
        tissue="none",
        patch_input_shape=96,
        patch_output_shape=64,
        output=output,
    )


UPPER = {"region": (ws.Region(0, 0, ws.Size(9, 9)),)}


def test_going_on_keeps_the_precision_that_the_result_was_begun_in(
    tmp_path: Path, weights: Path
) -> None:
    """No machine settles "auto" on "exact"; a result that was begun so goes on so."""
    job = _job(weights, tmp_path / "a.ome.zarr")
    slide = ws.open_slide(picture(600, 64))
    with ws.run(job.model_copy(update=UPPER | {"precision": "exact"}), slide) as part:
        assert not part.finished.all()
    with ws.run(job, slide) as whole:
        assert whole.finished.all()
        assert whole.provenance["model"]["precision"] == "exact"
    afresh = job.model_copy(update={"on_exists": "overwrite"})
    with ws.run(afresh, slide) as other:
        assert other.provenance["model"]["precision"] != "exact"
    # Asked for by name, another one is refused.
    named = job.model_copy(update={"precision": "exact"})
    with pytest.raises(ws.StoreError, match="precision"):
        ws.run(named, slide)


@pytest.mark.skipif(not is_installed("openvino"), reason="needs openvino")
@pytest.mark.parametrize("begun", ["torch", "openvino"])
def test_going_on_keeps_the_backend_that_the_result_was_begun_in(
    tmp_path: Path, weights: Path, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever "auto" stands for when it is gone on with."""
    job = _job(weights, tmp_path / "a.ome.zarr").model_copy(update={"precision": "fp32"})
    slide = ws.open_slide(picture(600, 64))
    ws.run(job.model_copy(update=UPPER | {"backend": begun}), slide).close()
    processor = {"torch": "x86_64", "openvino": "riscv64"}[begun]
    monkeypatch.setattr(platform, "machine", lambda: processor)
    with ws.run(job, slide) as whole:
        assert whole.finished.all()
        assert whole.provenance["model"]["backend"] == begun
        assert ("openvino" in whole.provenance["versions"]) == (begun == "openvino")
    other = {"torch": "openvino", "openvino": "torch"}[begun]
    with pytest.raises(ws.StoreError, match="backend"):
        ws.run(job.model_copy(update={"backend": other}), slide)


def test_going_on_without_the_backend_says_what_is_missing(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_installed("openvino"):
        pytest.skip("needs openvino")
    job = _job(weights, tmp_path / "a.ome.zarr").model_copy(update={"precision": "fp32"})
    slide = ws.open_slide(picture(600, 64))
    ws.run(job.model_copy(update=UPPER | {"backend": "openvino"}), slide).close()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ws.ModelError, match=r"OpenVINO is not installed; .*\[openvino\]"):
        ws.run(job, slide)
