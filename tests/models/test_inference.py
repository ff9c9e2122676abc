"""Asking a segmenter: arrays, errors, promises kept."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

import napari_wsiseg as ws
from napari_wsiseg.models import (
    OutOfMemory,
    check_range,
    check_shape,
    identity,
    predict,
    with_shapes,
)

Answer = Callable[[torch.Tensor], object]
SPEC = ws.ModelSpec("mine", ("A", "B"), patch_input_shape=8, patch_output_shape=4)


class Mine:
    """Answers with whatever a function makes of the patches."""

    def __init__(self, answer: Answer, spec: ws.ModelSpec = SPEC) -> None:
        self.spec = spec
        self._answer = answer

    def predict(self, patches: torch.Tensor) -> object:
        return self._answer(patches)


def _pixels(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)


def _center(patches: torch.Tensor) -> torch.Tensor:
    return (patches[:, 2:6, 2:6, :2].double() / 255).permute(0, 3, 1, 2).requires_grad_()


def test_the_answer_is_a_plain_array():
    pixels = _pixels()
    answer = predict(Mine(_center), pixels)
    assert answer.dtype == np.float32
    assert answer.flags.c_contiguous
    expected = np.moveaxis(pixels[:, 2:6, 2:6, :2], -1, 1) / 255
    np.testing.assert_allclose(answer, expected, atol=1e-7)


def test_views_and_read_only_pixels_are_taken():
    pixels = _pixels()
    expected = predict(Mine(_center), pixels[::-1].copy())
    pixels.setflags(write=False)
    np.testing.assert_array_equal(predict(Mine(_center), pixels[::-1]), expected)


def _fails(error: Exception) -> Answer:
    def answer(patches: torch.Tensor) -> torch.Tensor:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("bad kernel\nmore"), "RuntimeError: bad kernel"),
        (ValueError("bad kernel."), "ValueError: bad kernel"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_failure_names_the_model_and_keeps_the_cause(error: Exception, said: str):
    with pytest.raises(ws.InferenceError) as caught:
        predict(Mine(_fails(error)), _pixels())
    assert caught.value.__cause__ is error
    assert not isinstance(caught.value, OutOfMemory)
    assert str(caught.value) == (
        f"Model 'mine' failed on 3 patches of 8 x 8 px (width x height) ({said})."
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough "
            "memory: you tried to allocate 9 bytes."
        ),
        Exception(
            "[ONNXRuntimeError] : 6 : bad_alloc: Failed to allocate memory for requested "
            "buffer of size 9"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_is_told_apart(error: Exception):
    with pytest.raises(OutOfMemory, match="smaller batch_size"):
        predict(Mine(_fails(error)), _pixels())


def test_a_real_allocation_that_cannot_be():
    with pytest.raises(OutOfMemory):
        predict(Mine(lambda _: torch.empty(2**55)), _pixels())


def test_our_own_errors_pass():
    with pytest.raises(ws.ModelError, match="as it is"):
        predict(Mine(_fails(ws.ModelError("as it is"))), _pixels())


def test_an_answer_that_is_no_tensor():
    with pytest.raises(ws.ModelError, match="answered with a list"):
        predict(Mine(lambda patches: [patches]), _pixels())


GOOD = np.full((3, 2, 4, 4), 0.5, np.float32)


def test_an_answer_that_passes():
    check_shape(SPEC, GOOD.shape, 3, ws.Size(4, 4))
    check_range(SPEC, -9e-4, 1.0009)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (GOOD[0], r"the shape \(2, 4, 4\); expected .* \(3, 2, 4, 4\)"),
        (GOOD[:2], r"the shape \(2, 2, 4, 4\); expected"),
        (GOOD[..., :3], r"the shape \(3, 2, 4, 3\); expected"),
        (GOOD[:, :1], "1 classes; its spec names 2: A, B"),
        (np.moveaxis(GOOD, 1, -1), "4 classes; its spec names 2"),
    ],
)
def test_broken_promises_of_shape(answer: np.ndarray, problem: str):
    with pytest.raises(ws.ModelError, match=problem):
        check_shape(SPEC, answer.shape, 3, ws.Size(4, 4))


@pytest.mark.parametrize(
    ("low", "high", "problem"),
    [
        (-0.0011, 0.5, r"from -0.0011 to 0.5; expected 0 to 1 .* \(softmax\)"),
        (0.5, 1.0011, "from 0.5 to 1.001"),
        (0.5, 37.5, "from 0.5 to 37.5"),
    ],
)
def test_broken_promises_of_range(low: float, high: float, problem: str):
    with pytest.raises(ws.ModelError, match=problem):
        check_range(SPEC, low, high)


class TestShapes:
    def test_ours_take_another_margin(self):
        segmenter = with_shapes(ws.load_model("hdab-stain"), ws.Size(20, 30), ws.Size(10, 6))
        pixels = np.random.default_rng(1).integers(0, 256, (1, 20, 30, 3), np.uint8)
        whole = predict(ws.load_model("hdab-stain"), pixels)
        np.testing.assert_array_equal(predict(segmenter, pixels), whole[..., 5:15, 12:18])
        assert segmenter.spec.patch_output_shape == (10, 6)
        assert identity(segmenter) == identity(ws.load_model("hdab-stain"))

    def test_ours_keep_what_they_say_of_themselves(self):
        model = ws.load_model("hdab-stain", device="cpu")
        model.bytes_per_pixel, model.weights_sha256 = 7, "a" * 64
        other = with_shapes(model, ws.Size(20, 30), ws.Size(10, 6))
        assert vars(other) == {**vars(model), "spec": other.spec}
        assert model.spec == ws.models()["hdab-stain"], "the first one stays as it is"

    def test_a_patch_inside_the_margin(self):
        segmenter = with_shapes(ws.load_model("hdab-stain"), ws.Size(20, 20), ws.Size(10, 10))
        with pytest.raises(ws.ModelError, match=r"10 x 40 px .* above \(10, 10\)"):
            predict(segmenter, np.zeros((1, 40, 10, 3), np.uint8))

    def test_one_that_was_brought_keeps_its_margin(self):
        mine = Mine(_center)
        assert with_shapes(mine, ws.Size(8, 8), ws.Size(4, 4)) is mine
        with pytest.raises(ws.ModelError, match="leave patch_input_shape"):
            with_shapes(mine, ws.Size(16, 16), ws.Size(12, 12))

    def test_one_that_was_brought_widens_by_its_period(self):
        spec = ws.ModelSpec("m", ("A",), patch_input_shape=8, patch_output_shape=4, shift_period=4)
        mine = Mine(_center, spec)
        assert with_shapes(mine, ws.Size(16, 16), ws.Size(12, 12)) is mine
        with pytest.raises(ws.ModelError, match="works on patches of 8 x 8"):
            with_shapes(mine, ws.Size(16, 16), ws.Size(8, 8))


class TestIdentity:
    def test_is_plain_data(self):
        told = identity(ws.load_model("he-stain"))
        assert json.loads(json.dumps(told)) == told
        assert told["precision"] == "exact"
        assert told["backend"] == "torch"

    def test_tells_stains_apart(self):
        from napari_wsiseg.models import STAINS, stain_model

        other = stain_model("he-stain", STAINS["H&E (Ruifrok and Johnston)"])
        assert identity(other) != identity(ws.load_model("he-stain"))

    def test_of_one_that_was_brought(self):
        mine = Mine(_center)
        told = identity(mine)
        assert told["name"] == "mine"
        assert told["backend"].endswith("test_inference.Mine")
        assert told["weights_sha256"] is None
        mine.weights_sha256, mine.precision = "ab", "int8"
        assert (identity(mine)["weights_sha256"], identity(mine)["precision"]) == ("ab", "int8")
