"""The UNet: published names, the reference's numbers, and its shortcuts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

import napari_wsiseg as ws
from models.plain_unet import centre, plain_unet, published_shapes, weights
from models.unet_cases import BCSS, KERNELS, bare_network, noise, shapes_of, state_of
from napari_wsiseg.models import predict
from napari_wsiseg.models.hardware import has_bf16
from napari_wsiseg.models.networks import prepare
from napari_wsiseg.models.unet import UNet

CPU = torch.device("cpu")

Map = NDArray[np.float32]
Ask = Callable[..., Map]
Exact = tuple[UNet, dict[str, torch.Tensor], tuple[int, ...]]


def _network(name: str, precision: str) -> UNet:
    return prepare(bare_network(name), CPU, precision)


@pytest.fixture(scope="module", params=["fcn-tissue_mask", BCSS])
def exact(request: pytest.FixtureRequest) -> Exact:
    name = request.param
    return _network(name, "exact"), state_of(name), KERNELS[name]


@pytest.mark.parametrize("name", KERNELS)
def test_names_and_shapes_are_the_published_ones(name: str, shared_data: Path):
    ours, published = shapes_of(name), published_shapes(shared_data, name)
    assert list(ours) == list(published)
    assert ours == published


def test_equals_the_plain_formulation(exact: Exact):
    network, state, kernels = exact
    patches = noise(256, 192, count=2)
    with torch.inference_mode():
        ours = network(patches, ws.Size(128, 64))
    expected = centre(plain_unet(state, patches, kernels), 128, 64)
    assert ours.shape == expected.shape
    assert expected.std() > 0.05
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=0)


@settings(max_examples=10)
@given(st.data())
def test_answering_only_where_asked_changes_no_pixel(exact: Exact, data: st.DataObject):
    network, state, kernels = exact
    height, width = (32 * data.draw(st.integers(1, 4)) for _ in range(2))
    out_height, out_width = (data.draw(st.integers(1, side)) for side in (height, width))
    patches = noise(height, width, seed=data.draw(st.integers(0, 99)))
    with torch.inference_mode():
        ours = network(patches, ws.Size(out_height, out_width))
    expected = centre(plain_unet(state, patches, kernels), out_height, out_width)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("name", "percent"), [(BCSS, 64), ("fcn-tissue_mask", 70)])
def test_answering_only_where_asked_saves_what_the_page_says(name: str, percent: int, root: Path):
    spec = ws.models()[name]
    counts = []
    with torch.device("meta"):
        network = UNet(len(spec.classes), KERNELS[name])
        patch = torch.empty((1, *spec.patch_input_shape, 3), dtype=torch.uint8)
    for output in (spec.patch_output_shape, spec.patch_input_shape):
        with FlopCounterMode(display=False) as counter:
            network(patch, ws.Size(*output))
        counts.append(counter.get_total_flops())
    assert round(100 * counts[0] / counts[1]) == percent
    text = (root / "docs" / "models.md").read_text(encoding="utf-8")
    assert "64 % of the multiplications (`fcn-tissue_mask`: 70 %)" in text


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-5), ("bf16", 0.15)])
def test_faster_arithmetic_stays_near(precision: str, tolerance: float):
    if precision == "bf16" and not has_bf16(CPU):
        pytest.skip("this processor has no bf16")
    network, state = _network(BCSS, precision), state_of(BCSS)
    patches = noise(256, 256)
    with torch.inference_mode():
        ours = network(patches, ws.Size(128, 128))
    expected = centre(plain_unet(state, patches, (3, 3)), 128, 128)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)
    # Random weights make close calls of most pixels.
    assert (ours.argmax(1) == expected.argmax(1)).float().mean() > 0.95


def test_the_classifier_of_the_encoder_takes_no_part(exact: Exact, monkeypatch: pytest.MonkeyPatch):
    network, patches = exact[0], noise(64, 64)
    with torch.inference_mode():
        before = network(patches, ws.Size(32, 32))
        monkeypatch.setattr(network.backbone, "fc", None)
        assert torch.equal(network(patches, ws.Size(32, 32)), before)


def test_a_size_that_does_not_fit_is_named(exact: Exact):
    with pytest.raises(ws.ModelError, match=r"100 x 64 px .* multiples of 32"):
        exact[0](noise(64, 112)[:, :, :100], ws.Size(32, 32))


@pytest.fixture(scope="module")
def bcss(tmp_path_factory: pytest.TempPathFactory) -> ws.Segmenter:
    path = tmp_path_factory.mktemp("weights") / "bcss.pth"
    torch.save(weights(shapes_of(BCSS)), path)
    return ws.load_model(BCSS, weights=path, device="cpu", precision="exact", backend="torch")


@pytest.fixture(scope="module")
def slide(real_slide: Path) -> NDArray[np.uint8]:
    import openslide

    with openslide.OpenSlide(real_slide) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    return np.pad(pixels, ((256, 1024), (256, 1024), (0, 0)), constant_values=255)


@pytest.fixture(scope="module")
def reference(golden: Path) -> Map:
    """(5, 186, 139): every 16th pixel of the map."""
    with np.load(golden / "unet_bcss_cmu1_stride450.npz") as file:
        assert int(file["step"]) == 16
        return np.moveaxis(file["probabilities"], -1, 0)


@pytest.fixture(scope="module")
def answer(bcss: ws.Segmenter, slide: NDArray[np.uint8]) -> Ask:
    def answer(top: int, left: int, side: int = 1024) -> Map:
        return predict(bcss, slide[None, top : top + side, left : left + side])[0]

    return answer


@pytest.fixture(scope="module")
def corner(answer: Ask) -> Map:
    return answer(0, 0)


def test_tiatoolbox_first_patch(corner: Map, reference: Map):
    ours = corner[:, :450:16, :450:16]
    np.testing.assert_allclose(ours, reference[:, :29, :29], rtol=0, atol=2e-5)
    assert ours.std() > 0.1


def test_tiatoolbox_overlap_of_two_patches(corner: Map, answer: Ask, reference: Map):
    columns = np.arange(464, 512, 16)
    ours = (corner[:, :450:16, columns] + answer(0, 450)[:, :450:16, columns - 450]) / 2
    np.testing.assert_allclose(ours, reference[:, :29, columns // 16], rtol=0, atol=2e-5)


def test_tiatoolbox_white_beyond_the_slide(answer: Ask, reference: Map):
    rows, columns = np.arange(2768, 2967, 16), np.arange(1872, 2220, 16)
    ours = answer(2700, 1800)[:, rows[:, None] - 2700, columns - 1800]
    expected = reference[:, rows[:, None] // 16, columns // 16]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)


def test_a_wider_field_gives_the_same_pixels(corner: Map, answer: Ask):
    wide = answer(0, 0, 1088)
    assert wide.shape == (5, 576, 576)
    np.testing.assert_allclose(wide[:, :512, :512], corner, rtol=0, atol=2e-5)
