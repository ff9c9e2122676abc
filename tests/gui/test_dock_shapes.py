"""Areas in shapes: of the slide that the result was made of, and of nothing where none is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Shapes

from gui.dock_driver import Driver
from napari_wsiseg._napari.open_slides import regions_of
from napari_wsiseg._napari.sections.export import ExportChoice
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.labels import corrections, labels_to_correct

pytestmark = pytest.mark.one_binding

BOX = np.array([[100, 50], [100, 350], [300, 350], [300, 50]]) - 0.5
"""300 x 200 px (width x height) of a slide, in napari's pixels."""


@pytest.fixture
def measured(segmented: Driver) -> Driver:
    """It is measured in a box that was drawn on the slide."""
    driver = segmented
    shapes(driver, driver.dock.slides.current.layer, BOX)
    driver.choose(driver.dock.result_section.measured_in, "shapes")
    assert driver.wait_for_areas()["Total tissue"].pixels == 300 * 200
    return driver


def shapes(driver: Driver, image: Image, *boxes: np.ndarray) -> Shapes:
    return driver.viewer.add_shapes(
        list(boxes), scale=image.scale, units=image.units, ndim=2, name="drawn"
    )


def test_they_are_the_results_while_another_slide_is_looked_at(measured, make_slide) -> None:
    driver = measured
    driver.open(make_slide("finer.svs", 700, mpp=0.25))
    driver.dock.areas.measure()
    assert driver.wait_for_areas()["Total tissue"].pixels == 300 * 200
    for name in ("slide", "finer"):
        driver.viewer.layers.remove(name)
    driver.dock.areas.measure()
    assert driver.wait_for_areas()["Total tissue"].pixels == 300 * 200


def test_regions_of_a_file_are_seen_on_the_slide(driver: Driver, make_slide, tmp_path) -> None:
    driver.open(make_slide("first.svs"))
    corners = [[50, 100], [350, 100], [350, 300], [50, 300], [50, 100]]
    path = tmp_path / "core.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    dock, layers = driver.dock, driver.viewer.layers
    active = layers.selection.active
    dock.where.read_file(path)
    drawn = layers["first · core.geojson"]
    assert layers.selection.active is active
    (outline,) = regions_of(drawn, dock.slides.current.layer)
    assert {(y, x) for x, y in corners} == set(outline)
    driver.open(make_slide("second.svs", 700))
    assert drawn not in layers


def test_where_none_is_drawn_nothing_is_measured(measured, tmp_path: Path) -> None:
    dock = measured.dock
    measured.viewer.layers["drawn"].data = []
    dock.areas.measure()
    measured.wait(lambda: "no closed shape" in dock.result_section.readout.text())
    assert dock.areas.tables == []
    assert dock.result_section.classes[1].area.text() == "-"
    dock.exports.start(ExportChoice("csv"), tmp_path / "areas.csv", overwrite=False)
    assert "no closed shape" in dock.export_section.state.text()
    assert not (tmp_path / "areas.csv").exists()


def test_what_is_painted_beside_the_shapes_is_kept_too(measured: Driver) -> None:
    """Two triangles; their corners, and what lies between them, can be painted as well."""
    driver, dock = measured, measured.dock
    corner = np.array([[10, 10], [10, 60], [60, 10]]) - 0.5
    with driver.viewer.layers["drawn"].events.blocker_all():
        driver.viewer.layers["drawn"].data = []
    driver.viewer.layers["drawn"].add_polygons([corner, corner + 100])
    driver.menu(dock.export_section.correct, "The shapes")
    driver.wait(dock.export_section.keep.isVisible)
    painting = dock.corrections._painting
    assert painting.box == Region(10, 10, Size(150, 150))
    before = painting.layer.data.copy()
    other = np.where(before == 1, 2, 1)
    for place in ((5, 5), (45, 45), (80, 20), (105, 105)):
        painting.layer.data_setitem(tuple(np.array([i]) for i in place), other[place])
    driver.click(dock.export_section.keep)
    driver.wait(lambda: "4 px corrected" in dock.export_section.correction.text())
    pm = dock.results.current.pm
    after = labels_to_correct(pm, painting.box)[1]
    assert [tuple(place) for place in np.argwhere(after != before)] == [
        (5, 5), (45, 45), (80, 20), (105, 105)
    ]  # fmt: skip
    *_, beside = corrections(pm)
    assert (beside.area, beside.pixels) == (Region(55, 30, Size(36, 26)), 2)
