"""The zoo's table: what it promises, and colours that can be told apart."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

import napari_wsiseg as ws
from napari_wsiseg.models import weights_ready

ZOO = ws.models()

# Machado, Oliveira and Fernandes, IEEE TVCG 2009; 15: 1291-1298, severity 1, linear RGB.
SIGHT = {
    "full": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
# As they look on a slide: eosin, hematoxylin of H&E; DAB, hematoxylin of H-DAB.
ON_THE_SLIDE = {
    "H&E": ["#E6A0C4", "#6A4C93"],
    "H-DAB": ["#8B5A2B", "#9FB4D8"],
}

# Collagen and keratin of a strong stain, as in a skin biopsy.
DARK_EOSIN = "#BE5A86"


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def _difference(one: str, other: str, sight: str) -> float:
    lab = []
    for color in (one, other):
        rgb = _rgb(color)
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen = (SIGHT[sight] @ linear).clip(0, 1)
        back = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab.append(rgb2lab(back))
    return float(deltaE_ciede2000(*lab))


@pytest.mark.parametrize("name", ZOO)
def test_texts_are_there(name: str):
    spec = ZOO[name]
    assert spec.name == name
    for text in (spec.description, spec.intended_use, spec.license):
        assert text
        assert "\n" not in text
    assert len(spec.class_colors) == len(spec.classes)


def test_licences_that_forbid_commercial_use_say_so():
    for name in ("fcn-tissue_mask", "unet_tissue_mask_tsef"):
        assert ZOO[name].license == "CC BY-NC-SA 4.0 (non-commercial)"
    assert ZOO["fcn_resnet50_unet-bcss"].license == "CC0 1.0"


@pytest.mark.parametrize(
    ("name", "resolution", "stride", "classes", "background"),
    [
        ("fcn-tissue_mask", "2 mpp", 450, 2, 0),
        ("fcn_resnet50_unet-bcss", "0.25 mpp", 450, 5, None),
        ("unet_tissue_mask_tsef", "baseline 1", 256, 3, None),
    ],
)
def test_networks_as_published(
    name: str, resolution: str, stride: int, classes: int, background: int | None
):
    spec = ZOO[name]
    assert str(spec.resolution) == resolution
    assert (spec.patch_input_shape, spec.patch_output_shape) == ((1024, 1024), (512, 512))
    assert spec.stride_shape == (stride, stride)
    assert (len(spec.classes), spec.background, spec.shift_period) == (classes, background, 32)
    assert spec.exclusive


@pytest.mark.parametrize("name", ["hdab-stain", "he-stain", "tissue"])
def test_stains_are_judged_by_themselves_and_need_nothing(name: str):
    spec = ZOO[name]
    assert spec.activation == "stain"
    assert set(spec.thresholds) == set(spec.classes)
    assert spec.patch_input_shape == spec.patch_output_shape == spec.stride_shape
    assert weights_ready(name)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("name", ZOO)
def test_classes_can_be_told_apart(name: str, sight: str):
    spec = ZOO[name]
    for one, other in itertools.combinations(spec.class_colors, 2):
        assert _difference(one, other, sight) > 15, (one, other)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("name", ZOO)
def test_classes_stand_out_from_the_stains(name: str, sight: str):
    spec = ZOO[name]
    stains = {
        "hdab-stain": ON_THE_SLIDE["H-DAB"],
        "tissue": list(itertools.chain(*ON_THE_SLIDE.values())),
    }.get(name, ON_THE_SLIDE["H&E"])
    for index, color in enumerate(spec.class_colors):
        if index != spec.background:
            assert min(_difference(color, stain, sight) for stain in stains) > 15, color


def _laid(color: str, ground: str) -> str:
    """As the window shows it: over a stain, with the opacity that it starts with."""
    mixed = np.rint(255 * (0.4 * _rgb(color) + 0.6 * _rgb(ground))).astype(int)
    return "#{:02X}{:02X}{:02X}".format(*mixed)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("name", ZOO)
def test_classes_can_be_told_apart_where_they_cover_the_slide(name: str, sight: str):
    spec = ZOO[name]
    for ground in (*ON_THE_SLIDE["H-DAB" if spec.stain == "H-DAB" else "H&E"], DARK_EOSIN):
        for one, other in itertools.combinations(spec.class_colors, 2):
            assert _difference(_laid(one, ground), _laid(other, ground), sight) > 8, (one, other)


@pytest.mark.parametrize("name", ZOO)
def test_a_class_looks_on_eosin_as_in_the_panel(name: str):
    """A yellow looked orange there, and a green grey."""
    spec = ZOO[name]
    for label, color in zip(spec.classes, spec.class_colors, strict=True):
        if spec.stain == "H-DAB" or label.startswith(("Hematoxylin", "Background")):
            continue
        (_, a, b), (_, a1, b1) = (rgb2lab(_rgb(c)) for c in (color, _laid(color, DARK_EOSIN)))
        turned = np.rad2deg(np.arctan2(b1, a1) - np.arctan2(b, a))
        is_grey = np.hypot(a, b) < 10
        assert is_grey or abs((turned + 180) % 360 - 180) < 60, (label, color)


def test_no_reds_or_pinks():
    import colorsys

    for spec in ZOO.values():
        for color in spec.class_colors:
            hue, saturation, _ = colorsys.rgb_to_hsv(*_rgb(color))
            assert saturation < 0.1 or 0.08 < hue < 0.75, (spec.name, color)


def test_listing_the_zoo_loads_no_torch():
    code = "import sys, napari_wsiseg as ws; ws.models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_answer_is_a_copy():
    ws.models().clear()
    assert ws.models() == ZOO
