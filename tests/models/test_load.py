"""`load_model`: names, files, objects, devices and precisions."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import yaml

import napari_wsiseg as ws
from napari_wsiseg.models import predict, runtimes
from napari_wsiseg.models.hardware import has_bf16, resolve_device, resolve_precision

CPU = torch.device("cpu")


class Brought:
    spec = ws.ModelSpec("brought", ("A",))

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        return patches[:, None, :, :, 0] / 255


@pytest.mark.parametrize("name", ["hdab-stain", "he-stain", "tissue"])
def test_stain_models_load_at_once(name: str):
    segmenter = ws.load_model(name)
    assert isinstance(segmenter, ws.Segmenter)
    assert segmenter.spec == ws.models()[name]
    assert segmenter.weights_sha256 is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("he_stain", "did you mean he-stain"),
        ("HE-Stain", "did you mean he-stain"),
        ("fcn_resnet50_unet", "fcn_resnet50_unet-bcss"),
        ("tissue_mask", "fcn-tissue_mask"),
        ("xyzzy", "choose one of hdab-stain, he-stain, tissue"),
        ("", "choose one of"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, hint: str):
    with pytest.raises(ws.ModelError, match=hint):
        ws.load_model(wrong)


def test_an_object_passes_through():
    brought = Brought()
    assert ws.load_model(brought) is brought


@pytest.mark.parametrize("wrong", [None, 3, object(), Brought.spec])
def test_what_is_no_model(wrong: object):
    with pytest.raises(ws.ModelError, match="is no model; give a name"):
        ws.load_model(wrong)


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "", "gpu", "meta"])
def test_a_device_that_is_not_here(device: str):
    with pytest.raises(ws.ModelError, match=r"choose one of auto|it has"):
        ws.load_model("he-stain", device=device)


def test_auto_takes_what_is_here():
    device = resolve_device("auto")
    assert device.type in {"cuda", "mps", "cpu"}
    assert resolve_device("cpu") == CPU
    assert resolve_precision("auto", CPU) == ("bf16" if has_bf16(CPU) else "fp32")


@pytest.mark.parametrize("precision", ["half", "FP32", "", "fp16"])
def test_a_precision_that_cannot_be(precision: str):
    with pytest.raises(ws.ModelError, match=r"choose (precision )?auto"):
        ws.load_model("he-stain", device="cpu", precision=precision)


def test_bf16_is_refused_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert resolve_precision("auto", CPU) == "fp32"
    with pytest.raises(ws.ModelError, match="does not compute in bf16"):
        resolve_precision("bf16", CPU)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("m.pth", "no network"), ("m.safetensors", "no network")],
)
def test_files_that_are_no_model_say_why(name: str, problem: str):
    with pytest.raises(ws.ModelError, match=problem):
        ws.load_model(name)


class TestTorchScript:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        class Halves(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x[:, :2, 4:-4, 4:-4] / 2

        path = tmp_path / "halves.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.trace(Halves(), torch.rand(1, 3, 16, 16)), path)
        spec = {
            "classes": ["Red", "Green"],
            "patch_input_shape": 16,
            "patch_output_shape": 6,
            "activation": "sigmoid",
        }
        path.with_suffix(".yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        return path

    def test_runs_only_when_trusted(self, path: Path):
        with pytest.raises(ws.ModelError, match=r"runs code .* trust=True"):
            ws.load_model(path)

    def test_answers_the_centre(self, path: Path):
        segmenter = ws.load_model(path, trust=True)
        assert segmenter.spec.name == "halves"
        assert len(segmenter.weights_sha256) == 64
        pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
        expected = np.moveaxis(pixels[:, 5:11, 5:11, :2], -1, 1) / np.float32(510)
        np.testing.assert_allclose(predict(segmenter, pixels), expected, atol=1e-6)

    def test_takes_no_other_weights_and_no_unknown_precision(self, path: Path):
        with pytest.raises(ws.ModelError, match=r"halves\.pt holds its own weights; leave out"):
            ws.load_model(path, weights="mine.pth", trust=True)
        with pytest.raises(ws.ModelError, match="'half' is no precision"):
            ws.load_model(path, precision="half", trust=True)

    def test_needs_its_spec(self, path: Path):
        path.with_suffix(".yaml").unlink()
        with pytest.raises(ws.ModelError, match=r"needs its spec in halves\.yaml"):
            ws.load_model(path, trust=True)

    @pytest.mark.parametrize("text", ["1: 2", "- a", "a: [", "classes: [A]\nsize: 3"])
    def test_a_spec_of_something_else_is_one_sentence(self, path: Path, text: str):
        path.with_suffix(".yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ws.ModelError) as caught:
            ws.load_model(path, trust=True)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)

    def test_a_state_dict_is_told_how_to_be_used(self, path: Path):
        torch.save({"a": torch.ones(1)}, path)
        with pytest.raises(ws.ModelError, match="give a state dict with weights=PATH") as caught:
            ws.load_model(path, trust=True)
        assert "\n" not in str(caught.value)

    def test_a_smaller_answer_than_promised(self, path: Path):
        beside = path.with_suffix(".yaml")
        text = beside.read_text(encoding="utf-8").replace("shape: 6", "shape: 12")
        beside.write_text(text, encoding="utf-8")
        with pytest.raises(ws.ModelError, match="its spec promises 12 x 12"):
            predict(ws.load_model(path, trust=True), np.zeros((1, 16, 16, 3), np.uint8))

    def test_damaged_or_missing(self, path: Path):
        path.write_bytes(b"nothing")
        with pytest.raises(ws.ModelError, match="cannot be read as TorchScript"):
            ws.load_model(path, trust=True)
        path.unlink()
        with pytest.raises(ws.ModelError, match="There is no model file"):
            ws.load_model(path, trust=True)


def test_onnx_runtime_is_told_to_keep_its_statistics_to_itself(monkeypatch: pytest.MonkeyPatch):
    runtime = MagicMock()
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    assert runtimes.onnxruntime() is runtime
    runtime.disable_telemetry_events.assert_called_once_with()
