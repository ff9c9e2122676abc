"""ONNX files: read as data, held against their spec, answered by ONNX Runtime."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import napari_wsiseg as ws
from napari_wsiseg.models import identity, predict, with_shapes
from napari_wsiseg.models.runtimes import is_installed

SPEC: dict[str, Any] = {
    "classes": ["Red", "Green"],
    "patch_input_shape": 16,
    "patch_output_shape": 6,
    "activation": "sigmoid",
}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a network that halves red and green and cuts four pixels off each side."""
    if not (is_installed("onnx") and is_installed("onnxruntime")):
        pytest.skip("needs onnx and onnxruntime")
    return lambda *args, **kwargs: _halves(tmp_path / "halves.onnx", *args, **kwargs)


def _halves(
    path: Path,
    shape: tuple[int | str, ...] = ("n", 3, "h", "w"),
    kind: str = "FLOAT",
    *,
    outputs: int = 1,
    weights: Path | None = None,
    **spec: object,
) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    number = getattr(TensorProto, kind)
    half = np.full((1, 2, 1, 1), 0.5, helper.tensor_dtype_to_np_dtype(number))
    constants = {
        "from": np.array([0, 4, 4]),
        "to": np.array([2, -4, -4]),
        "axes": np.array([1, 2, 3]),
        "half": half,
    }
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axes"], ["centre"]),
        helper.make_node("Mul", ["centre", "half"], ["p0"]),
        helper.make_node("Identity", ["p0"], ["p1"]),
    ]
    graph = helper.make_graph(
        nodes,
        "halves",
        [helper.make_tensor_value_info("x", number, shape)],
        [helper.make_tensor_value_info(f"p{i}", number, [None] * 4) for i in range(outputs)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    if weights is not None:
        from onnx.external_data_helper import set_external_data

        tensor = graph.initializer[-1]
        weights.write_bytes(tensor.raw_data)
        set_external_data(tensor, weights.name)
        tensor.ClearField("raw_data")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    path.with_suffix(".yaml").write_text(yaml.safe_dump({**SPEC, **spec}), encoding="utf-8")
    return path


def _pixels(count: int = 2, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def _expected(pixels: np.ndarray) -> np.ndarray:
    return np.moveaxis(pixels[:, 5:-5, 5:-5, :2], -1, 1) / np.float32(510)


def test_answers_the_centre(make: Make):
    path = make()
    segmenter = ws.load_model(path)
    assert isinstance(segmenter, ws.Segmenter)
    pixels = _pixels()
    np.testing.assert_allclose(predict(segmenter, pixels), _expected(pixels), atol=1e-6)
    told = identity(segmenter)
    assert (told["name"], told["backend"], segmenter.device) == ("halves", "onnxruntime", "cpu")
    assert told["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_fixed_number_of_patches_a_call(make: Make, batch: int):
    pixels = _pixels(3)
    segmenter = ws.load_model(make((batch, 3, 16, 16)))
    np.testing.assert_allclose(predict(segmenter, pixels), _expected(pixels), atol=1e-6)


def test_float16(make: Make):
    pixels = _pixels()
    answer = predict(ws.load_model(make(kind="FLOAT16")), pixels)
    np.testing.assert_allclose(answer, _expected(pixels), atol=1e-3)


def test_other_shapes_where_the_spec_says_so(make: Make):
    segmenter = ws.load_model(make(shift_period=2))
    wide = with_shapes(segmenter, ws.Size(20, 26), ws.Size(10, 16))
    pixels = _pixels(1, 20, 26)
    np.testing.assert_allclose(predict(wide, pixels), _expected(pixels), atol=1e-6)


def test_a_run(make: Make, tmp_path: Path):
    """Also gone on with: what a file leaves no choice of is none to keep."""
    job = ws.SegmentationJob(
        model=str(make(stride_shape=6)), tissue="none", output=tmp_path / "a.ome.zarr",
        dtype="float32", region=ws.Region(0, 0, ws.Size(9, 9)),
    )  # fmt: skip
    pixels = np.random.default_rng(1).integers(0, 256, (600, 20, 3), np.uint8)
    with ws.run(job, pixels) as part:
        assert not part.finished.all()
    with ws.run(job.model_copy(update={"region": None}), pixels) as whole:
        assert whole.finished.all()
        ours = np.asarray(whole.levels[0])
        assert "onnxruntime" in whole.provenance["versions"]
    np.testing.assert_allclose(ours, np.moveaxis(pixels[..., :2], -1, 0) / 510, atol=1e-6)


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ({"shape": ("n", 1, "h", "w")}, r"takes tensor\(float\) of the shape .* RGB patches"),
        ({"kind": "DOUBLE"}, r"takes tensor\(double\) .* in float32 or float16"),
        ({"outputs": 2}, "1 inputs and 2 outputs; export the network with one of each"),
        ({"shape": (1, 3, 32, 32)}, r"the shape \(32, 32\) only, .* patch_input_shape \(16, 16\)"),
        ({"shape": (1, 3, 16, 16), "shift_period": 2}, "shift_period 2, which lets patches grow"),
        ({"patch_output_shape": 12}, "its spec promises 12 x 12"),
    ],
)
def test_a_network_that_is_not_what_it_should_be(make: Make, case: dict, problem: str):
    with pytest.raises(ws.ModelError, match=problem):
        predict(ws.load_model(make(**case)), _pixels())


def test_weights_in_another_file_are_no_part_of_the_digest(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Wherever they lie: ONNX Runtime looks in the working folder too."""
    path = make(weights=tmp_path / "halves.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ws.ModelError, match=r"as one file .* onnx\.save\(onnx\.load"):
        ws.load_model(path)
    assert capfd.readouterr() == ("", "")
    import onnx

    onnx.save(onnx.load(path), path)
    pixels = _pixels()
    np.testing.assert_allclose(predict(ws.load_model(path), pixels), _expected(pixels), atol=1e-6)


def test_damaged_or_missing(make: Make):
    path = make()
    path.write_bytes(b"nothing")
    with pytest.raises(ws.ModelError, match="cannot be read as ONNX") as caught:
        ws.load_model(path)
    assert "\n" not in str(caught.value)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(ws.ModelError, match=r"needs its spec in halves\.yaml"):
        ws.load_model(path)
    path.unlink()
    with pytest.raises(ws.ModelError, match="There is no model file"):
        ws.load_model(path)


def test_a_damaged_file_prints_nothing(make: Make, capfd: pytest.CaptureFixture[str]):
    """What is no text in it fails in Python, and ONNX Runtime would try again aloud."""
    path = make()
    # The name of a step that there is not, and no UTF-8: no error can say it.
    path.write_bytes(path.read_bytes().replace(b"Slice", b"Sl\xffce"))
    with pytest.raises(ws.ModelError, match="cannot be read as ONNX"):
        ws.load_model(path)
    assert capfd.readouterr() == ("", "")


def test_takes_no_other_weights_backend_or_device(monkeypatch: pytest.MonkeyPatch):
    from napari_wsiseg.models import hardware

    with pytest.raises(ws.ModelError, match=r"m\.onnx holds its own weights; leave out"):
        ws.load_model("m.onnx", weights="mine.pth")
    with pytest.raises(ws.ModelError, match="by ONNX Runtime; leave out backend='torch'"):
        ws.load_model("m.onnx", backend="torch")
    monkeypatch.setattr(hardware, "_devices", lambda: ["mps", "cpu"])
    with pytest.raises(ws.ModelError, match="on the CPU, not on 'mps'"):
        ws.load_model("m.onnx", device="mps")
    with pytest.raises(ws.ModelError, match="There is no model file"):
        ws.load_model("m.onnx")


def test_where_the_runtime_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"something")
    path.with_suffix(".yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ws.ModelError) as caught:
        ws.load_model(path)
    assert str(caught.value) == (
        "ONNX Runtime is not installed; install it with: pip install 'napari-wsiseg[onnx]'."
    )


def test_uses_as_many_threads_as_torch(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    options = ws.load_model(make()).network._session.get_session_options()
    assert options.intra_op_num_threads == 1
