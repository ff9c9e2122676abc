"""A real napari layer opens as a slide (the reader itself knows no napari)."""

from __future__ import annotations

import numpy as np
import pytest
from napari import layers

from napari_wsiseg import Region, Resolution, SlideError, open_slide

pytestmark = pytest.mark.one_binding


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def test_an_image_layer_brings_its_levels_scale_and_pixels(pixels: np.ndarray) -> None:
    image = layers.Image(
        [pixels, pixels[::2, ::2]], rgb=True, multiscale=True, scale=(0.5, 0.25), units=("um", "um")
    )
    with open_slide(image) as slide:
        assert slide.info.mpp == (0.5, 0.25)
        assert len(slide.info.levels) == 2
        whole = slide.read(Region(0, 0, slide.info.size), Resolution.parse("level 0"))
    np.testing.assert_array_equal(whole, pixels)


def test_one_without_units_has_no_scale(pixels: np.ndarray) -> None:
    with open_slide(layers.Image(pixels, rgb=True)) as slide:
        assert slide.info.mpp is None


def test_what_is_no_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(SlideError, match="3 axes"):
        open_slide(layers.Image(np.zeros((4, 9, 9), np.uint8)))
    for other in (layers.Labels(pixels[:, :, 0]), layers.Points(np.zeros((9, 2)))):
        with pytest.raises(SlideError, match="is no image layer"):
            open_slide(other)
