"""Slides in the dock: one after the other, from any reader, with and without a scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_wsiseg as ws
from gui.dock_driver import Driver
from napari_wsiseg._napari.open_slides import view_region
from napari_wsiseg._napari.slide_layer import slide_of

pytestmark = pytest.mark.one_binding


def areas(driver: Driver) -> str:
    driver.wait_for_areas()
    return driver.dock.result_section.summary.text()


def layer_of(pixels: np.ndarray, name: str = "theirs") -> dict:
    return {"data": pixels, "rgb": True, "name": name, "scale": (0.5, 0.5), "units": ("um", "um")}


@pytest.fixture
def pixels() -> np.ndarray:
    coarse = np.random.default_rng(5).integers(100, 250, (30, 30, 3), np.uint8)
    return coarse.repeat(20, 0).repeat(20, 1)


def test_a_second_slide_after_the_first(driver: Driver, make_slide) -> None:
    dock = driver.dock
    for name in ("first.svs", "second.svs"):
        driver.open(make_slide(name))
        driver.segment()
        driver.wait_for_end("Done")
    names = sorted(path.name for path in dock.panel.output_folder.iterdir())
    assert names == ["first.ome.zarr", "second.ome.zarr"]
    assert dock.result_section.results.count() == 2
    # Each keeps its thresholds.
    own = dock.results.current.rule
    row = dock.result_section.classes[0]
    driver.type(row.number, "0.5")
    driver.choose(dock.result_section.results, "first")
    assert dock.results.current.rule == own
    assert not dock.results.current.labels.name.startswith("second")
    # Back to the first slide, which is segmented already.
    driver.choose(dock.slide_section.layers, "first")
    driver.wait_for_slide("first")
    driver.segment()
    driver.wait_for_end("Done")
    assert dock.results.current.pm.path.name == "first.ome.zarr"


def test_another_slide_while_one_runs(driver: Driver, hold, pixels, make_slide) -> None:
    """What the run reads from stays open, also where the dock itself had opened it."""
    model = hold()
    dock = driver.dock
    driver.viewer.add_image(**layer_of(pixels))
    driver.wait_for_slide("theirs")
    driver.choose(dock.where_section.where, "Whole slide")
    dock.advanced_section.batch_size.value = 5
    driver.segment()
    model.let()
    driver.wait(lambda: model.calls == 2)
    read = dock.runs.runner.request.slide
    driver.viewer.add_image(**layer_of(pixels[:300], "another"))
    driver.wait(lambda: dock.slides.current is not None and dock.slides.current.name == "another")
    assert not read.closed
    model.free()
    driver.wait_for_end("Done")
    (path,) = dock.panel.output_folder.iterdir()
    with ws.ProbabilityMap.open(path) as result:
        assert not result.failed_patches
        assert result.coverage[0].compute().all()
    assert read.closed
    assert dock.slides.current.name == "another"


def test_a_scale_that_is_given_stays(driver: Driver, make_slide) -> None:
    dock = driver.dock
    section = dock.slide_section
    dock.open_path(make_slide("plain.tif", mpp=None))
    driver.wait_for_tissue("plain")
    assert "does not say how large a pixel is" in section.about.text()
    assert str(dock.slides.current.layer.units[0]) == "pixel"
    driver.type(section.mpp.lineEdit(), "0.4")
    driver.click(section.give)
    driver.wait(lambda: "0.4 µm/px, as given" in section.about.text())
    driver.wait_for_slide("plain")
    layer = dock.slides.current.layer
    np.testing.assert_allclose(layer.scale, 0.4)
    assert str(layer.units[0]) == "micrometer"
    # It was mistyped.
    driver.type(section.mpp.lineEdit(), "0.5")
    driver.click(section.give)
    driver.wait(lambda: "0.5 µm/px, as given" in section.about.text())
    driver.wait_for_slide("plain")
    np.testing.assert_allclose(layer.scale, 0.5)
    # Away to another slide, and back.
    driver.open(make_slide("other.svs"))
    driver.choose(section.layers, "plain")
    driver.wait_for_slide("plain")
    assert "0.5 µm/px, as given" in section.about.text()
    driver.segment()
    driver.wait_for_end("Done")
    assert "mm²" in areas(driver)
    assert not dock.results.current.pm.failed_patches
    slide = slide_of(layer)
    driver.viewer.layers.clear()
    assert slide.closed


def test_without_a_scale_areas_are_in_pixels(driver: Driver, make_slide) -> None:
    dock = driver.dock
    could: list[bool] = []
    dock.slides.slide_changed.connect(lambda _: could.append(dock.run_section.segment.isEnabled()))
    dock.open_path(make_slide("plain.tif", mpp=None))
    driver.wait_for_tissue("plain")
    assert could
    assert not any(could), "not even until the forecast"
    warning = dock.resolution_section.warning
    driver.wait(lambda: "does not say its µm per pixel" in warning.text())
    assert not dock.run_section.segment.isEnabled()
    advanced = dock.advanced_section
    driver.click(advanced.fold.toggleButton())
    driver.click(advanced.all_units.native)
    driver.choose(dock.resolution_section.unit, "scale (1 = full size)")
    driver.wait(dock.run_section.segment.isEnabled)
    driver.segment()
    driver.wait_for_end("Done")
    text = areas(driver)
    assert "px" in text
    assert "mm²" not in text


def test_the_layer_of_another_reader(driver: Driver, make_slide) -> None:
    """Its file is read with its own scale; the layer is given it."""
    path = make_slide("theirs.tif", mpp=0.5)
    (layer,) = driver.viewer.open(path, plugin="napari")
    assert slide_of(layer) is None
    driver.wait_for_slide("theirs")
    assert "0.5 µm/px, from the file" in driver.dock.slide_section.about.text()
    np.testing.assert_allclose(layer.scale, 0.5)
    assert str(layer.units[0]) == "micrometer"
    driver.segment()
    driver.wait_for_end("Done")
    labels = driver.dock.results.current.labels
    np.testing.assert_allclose(labels.extent.world, layer.extent.world)
    assert "mm²" in areas(driver)


def test_a_slide_that_is_no_slide(driver: Driver, tmp_path: Path, told) -> None:
    bad = tmp_path / "bad.svs"
    bad.write_text("bad")
    driver.dock.open_path(bad)
    driver.wait(lambda: told)
    assert len(told) == 1
    assert "bad.svs" in driver.dock.slide_section.about.text()
    assert not driver.dock.run_section.segment.isEnabled()


def test_painted_tissue_is_what_is_analysed(driver: Driver, make_slide) -> None:
    dock = driver.dock
    driver.open(make_slide())
    (layer,) = (layer for layer in driver.viewer.layers if layer.name.endswith("tissue"))
    assert layer.visible
    layer.paint((0, 0), 1)
    layer.data_setitem(np.nonzero(np.ones_like(layer.data)), 0)
    half = layer.data.shape[0] // 2
    layer.data_setitem(np.nonzero(np.indices(layer.data.shape)[0] < half), 1)
    driver.segment()
    driver.wait_for_end("Done")
    tissue = dock.results.current.pm.tissue[0].compute()
    assert tissue[: len(tissue) // 3].all()
    assert not tissue[-len(tissue) // 3 :].any()
    # The picture of the mask is found again as it was.
    driver.click(dock.where_section.find_again)
    assert dock.tissue.mask.mask.any(axis=1).all()


def test_two_windows_have_a_dock_each(
    driver: Driver, make_napari_viewer, add_dock, make_slide, qtbot
) -> None:
    # Not on the screen: vispy draws two windows at once with OpenGL errors now and then.
    other = add_dock(make_napari_viewer())
    driver.open(make_slide("one.svs"))
    other.open(make_slide("two.svs"))
    assert (driver.dock.slides.current.name, other.dock.slides.current.name) == ("one", "two")
    driver.segment()
    other.dock.run_section.segment.click()
    for each in (driver, other):
        each.wait_for_end("Done")
    assert driver.dock.results.current.pm.path.name == "one.ome.zarr"
    assert other.dock.results.current.pm.path.name == "two.ome.zarr"
    assert [layer.name for layer in other.viewer.layers if "one" in layer.name] == []
    other.viewer.close()
    driver.segment()
    driver.wait_for_end("Done")


def test_a_dock_that_was_removed_comes_back(driver: Driver, add_dock, make_slide) -> None:
    driver.open(make_slide())
    driver.segment()
    driver.wait_for_end("Done")
    driver.click_outside(driver.dock.parentWidget().title.close_button)
    again = add_dock(driver.viewer)
    assert again.dock is not driver.dock
    again.wait_for_slide("slide")
    assert again.dock.result_section.results.count() == 1
    again.wait_for_areas()
    again.segment()
    again.wait_for_end("Done")
    # The one that is gone listens no more.
    driver.viewer.layers.clear()
    assert not again.dock.run_section.segment.isEnabled()


def test_a_scale_that_is_given_leaves_the_view_where_it_is(driver: Driver, make_slide) -> None:
    dock, viewer = driver.dock, driver.viewer
    dock.open_path(make_slide("plain.tif", mpp=None))
    driver.wait_for_tissue("plain")
    found = dock.slides.current
    before = view_region(viewer, found.layer, found.slide.info.size)
    driver.click(dock.slide_section.give)
    # Opened again with it: there is none meanwhile.
    driver.wait(lambda: dock.slides.current not in (None, found))
    found = dock.slides.current
    assert found.layer.scale[-1] == pytest.approx(0.5)
    assert view_region(viewer, found.layer, found.slide.info.size) == before
