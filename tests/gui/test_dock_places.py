"""What the dock lays over a slide lies on it, whatever scale, units and place its layer has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer

import napari_wsiseg as ws
from gui.dock_driver import Driver
from napari_wsiseg._napari.open_slides import view_region

pytestmark = pytest.mark.one_binding

SIDE = 600
LAYERS: dict[str, dict[str, Any]] = {
    "bare": {},
    "scaled": {"scale": (0.5, 0.25)},
    "moved": {"translate": (100, 50)},
    "millimetres": {"scale": (5e-4, 5e-4), "units": ("mm", "mm"), "translate": (1, 2)},
    "micrometres": {"scale": (0.5, 0.5), "units": ("um", "um"), "translate": (7, 9)},
}


def add(driver: Driver, **keywords: Any) -> Layer:
    """A picture of somebody else's, taken by the dock as its slide."""
    pixels = np.random.default_rng(0).integers(60, 240, (SIDE, SIDE, 3), np.uint8)
    layer = driver.viewer.add_image(pixels, name="theirs", rgb=True, **keywords)
    driver.wait(lambda: driver.dock.slides.current is not None)
    driver.wait(lambda: "issue" in driver.dock.where_section.about.text())
    return layer


def segment(driver: Driver, resolution: str) -> None:
    driver.choose(driver.dock.where_section.where, "Whole slide")
    driver.dock.panel.resolution = ws.Resolution.parse(resolution)
    driver.wait(driver.dock.run_section.segment.isEnabled)
    driver.segment()
    driver.wait_for_end()


def edges(layer: Layer) -> np.ndarray:
    """Outer corners of a layer's pixels in the world: its first, and its last."""
    level = layer.data[0] if layer.multiscale else layer.data
    outer = np.array([(-0.5, -0.5), np.array(level.shape[:2]) - 0.5])
    return np.array([layer.data_to_world(corner) for corner in outer])


@pytest.mark.parametrize("keywords", LAYERS.values(), ids=list(LAYERS))
def test_classes_scores_and_tissue_lie_on_the_slide(driver, hold, keywords) -> None:
    hold().free()
    layer = add(driver, **keywords)
    segment(driver, "baseline 0.5")
    driver.wait(lambda: len(driver.viewer.layers) == 4)
    for other in driver.viewer.layers:
        assert other.units == layer.units
        np.testing.assert_allclose(edges(other), edges(layer))


@pytest.mark.parametrize("name", ["bare", "scaled", "moved"])
def test_what_lies_on_a_slide_stays_there_when_its_scale_is_given(driver, hold, name) -> None:
    hold().free()
    layer = add(driver, **LAYERS[name])
    segment(driver, "baseline 1")
    place = {"scale": layer.scale, "translate": layer.translate, "units": layer.units}
    drawn = driver.viewer.add_shapes(
        [np.array([[10, 20], [30, 40]])], shape_type="rectangle", **place
    )
    corner = layer.world_to_data(drawn.data_to_world((10, 20)))
    driver.dock.slide_section.mpp.setValue(0.25)
    driver.click(driver.dock.slide_section.give)
    driver.wait(lambda: str(layer.units[0]) == "micrometer")
    np.testing.assert_allclose(layer.scale, 0.25)
    np.testing.assert_allclose(layer.world_to_data(drawn.data_to_world((10, 20))), corner)
    for other in (driver.dock.results.current.labels, driver.dock.results.current.scores):
        assert other.units == layer.units
        np.testing.assert_allclose(edges(other), edges(layer))


def test_a_result_that_is_opened_lies_where_its_slide_does(driver, result: Path) -> None:
    driver.open(result.with_name("case.tif"))
    layer = driver.dock.slides.current.layer
    layer.translate = (40, 60)
    driver.dock.open_path(result)
    driver.wait(lambda: driver.dock.results.current is not None)
    np.testing.assert_allclose(edges(driver.dock.results.current.labels), edges(layer))


def test_the_view_is_in_whole_pixels_that_cover_it(driver) -> None:
    layer = add(driver, translate=(0.5, 0.5))
    driver.viewer.scene.camera.zoom = 8
    # Its edges lie on pixels' edges: no pixel more belongs to it.
    height, width = np.array(driver.viewer.canvas.size) / 8
    driver.viewer.scene.camera.center = (0, 200 + height / 2, 300 + width / 2)
    region = view_region(driver.viewer, layer, ws.Size(SIDE, SIDE))
    assert (region.top, region.left) == (200, 300)
    assert region.bottom == np.ceil(200 + height)
    assert region.right == np.ceil(300 + width)


def test_painted_tissue_is_there_when_one_comes_back(driver, make_slide) -> None:
    slides, tissue = driver.dock.slides, driver.dock.tissue
    driver.open(make_slide("first.svs"))
    first = slides.current.layer
    layer = next(layer for layer in driver.viewer.layers if "tissue" in layer.name)
    layer.data_setitem(np.nonzero(np.ones((5, 5))), 0)
    painted = tissue.mask
    assert painted.parameters["edited"]
    driver.open(make_slide("second.svs", 700))
    assert "edited" not in tissue.mask.parameters
    driver.choose(driver.dock.slide_section.layers, first.name)
    driver.wait(lambda: tissue.mask is not None)
    np.testing.assert_array_equal(tissue.mask.mask, painted.mask)
    driver.click(driver.dock.where_section.find_again)
    assert "edited" not in tissue.mask.parameters
