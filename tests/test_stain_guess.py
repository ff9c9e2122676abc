"""A guess from a slide's colours how it is stained."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from napari_wsiseg.models.stains import DAB, EOSIN, HEMATOXYLIN
from napari_wsiseg.slides import open_slide
from napari_wsiseg.slides.overview import read_overview
from napari_wsiseg.tissue.stain import guess_stain


def guess(pixels, mpp: float = 16.0):
    with open_slide(pixels, mpp) as slide:
        return guess_stain(read_overview(slide, mpp=16.0))


def stained(*stains: tuple[tuple[float, float, float], float], glass: float = 240) -> np.ndarray:
    """Glass with a square of each stain, at an optical density."""
    rgb = np.full((96, 96, 3), glass)
    for number, (vector, density) in enumerate(stains):
        box = (slice(8, 40), slice(8 + 40 * number, 40 + 40 * number))
        rgb[box] = glass * 10 ** (-density * np.asarray(vector) / np.linalg.norm(vector))
    return np.rint(rgb).astype(np.uint8)


@pytest.mark.parametrize("density", [0.4, 0.8, 1.5])
@pytest.mark.parametrize("glass", [255, 240, 200])
class TestPureStains:
    def test_hematoxylin_and_eosin(self, density, glass) -> None:
        pixels = stained((HEMATOXYLIN, density), (EOSIN, density), glass=glass)
        assert guess(pixels) == "H&E"

    def test_hematoxylin_and_dab(self, density, glass) -> None:
        pixels = stained((HEMATOXYLIN, density), (DAB, density), glass=glass)
        assert guess(pixels) == "H-DAB"

    def test_hematoxylin_alone_tells_nothing(self, density, glass) -> None:
        assert guess(stained((HEMATOXYLIN, density), glass=glass)) is None


def test_glass_and_greys_tell_nothing() -> None:
    assert guess(np.full((64, 64, 3), 240, np.uint8)) is None
    grey = stained(((1, 1, 1), 0.8))
    assert guess(grey) is None


def test_a_pale_tint_tells_nothing() -> None:
    assert guess(stained((EOSIN, 0.1), (EOSIN, 0.1))) is None


def test_a_slide_without_glass() -> None:
    assert guess(immunohistochemistry(), 16.0) == "H-DAB"


def test_the_real_slide(real_slide) -> None:
    with open_slide(real_slide) as slide:
        assert guess_stain(read_overview(slide, mpp=16.0)) == "H&E"
