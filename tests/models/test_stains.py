"""Stain models: the published arithmetic, and stains found again after mixing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from skimage.data import immunohistochemistry

import napari_wsiseg as ws
from napari_wsiseg.models import STAINS, StainVectors, estimate_stains, predict, stain_model

Pixels = NDArray[np.uint8]
STAIN_MODELS = ["hdab-stain", "he-stain", "tissue"]


@pytest.fixture(scope="module")
def ihc() -> Pixels:
    return immunohistochemistry()


def _measure(segmenter: ws.Segmenter, pixels: Pixels) -> NDArray[np.float32]:
    """(C, H, W) optical densities."""
    return predict(segmenter, pixels[None])[0] * 2


def _densities(pixels: Pixels, stains: StainVectors) -> NDArray[np.float64]:
    """(3, H, W) densities of both stains and the rest, by the textbook."""
    density = -np.log10(np.maximum(pixels, 1) / np.array(stains.background))
    rows = [np.array(stains.first), np.array(stains.second)]
    rows = [row / np.linalg.norm(row) for row in rows]
    rows.append(np.cross(*rows) / np.linalg.norm(np.cross(*rows)))
    return np.moveaxis(density @ np.linalg.inv(rows), -1, 0)


def _mixed(concentrations: NDArray[np.float64], stains: StainVectors) -> Pixels:
    """(N, 3) pixels that hold (N, 2) densities of the stains."""
    vectors = np.array([stains.first, stains.second])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    light = np.array(stains.background) * 10 ** -(concentrations @ vectors)
    return np.round(light).astype(np.uint8)


@pytest.mark.parametrize(("threshold", "percent"), [(0.20, 58.2), (0.25, 55.2), (0.30, 51.5)])
def test_dab_positive_area_of_a_real_picture(ihc: Pixels, threshold: float, percent: float):
    dab = predict(ws.load_model("hdab-stain"), ihc[None])[0, 1]
    assert round(float((dab >= threshold / 2).mean()) * 100, 1) == percent


def test_default_thresholds_in_optical_density():
    assert ws.models()["hdab-stain"].thresholds == {"Hematoxylin": 0.10 / 2, "DAB": 0.25 / 2}


@pytest.mark.parametrize("background", [(255.0, 255.0, 255.0), (246.0, 243.0, 240.0)])
@pytest.mark.parametrize("name", ["H-DAB", "H&E", "H&E (Ruifrok and Johnston)"])
def test_densities_are_those_of_the_textbook(
    ihc: Pixels, name: str, background: tuple[float, float, float]
):
    known = STAINS[name]
    stains = StainVectors(known.first, known.second, background)
    expected = _densities(ihc, stains)[:2].clip(0, 2)
    both = _measure(stain_model("hdab-stain", stains), ihc)
    np.testing.assert_allclose(both, expected, atol=2e-6)
    stronger = _measure(stain_model("he-stain", stains), ihc)
    first = expected[0] >= expected[1]
    np.testing.assert_allclose(stronger, expected * np.stack([first, ~first]), atol=2e-6)


def test_tissue_is_the_mean_density_over_the_glass(ihc: Pixels):
    glass = StainVectors((1, 0, 0), (0, 1, 0), background=(240, 230, 220))
    expected = -np.log10(np.maximum(ihc, 1) / np.array(glass.background)).mean(-1)
    ours = _measure(stain_model("tissue", glass), ihc)
    np.testing.assert_allclose(ours[0], expected.clip(0, 2), atol=2e-6)


def test_no_pixel_is_dominated_by_both_stains(ihc: Pixels):
    hematoxylin, eosin = _measure(ws.load_model("he-stain"), ihc)
    assert not ((hematoxylin > 0) & (eosin > 0)).any()
    assert (hematoxylin > 0).any()
    assert (eosin > 0).any()


@pytest.mark.parametrize("name", STAIN_MODELS)
def test_glass_and_black(name: str):
    segmenter = ws.load_model(name)
    white, black = np.full((4, 5, 3), 255, np.uint8), np.zeros((4, 5, 3), np.uint8)
    assert not predict(segmenter, white[None]).any()
    dark = predict(segmenter, black[None])
    assert dark.max() == 1
    assert dark.min() >= 0


@pytest.mark.parametrize("name", STAIN_MODELS)
def test_a_pixel_has_the_same_bits_wherever_it_lies(name: str, ihc: Pixels):
    segmenter = ws.load_model(name)
    whole = predict(segmenter, ihc[None])[0]
    pieces = predict(segmenter, np.stack([ihc[1:38, 2:55], ihc[101:138, 202:255]]))
    assert np.array_equal(pieces[0], whole[:, 1:38, 2:55])
    assert np.array_equal(pieces[1], whole[:, 101:138, 202:255])


def test_precision_of_a_measurement_is_never_reduced():
    assert ws.load_model("hdab-stain", precision="fp32").precision == "exact"


@pytest.mark.parametrize("name", ["H-DAB", "H&E"])
@pytest.mark.parametrize("seed", range(3))
def test_estimated_stains_are_those_that_were_mixed(name: str, seed: int):
    rng = np.random.default_rng(seed)
    like = STAINS[name]
    glass = (250.0, 245.0, 240.0)
    true = StainVectors(
        tuple(np.array(like.first) + rng.uniform(0, 0.1, 3)),
        tuple(np.array(like.second) + rng.uniform(0, 0.1, 3)),
        glass,
    )
    kinds = rng.uniform(0.3, 1.2, (3000, 1)) * np.repeat([[1, 0], [0, 1], [0.5, 0.5]], 1000, 0)
    pixels = np.concatenate([_mixed(kinds, true), np.full((5000, 3), 245, np.uint8)])
    found = estimate_stains(pixels.reshape(-1, 100, 3), like, glass)
    for ours, expected in ((found.first, true.first), (found.second, true.second)):
        cosine = np.dot(ours, expected) / np.linalg.norm(ours) / np.linalg.norm(expected)
        assert cosine > 0.995
    assert found.background == glass
    assert "Macenko" in found.source


def test_estimates_of_too_little_or_one_stain_say_so():
    glass = np.full((50, 50, 3), 250, np.uint8)
    with pytest.raises(ws.ModelError, match="0 stained pixels; give pixels with more"):
        estimate_stains(glass, STAINS["H&E"])
    amounts = np.linspace(0.3, 1, 2000)[:, None] * [1, 0]
    one = _mixed(amounts, STAINS["H&E"])
    with pytest.raises(ws.ModelError, match="pixels show one of the two stains only"):
        estimate_stains(one, STAINS["H&E"])


def test_stain_vectors_from_a_file_take_the_place_of_weights(tmp_path: Path, ihc: Pixels):
    stains = estimate_stains(ihc, STAINS["H-DAB"])
    path = tmp_path / "stains.yaml"
    path.write_text(yaml.safe_dump(stains.provenance()), encoding="utf-8")
    segmenter = ws.load_model("hdab-stain", weights=path)
    assert segmenter.parameters == stains.provenance()
    assert StainVectors(**segmenter.parameters) == stains
    expected = _densities(ihc, stains)[:2].clip(0, 2)
    np.testing.assert_allclose(_measure(segmenter, ihc), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"first": (1, 0, 0), "second": (2, 0, 0)}, "look alike"),
        ({"first": (1, 0), "second": (0, 1, 0)}, "first cannot be"),
        ({"first": (0, 0, 0), "second": (0, 1, 0)}, "first cannot be"),
        ({"first": (1, 0, 0), "second": (0, float("nan"), 0)}, "second cannot be"),
        ({"first": (1, 0, 0), "second": (0, 1, 0), "background": (0, 255, 255)}, "glass level"),
    ],
)
def test_impossible_stains(values: dict[str, Any], problem: str):
    with pytest.raises(ws.ModelError, match=problem):
        StainVectors(**values)


@pytest.mark.parametrize("text", ["", "first: [1, 0, 0]", "- 1", "a: [", "third: 3"])
def test_a_file_without_stain_vectors(tmp_path: Path, text: str):
    path = tmp_path / "stains.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ws.ModelError, match="holds no stain vectors"):
        ws.load_model("he-stain", weights=path)


def test_a_file_of_stain_vectors_that_is_not_there(tmp_path: Path):
    with pytest.raises(ws.ModelError, match=r"There is no file of stain vectors .*none\.yaml"):
        ws.load_model("he-stain", weights=tmp_path / "none.yaml")


def test_a_network_is_no_stain_model():
    with pytest.raises(ws.ModelError, match="no stain model"):
        stain_model("fcn-tissue_mask")
