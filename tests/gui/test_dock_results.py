"""A result in the dock: thresholds, areas, presets, regions and exports, by real clicks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QSlider, QStyle, QStyleOptionSlider

import napari_wsiseg as ws
from gui.dock_driver import SLICING, Driver
from gui.pictures import picture
from napari_wsiseg._napari.kept_view import kept_rule
from napari_wsiseg.export.formats import FORMATS

pytestmark = pytest.mark.one_binding

SQUARE = [[60, 60], [60, 300], [300, 300], [300, 60]]


@pytest.fixture
def save_as(monkeypatch):
    """What the user answers to the dialog that asks where to."""

    def answer(path: Path) -> None:
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))

    return answer


@pytest.fixture
def open_it(monkeypatch):
    """What the user answers to the dialog that asks for a file, or a folder."""

    def answer(path: Path) -> None:
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(path), ""))
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: str(path))

    return answer


@pytest.fixture
def done(driver: Driver, make_slide) -> Driver:
    """The slide is segmented, and its areas are known."""
    driver.open(make_slide())
    driver.segment()
    driver.wait_for_end("Done")
    driver.wait_for_areas()
    return driver


def geojson(path: Path, *outlines: list) -> Path:
    """Annotations as QuPath writes them; corners are (x, y)."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
            "properties": {"objectType": "annotation", "name": f"Core {number}"},
        }
        for number, corners in enumerate(outlines, 1)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def handle(slider: QSlider) -> QPoint:
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    return (
        slider.style()
        .subControlRect(
            QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, slider
        )
        .center()
    )


class TestThresholds:
    @pytest.mark.parametrize("driver", SLICING, indirect=True)
    def test_a_drag_changes_picture_and_areas(self, done: Driver, qtbot) -> None:
        """An estimate while the mouse is down, exact when it is let go, without a click."""
        section, areas = done.dock.result_section, done.dock.areas
        row = section.classes[0]
        before = (picture(done.viewer, qtbot), areas.tables[0][row.class_name].pixels)
        assert before[1] > 0
        done.show(row.slider)
        start = handle(row.slider)
        end = QPoint(row.slider.width() - 3, start.y())
        qtbot.mousePress(row.slider, Qt.MouseButton.LeftButton, pos=start)
        qtbot.mouseMove(row.slider, QPoint((start.x() + end.x()) // 2, start.y()))
        qtbot.mouseMove(row.slider, end)
        done.wait(lambda: areas.tables[0].estimated)
        assert row.area.text().startswith("~")
        during = picture(done.viewer, qtbot)
        assert not np.array_equal(before[0], during)
        qtbot.mouseRelease(row.slider, Qt.MouseButton.LeftButton, pos=end)
        table = done.wait_for_areas()
        assert table[row.class_name].pixels < before[1]
        assert not row.area.text().startswith("~")
        pm, rule = done.dock.results.current.pm, done.dock.results.current.rule
        assert table == ws.measure(pm, rule)
        assert row.number.value() == pytest.approx(2 * rule.thresholds[row.class_name], abs=1e-3)
        # The model's own again: all is as it was.
        done.menu(section.presets, "The model's own")
        assert done.wait_for_areas()[row.class_name].pixels == before[1]
        np.testing.assert_array_equal(picture(done.viewer, qtbot), before[0])

    def test_presets_and_a_result_that_is_opened_again(
        self, done: Driver, save_as, open_it, tmp_path
    ) -> None:
        dock = done.dock
        section = dock.result_section
        done.type(section.classes[0].number, "0.9")
        rule = dock.results.current.rule
        save_as(tmp_path / "preset.json")
        done.menu(section.presets, "Save as preset")
        assert (tmp_path / "preset.json").exists()
        done.type(section.classes[0].number, "0.2")
        assert dock.results.current.rule != rule
        open_it(tmp_path / "preset.json")
        done.menu(section.presets, "Load preset")
        assert dock.results.current.rule.thresholds == pytest.approx(rule.thresholds)
        assert section.classes[0].number.value() == pytest.approx(0.9, abs=1e-3)
        path = dock.results.current.pm.path
        assert kept_rule(dock.results.current.pm).thresholds == pytest.approx(rule.thresholds)
        done.click(section.classes[1].shown)
        # Away, and opened again.
        done.viewer.layers.clear()
        assert not section.body.isVisible()
        open_it(path)
        done.click(section.open)
        done.wait(lambda: dock.results.current is not None)
        assert dock.results.current.rule.thresholds == pytest.approx(rule.thresholds)
        assert section.classes[0].number.value() == pytest.approx(0.9, abs=1e-3)
        assert [row.shown.isChecked() for row in section.classes.values()] == [True, False]
        assert dock.results.current.hidden == {1}
        done.wait_for_areas()

    def test_a_preset_for_another_model_is_told(self, done, open_it, tmp_path, told) -> None:
        (tmp_path / "bad.json").write_text("{}")
        open_it(tmp_path / "bad.json")
        done.menu(done.dock.result_section.presets, "Load preset")
        ((severity, text),) = told
        assert severity == "error"
        assert "bad.json" in text


def test_the_bare_slide_while_a_key_is_held(done: Driver, qtbot) -> None:
    dock, viewer = done.dock, done.viewer
    done.choose(dock.result_section.heatmap, dock.results.current.pm.classes[0])
    done.menu(dock.export_section.correct, "What the window shows")
    done.wait(dock.export_section.keep.isVisible)
    words = dock.export_section.correction.text()
    assert all(f"{i + 1} {name}" in words for i, name in enumerate(dock.results.current.pm.classes))

    def shown() -> set[str]:
        return {layer.name.rpartition(" · ")[2] for layer in viewer.layers if layer.visible}

    before = shown()
    assert before == {"slide", "probability", "correcting"}
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    qtbot.keyPress(canvas, Qt.Key.Key_H)
    done.wait(lambda: shown() == {"slide"})
    qtbot.keyRelease(canvas, Qt.Key.Key_H)
    done.wait(lambda: shown() == before)
    done.click(dock.export_section.drop)


class TestRuns:
    def test_a_second_model_on_the_same_slide(self, done: Driver) -> None:
        dock = done.dock
        first = dock.results.current
        other = "he-stain" if first.pm.spec.name != "he-stain" else "hdab-stain"
        done.choose(dock.model_section.models, other)
        done.segment()
        done.wait_for_end("Done")
        second = dock.results.current
        assert second.pm.path.name == f"slide-{other}.ome.zarr"
        assert dock.result_section.results.count() == 2
        assert (first.labels.visible, second.labels.visible) == (False, True)
        done.choose(dock.result_section.results, f"slide · {first.pm.spec.name}")
        assert (first.labels.visible, second.labels.visible) == (True, False)

    def test_try_here_and_then_the_whole(self, driver: Driver, hold, make_slide) -> None:
        model = hold()
        model.free()
        dock = driver.dock
        driver.open(make_slide())
        driver.choose(dock.where_section.where, "Current view")
        # A part of the slide: rows and columns 256 to 511 of 600.
        camera = driver.viewer.scene.camera
        camera.zoom = 8
        camera.center = (0.0, 192.0 / 2 + 96, 192.0)
        driver.wait(lambda: not dock.background.is_busy)
        driver.wait(dock.run_section.segment.isEnabled)
        driver.segment()
        driver.wait_for_end("Done")
        tried = model.calls
        pm = dock.results.current.pm
        assert 0 < pm.coverage[0].compute().mean() < 1
        patches = int(dock.run_section.bar.maximum())
        assert 0 < patches < 25
        driver.choose(dock.where_section.where, "Tissue only")
        driver.segment()
        driver.wait_for_end("Done")
        assert dock.results.current.pm.path == pm.path
        assert dock.run_section.bar.maximum() <= 25 - pm.grid.chunk_shape[0] // 5
        assert model.calls > tried
        assert dock.results.current.pm.finished.all()

    def test_shapes_that_were_drawn(self, driver: Driver, hold, make_slide) -> None:
        hold().free()
        dock = driver.dock
        driver.open(make_slide())
        driver.choose(dock.where_section.where, "Shapes that I drew")
        (shapes,) = (layer for layer in driver.viewer.layers if layer.name.endswith("regions"))
        driver.segment()
        assert "No region is chosen" in dock.run_section.state.text()
        shapes.add_rectangles([[60, 60], [300, 300]])
        driver.wait(lambda: dock.where_section.regions.text() == "1 region.")
        driver.segment()
        driver.wait_for_end("Done")
        covered = dock.results.current.pm.coverage[0].compute()
        assert covered[60:300, 60:300].all()
        assert not covered[400:].any()
        # Measured in the shapes; another shape is measured without a click.
        driver.choose(dock.result_section.measured_in, "shapes: ")
        table = driver.wait_for_areas()
        assert table["Total tissue"].pixels == pytest.approx(240**2, rel=0.02)
        shapes.add_rectangles([[60, 60], [180, 180]])
        driver.wait(lambda: len(dock.areas.tables) == 3)
        assert dock.areas.tables[0].region == "All together"
        driver.choose(dock.result_section.measured_in, "the whole tissue")
        driver.wait(lambda: len(dock.areas.tables) == 1)
        assert driver.wait_for_areas().region is None
        driver.choose(dock.result_section.measured_in, "shapes: ")
        driver.wait(lambda: len(dock.areas.tables) == 3)
        # Without the layer, it is the whole tissue again, also in numbers.
        driver.viewer.layers.remove(shapes)
        assert dock.result_section.measured_in.currentText() == "the whole tissue"
        driver.wait(lambda: len(dock.areas.tables) == 1)
        assert driver.wait_for_areas()["Total tissue"].pixels > 300_000

    def test_regions_and_annotations_of_a_file(
        self, driver: Driver, hold, make_slide, open_it, tmp_path, told
    ) -> None:
        hold().free()
        dock = driver.dock
        path = geojson(tmp_path / "cores.geojson", SQUARE, [[400, 400], [400, 500], [500, 500]])
        driver.open(make_slide())
        open_it(path)
        driver.choose(dock.where_section.where, "Regions from a GeoJSON")
        assert dock.where_section.regions.text() == "2 regions."
        driver.segment()
        driver.wait_for_end("Done")
        covered = dock.results.current.pm.coverage[0].compute()
        assert covered[60:300, 60:300].all()
        assert not covered[:, 520:].any() or not covered[520:].all()
        driver.choose(dock.result_section.measured_in, "annotations from a GeoJSON")
        driver.wait(lambda: len(dock.areas.tables) == 3)
        assert [table.region for table in dock.areas.tables] == ["All together", "Core 1", "Core 2"]
        assert driver.wait_for_areas()["Total tissue"].pixels == pytest.approx(62_600, rel=0.02)
        done_button = dock.result_section
        driver.click(next(b for b in buttons(done_button) if b.text() == "Copy table"))
        lines = QGuiApplication.clipboard().text().splitlines()
        assert len(lines) == 1 + 3 * len(dock.areas.tables[0].rows)
        assert {line.split("\t")[0] for line in lines[1:]} == {"All together", "Core 1", "Core 2"}
        # Another slide has no such regions, and no such annotations.
        dock.open_path(make_slide("other.svs", 300))
        driver.wait_for_tissue("other")
        driver.wait(lambda: "No region is chosen" in dock.resolution_section.warning.text())
        driver.choose(dock.where_section.where, "Whole slide")
        driver.wait_for_slide("other")
        driver.segment()
        driver.wait_for_end("Done")
        assert dock.result_section.measured_in.currentText() == "the whole tissue"
        assert driver.wait_for_areas()["Total tissue"].pixels == 300 * 300
        driver.choose(dock.result_section.results, "slide")
        driver.choose(dock.result_section.measured_in, "annotations from a GeoJSON")
        bad = tmp_path / "bad.geojson"
        bad.write_text("{}")
        open_it(bad)
        driver.choose(dock.result_section.measured_in, "annotations from a GeoJSON")
        assert [severity for severity, _ in told if severity == "error"] == ["error"]
        assert dock.result_section.measured_in.currentText() == "annotations: cores.geojson"


def buttons(section):
    from qtpy.QtWidgets import QPushButton

    return section.findChildren(QPushButton)


class TestExports:
    def test_every_format_from_the_panel(self, done: Driver, save_as, tmp_path, told) -> None:
        dock = done.dock
        section = dock.export_section
        pm = dock.results.current.pm
        for name, known in FORMATS.items():
            path = tmp_path / f"export{known.suffixes[0]}"
            texts = [section.format.itemText(i) for i in range(section.format.count())]
            done.choose(section.format, texts[section.format.findData(name)])
            if name == "ome-zarr":
                done.click(section.inside)
            # The ending that was left out is added.
            save_as(tmp_path / "export" if name == "csv" else path)
            done.click(section.export)
            done.wait(lambda: dock.exports.runner.request is None)
            assert section.state.text().startswith(f"Written and checked: {path}"), name
            assert path.exists()
            done.wait(section.export.isEnabled)
            assert not section.bar.isVisible()
        assert [text for severity, text in told if severity == "error"] == []
        features = json.loads((tmp_path / "export.geojson").read_text())["features"]
        assert {f["properties"]["classification"]["name"] for f in features} <= set(pm.classes)
        with tifffile.TiffFile(tmp_path / "export.ome.tif") as tif:
            assert tif.pages[0].shape == (pm.size.height, pm.size.width)
        rows = [
            row
            for row in csv.reader((tmp_path / "export.csv").read_text().splitlines())
            if row and not row[0].startswith("#")
        ]
        assert any(row[-5:] and pm.classes[0] in row for row in rows)
        # Into the result itself.
        done.choose(section.format, "OME-Zarr")
        done.click(section.inside)
        done.click(section.export)
        done.wait(lambda: dock.exports.runner.request is None)
        assert any((pm.path / "labels").iterdir())

    def test_an_export_that_fails_is_told_once(self, done, save_as, tmp_path, told) -> None:
        section = done.dock.export_section
        (tmp_path / "file").write_text("no folder")
        save_as(tmp_path / "file" / "a.geojson")
        done.click(section.export)
        done.wait(lambda: done.dock.exports.runner.request is None)
        ((_, text),) = [note for note in told if note[0] == "error"]
        assert str(tmp_path / "file") in text
        assert section.state.text() == text
        done.wait(section.export.isEnabled)

    def test_what_is_written_is_what_is_shown(self, done, save_as, tmp_path) -> None:
        """The thresholds of the window, and its areas."""
        section = done.dock.result_section
        done.type(section.classes[0].number, "0.6")
        table = done.wait_for_areas()
        save_as(tmp_path / "areas.csv")
        done.click(next(b for b in buttons(section) if b.text() == "Save CSV ..."))
        done.wait(lambda: done.dock.exports.runner.request is None)
        text = (tmp_path / "areas.csv").read_text()
        name = section.classes[0].class_name
        assert any(name in line and str(table[name].pixels) in line for line in text.splitlines())
