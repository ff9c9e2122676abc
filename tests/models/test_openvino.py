"""UNets in OpenVINO: the same numbers as torch, chosen where they are faster."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import napari_wsiseg as ws
from models.plain_unet import centre, plain_unet
from models.unet_cases import BCSS, KERNELS, bare_network, noise, state_of
from napari_wsiseg.models import hardware, identity, predict
from napari_wsiseg.models.hardware import has_bf16, resolve_backend
from napari_wsiseg.models.runtimes import is_installed

CPU = torch.device("cpu")
# Of processors' many ways to multiply in float32, 2e-5 was measured; a pixel aside makes 0.1.
NEAR = 1e-4
needs_openvino = pytest.mark.skipif(not is_installed("openvino"), reason="needs openvino")


def _compiled(name: str, precision: str):
    from napari_wsiseg.models.openvino import OpenVinoNetwork

    return OpenVinoNetwork(bare_network(name), precision)


@pytest.fixture(scope="module")
def bcss():
    return _compiled(BCSS, "fp32")


@needs_openvino
class TestNetwork:
    @pytest.mark.parametrize("name", KERNELS)
    def test_equals_the_plain_formulation(self, name: str):
        patches = noise(256, 192, count=2)
        ours = _compiled(name, "fp32")(patches, ws.Size(128, 64))
        expected = centre(plain_unet(state_of(name), patches, KERNELS[name]), 128, 64)
        assert ours.dtype == torch.float32
        assert expected.std() > 0.05
        torch.testing.assert_close(ours, expected, atol=NEAR, rtol=0)

    def test_exact_is_nearer_to_float64_than_torch_is(self, bcss):
        """Each rounds in its own way: so near, and two of them are 2e-5 of each other at most."""
        patches, output = noise(512, 512), ws.Size(256, 256)
        network = bare_network(BCSS).eval()
        with torch.inference_mode():
            torchs, true = (
                network.to(dtype)(patches, output) for dtype in (torch.float32, torch.float64)
            )
        ours = _compiled(BCSS, "exact")(patches, output)
        assert (ours - torchs).abs().max() < 2e-5
        assert (ours - true).abs().mean() < 0.75 * (torchs - true).abs().mean()
        assert (ours - true).abs().mean() < 0.75 * (bcss(patches, output) - true).abs().mean()

    @settings(max_examples=8)
    @given(st.data())
    def test_any_shape_and_margin(self, bcss, data: st.DataObject):
        height, width = (32 * data.draw(st.integers(1, 4)) for _ in range(2))
        out_height, out_width = (data.draw(st.integers(1, side)) for side in (height, width))
        patches = noise(height, width, seed=data.draw(st.integers(0, 99)))
        ours = bcss(patches, ws.Size(out_height, out_width))
        expected = centre(plain_unet(state_of(BCSS), patches, (3, 3)), out_height, out_width)
        torch.testing.assert_close(ours, expected, atol=NEAR, rtol=0)

    @pytest.mark.skipif(not has_bf16(CPU), reason="this processor has no bf16")
    def test_bf16_stays_near(self):
        patches = noise(256, 256)
        ours = _compiled(BCSS, "bf16")(patches, ws.Size(128, 128))
        expected = centre(plain_unet(state_of(BCSS), patches, (3, 3)), 128, 128)
        largest = (ours - expected).abs().max().item()
        assert 1e-4 < largest < 0.15, "16 bits are to be seen, and no more than that"
        assert (ours.argmax(1) == expected.argmax(1)).float().mean() > 0.95

    def test_a_batch_has_the_answers_of_its_patches(self, bcss):
        patches, output = noise(96, 64, count=3), ws.Size(32, 32)
        together = bcss(patches, output)
        for i in range(3):
            torch.testing.assert_close(bcss(patches[i : i + 1], output)[0], together[i])

    def test_an_answer_is_not_overwritten_by_the_next(self, bcss):
        first = bcss(noise(64, 64), ws.Size(32, 32))
        before = first.clone()
        bcss(noise(64, 64, seed=1), ws.Size(32, 32))
        assert torch.equal(first, before)

    def test_threads_take_turns(self, bcss):
        cases = [(noise(64, 32 * (1 + i % 2), seed=i), ws.Size(32, 32)) for i in range(6)]
        expected = [bcss(*case) for case in cases]
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda case: bcss(*case), cases))
        for ours, before in zip(answers, expected, strict=True):
            assert torch.equal(ours, before)

    def test_uses_as_many_threads_as_torch(self, bcss, monkeypatch: pytest.MonkeyPatch):
        for count in (1, 2):
            monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
            bcss(noise(64, 64), ws.Size(32, 32))
            compiled = bcss._request.get_compiled_model()
            assert compiled.get_property("INFERENCE_NUM_THREADS") == count

    def test_a_size_that_does_not_fit_is_named(self, bcss):
        with pytest.raises(ws.ModelError, match=r"100 x 64 px .* multiples of 32"):
            bcss(noise(64, 112)[:, :, :100].contiguous(), ws.Size(32, 32))

    def test_what_the_graph_does_not_know_is_named(self):
        from napari_wsiseg.models.openvino_graph import graph_of

        with pytest.raises(NotImplementedError, match="sigmoid has no counterpart"):
            graph_of(torch.sigmoid, (1, 32, 32, 3))

    @settings(max_examples=20)
    @given(st.data())
    def test_sums_in_parts_are_the_same_convolution(self, data: st.DataObject):
        """Of whole numbers, which float32 adds up without a rounding."""
        from napari_wsiseg.models.openvino_graph import graph_of, shorten_sums
        from napari_wsiseg.models.runtimes import openvino

        channels, kernel, stride, padding = (
            data.draw(st.integers(1, most)) for most in (9, 4, 3, 3)
        )
        longest = data.draw(st.integers(kernel**2, 10 * kernel**2))
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
        first = torch.randint(-9, 9, (channels, 3, 1, 1), generator=generator).float()
        second = torch.randint(-9, 9, (2, channels, kernel, kernel), generator=generator).float()
        patches = torch.randint(0, 9, (1, 12, 10, 3), generator=generator, dtype=torch.uint8)

        def network(x):
            x = F.conv2d(x.permute(0, 3, 1, 2).to(torch.float32), first)
            return F.conv2d(x, second, stride=stride, padding=padding)

        graph = graph_of(network, patches.shape)
        shorten_sums(graph, longest)
        sums = [
            node.input_value(1).get_node().data[0].size
            for node in graph.get_ops()
            if node.get_type_name() == "Convolution"
        ]
        assert max(sums) <= longest
        (ours,) = (
            openvino()
            .Core()
            .compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([patches.numpy()])
            .values()
        )
        assert np.array_equal(ours, network(patches))


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "bcss.pth"
    torch.save(state_of(BCSS), path)
    return path


@needs_openvino
class TestLoading:
    def test_says_what_it_computes_with(self, weights_file: Path):
        ours = ws.load_model(BCSS, weights=weights_file, precision="fp32", backend="openvino")
        torchs = ws.load_model(
            BCSS, weights=weights_file, device="cpu", precision="fp32", backend="torch"
        )
        assert identity(ours) == {**identity(torchs), "backend": "openvino"}
        assert (ours.device, torchs.backend) == ("cpu", "torch")
        pixels = noise(544, 544).numpy()
        np.testing.assert_allclose(predict(ours, pixels), predict(torchs, pixels), atol=NEAR)

    def test_sends_no_statistics(self, weights_file: Path):
        """OpenVINO does from its import on, where it finds the package that it brings along."""
        ws.load_model(BCSS, weights=weights_file, precision="fp32", backend="openvino")
        assert is_installed("openvino_telemetry")
        assert "openvino_telemetry" not in sys.modules

    def test_leaves_a_gpu_alone(self, weights_file: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(hardware, "_devices", lambda: ["cuda", "cpu"])
        ours = ws.load_model(BCSS, weights=weights_file, precision="fp32", backend="openvino")
        assert ours.device == "cpu"
        with pytest.raises(ws.ModelError, match="Only on the CPU does OpenVINO compute"):
            resolve_backend("openvino", torch.device("cuda"))

    def test_is_what_auto_takes_where_it_is_faster(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(hardware.platform, "machine", lambda: "AMD64")
        assert resolve_backend("auto", CPU) == "openvino"
        assert resolve_backend("auto", torch.device("cuda")) == "torch"
        monkeypatch.setattr(hardware.platform, "machine", lambda: "aarch64")
        assert resolve_backend("auto", CPU) == "torch"


def test_where_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert resolve_backend("auto", CPU) == "torch"
    with pytest.raises(ws.ModelError) as caught:
        ws.load_model(BCSS, weights="no such file", precision="fp32", backend="openvino")
    assert str(caught.value) == (
        "OpenVINO is not installed; install it with: pip install 'napari-wsiseg[openvino]'."
    )


@pytest.mark.parametrize("backend", ["onnxruntime", "OpenVINO", ""])
def test_a_backend_that_is_none(backend: str):
    with pytest.raises(ws.ModelError, match="is no backend; choose auto, torch, openvino"):
        ws.load_model("he-stain", backend=backend)


@pytest.mark.parametrize("name", ["he-stain", "m.pt", "m.onnx"])
def test_models_that_have_one_backend_take_no_other(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", sys)  # whether it is there is not the question
    with pytest.raises(ws.ModelError, match=r"computed by .*; leave out backend='openvino'"):
        ws.load_model(name, precision="fp32", backend="openvino")
