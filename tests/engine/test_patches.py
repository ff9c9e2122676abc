"""Pictures that are patches already: any model, centred answers, one bad patch costs itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.engine_cases import PositionModel, picture
from napari_wsiseg.engine import segment_patches
from napari_wsiseg.errors import JobError, ModelError
from napari_wsiseg.geometry import Size
from napari_wsiseg.models import load_model

INPUT, OUTPUT = Size(20, 24), Size(14, 16)


@pytest.fixture
def model() -> PositionModel:
    return PositionModel(INPUT, OUTPUT, OUTPUT)


def patches(count: int) -> np.ndarray:
    return np.stack([picture(INPUT.height, INPUT.width, seed) for seed in range(count)])


def test_answers_are_the_models_own_and_files_equal_arrays(
    tmp_path: Path, model: PositionModel
) -> None:
    images = patches(3)
    files = []
    for number, image in enumerate(images):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(files[-1])
    result = segment_patches(images, model)
    expected = model.predict(torch.from_numpy(images)).numpy()
    np.testing.assert_array_equal(result.probabilities, expected)
    assert result.labels.shape == (3, OUTPUT.height, OUTPUT.width)
    assert set(np.unique(result.labels)) <= {0, 1, 2}
    assert result.given is None
    assert result.failed == {}
    mixed = segment_patches([files[0], images[1], str(files[2])], model)
    np.testing.assert_array_equal(mixed.probabilities, expected)


def test_labels_that_were_given_are_cut_to_the_same_centre(model: PositionModel) -> None:
    labels = np.arange(2 * INPUT.area).reshape(2, INPUT.height, INPUT.width)
    given = segment_patches(patches(2), model, labels).given
    assert given is not None
    np.testing.assert_array_equal(given, labels[:, 3:17, 4:20])
    with pytest.raises(JobError, match="give one map a patch"):
        segment_patches(patches(1), model, labels)


def test_a_bad_answer_costs_its_patch_only(model: PositionModel) -> None:
    class Sick(PositionModel):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            answer = super().predict(patches)
            answer[patches[:, 10, 10, 0] == 255, 0, 1, 1] = float("inf")
            return answer

    images = patches(4)
    images[:, 10, 10, 0] = [0, 255, 0, 0]
    result = segment_patches(images, Sick(INPUT, OUTPUT, OUTPUT))
    assert list(result.failed) == [1]
    assert "NaN or infinity" in result.failed[1]
    assert not result.probabilities[1].any()
    assert not result.labels[1].any()
    good = [0, 2, 3]
    np.testing.assert_array_equal(
        result.probabilities[good], segment_patches(images[good], model).probabilities
    )


def test_a_batch_that_does_not_fit_is_halved(model: PositionModel) -> None:
    class Small(PositionModel):
        def predict(self, patches: torch.Tensor) -> torch.Tensor:
            if len(patches) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().predict(patches)

    images = patches(3)
    result = segment_patches(images, Small(INPUT, OUTPUT, OUTPUT))
    np.testing.assert_array_equal(
        result.probabilities, segment_patches(images, model).probabilities
    )


def test_a_stain_model_takes_patches_of_any_size() -> None:
    image = picture(33, 47)
    result = segment_patches([image], load_model("he-stain"))
    assert result.labels.shape == (1, 33, 47)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "There are no patches"),
        ([picture(20, 24), picture(20, 25)], "Patch 1 is 25 x 20 px"),
        ([np.zeros((20, 24), np.uint8)], r"an array \(20, 24\) of uint8; give"),
        ([np.zeros((20, 24, 3))], "of float64; give"),
        ([picture(6, 24)], "takes a size above 8 x 6 px"),
    ],
    ids=["none", "two sizes", "grey", "floats", "no larger than the margin"],
)
def test_what_is_no_patch(model: PositionModel, images: list[np.ndarray], words: str) -> None:
    with pytest.raises(JobError, match=words):
        segment_patches(images, model)


def test_a_model_that_takes_one_size_says_so(model: PositionModel) -> None:
    with pytest.raises(ModelError, match="works on patches of 24 x 20 px"):
        segment_patches([picture(30, 30)], model)
