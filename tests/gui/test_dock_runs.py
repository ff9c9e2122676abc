"""Runs in a real window: they are clicked, watched, held, cancelled and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

import napari_wsiseg as ws
from gui.dock_driver import SLICING, Driver, HeldModel
from gui.pictures import is_right, picture
from napari_wsiseg.engine import RunPlan, run
from napari_wsiseg.labels import label_pyramid

PATCHES = 25
"""Of a slide of 600 px, in patches of 128."""


def five_at_once(driver: Driver) -> None:
    """A batch is a row of patches."""
    advanced = driver.dock.advanced_section
    if not advanced.fold.isExpanded():
        driver.click(advanced.fold.toggleButton())
    driver.type(advanced.batch_size.native.lineEdit(), "5")
    assert driver.dock.panel.batch_size == 5


def undisturbed(slide: Path, model: HeldModel, **changes: Any) -> np.ndarray:
    """The map of a run that nobody watches."""
    model.free()
    job = ws.SegmentationJob(batch_size=5, **changes)
    with ws.open_slide(slide) as opened, run(job, opened, model) as result:
        return result.probabilities().compute()


def stored(path: Path) -> tuple[str, np.ndarray]:
    """Status and map of a result."""
    with ws.ProbabilityMap.open(path) as result:
        return result.status, result.probabilities().compute()


def only_result(driver: Driver) -> Path:
    """The one result in the output folder."""
    (path,) = driver.dock.panel.output_folder.iterdir()
    return path


@pytest.mark.parametrize("driver", SLICING, indirect=True)
def test_a_real_slide_grows_at_every_zoom(driver: Driver, real_slide, hold, qtbot) -> None:
    """Twice on the way and at the end, at three zooms, the window shows what is in the store."""
    model = hold(patch=512, chunk=512)
    viewer, dock = driver.viewer, driver.dock
    driver.open(real_slide)
    assert "0.499 µm/px, from the file" in dock.slide_section.about.text()
    assert "20x objective" in dock.slide_section.about.text()
    assert dock.slide_section.stain.currentText() == "H&E"
    driver.choose(dock.where_section.where, "Whole slide")
    five_at_once(driver)
    driver.segment()

    def looked_at(zoom: float | None) -> np.ndarray:
        viewer.reset_view()
        if zoom is not None:
            # Row 1280 is in the third row of six.
            viewer.scene.camera.center = (0.0, 640.0, 550.0)
            viewer.scene.camera.zoom = 2 * zoom
        layers = dock.results.current
        viewer.screenshot(canvas_only=True, flash=False)
        labels = label_pyramid(layers.pm)
        driver.wait(lambda: is_right(layers.labels, labels))
        return picture(viewer, qtbot)

    seen = []
    for rows in (2, 2, None):
        if rows is None:
            model.free()
            driver.wait_for_end()
        else:
            model.let(rows)
            driver.wait_for_patches(5 * rows * (len(seen) + 1))
            # Rows are written beside the run's steps.
            driver.wait(lambda: bool(dock.results.current.pm.finished.any()))
            driver.wait_for_layers()
        seen.append([looked_at(zoom) for zoom in (None, 1, 6)])
    for zoom in range(3):
        assert not np.array_equal(seen[0][zoom], seen[1][zoom])
    assert not np.array_equal(seen[1][0], seen[2][0])
    np.testing.assert_array_equal(seen[1][2], seen[2][2])
    status, values = stored(only_result(driver))
    assert status == "complete"
    np.testing.assert_array_equal(values, undisturbed(real_slide, model, tissue="none"))
    table = driver.wait_for_areas()
    assert table["Not analysed"].pixels == 0
    assert f"{table['Eosin-dominant'].area_mm2:.3g} mm²" in (
        dock.result_section.classes[1].area.text()
    )


class TestASmallSlide:
    @pytest.fixture
    def slide(self, make_slide) -> Path:
        return make_slide()

    @pytest.fixture
    def model(self, hold) -> HeldModel:
        return hold()

    @pytest.fixture
    def driver(self, driver: Driver, slide, model) -> Driver:
        driver.open(slide)
        driver.choose(driver.dock.where_section.where, "Whole slide")
        five_at_once(driver)
        return driver

    def test_pause_holds_it_and_loses_nothing(self, driver, model, slide) -> None:
        run_section = driver.dock.run_section
        driver.segment()
        model.let()
        driver.wait(lambda: model.calls == 2)
        driver.click(run_section.pause)
        assert run_section.state.text() == "Paused; nothing is lost."
        assert run_section.pause.text() == "Resume"
        model.free()
        driver.wait_for_patches(10)
        # Nothing more comes from the run; the row that it has finished is shown.
        layers = driver.dock.results.current
        driver.wait(lambda: layers.pm.finished[0].all() and layers.labels._slice.image.raw.any())
        assert driver.dock.runs.runner.is_paused
        assert model.calls == 2
        assert run_section.state.text() == "Paused; nothing is lost."
        driver.click(run_section.pause)
        assert run_section.pause.text() == "Pause"
        driver.wait_for_end()
        assert model.calls == 5
        status, values = stored(only_result(driver))
        assert status == "complete"
        np.testing.assert_array_equal(values, undisturbed(slide, model, tissue="none"))

    @pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
    def test_cancel_answers_within_a_batch_and_segment_goes_on(
        self, driver, model, slide, paused, told
    ) -> None:
        run_section = driver.dock.run_section
        driver.segment()
        model.let(2)
        driver.wait(lambda: model.calls == 3)
        if paused:
            driver.click(run_section.pause)
            model.let()
            driver.wait_for_patches(15)
        driver.click(run_section.cancel)
        assert run_section.state.text() == "Stopping at the next batch ..."
        assert not driver.dock.runs._ticking.isActive()  # and so it stays
        model.let()
        assert "Cancelled" in driver.wait_for_end("Cancelled; finished rows are kept")
        assert model.calls == 3
        path = only_result(driver)
        with ws.ProbabilityMap.open(path) as result:
            assert result.status == "cancelled"
            assert result.finished[:2].all()
        assert "(cancelled)" in driver.dock.result_section.results.currentText()
        driver.wait(driver.is_ready)
        foretold = driver.dock.resolution_section.meaning
        driver.wait(lambda: f"of {PATCHES} patches left" in foretold.text())
        model.free()
        driver.segment()
        driver.wait_for_end("Done")
        driver.wait(lambda: "nothing is left to compute" in foretold.text())
        assert model.calls <= 3 + 3
        assert only_result(driver) == path
        status, values = stored(path)
        assert status == "complete"
        np.testing.assert_array_equal(values, undisturbed(slide, model, tissue="none"))
        assert driver.dock.result_section.results.count() == 1
        assert [text for severity, text in told if severity == "error"] == []
        # One layer of each kind: the second run's took the place of the first's.
        names = [layer.name for layer in driver.viewer.layers]
        assert len(names) == len(set(names)) == 4

    def test_two_clicks_are_one_run(self, driver, model, qtbot) -> None:
        button = driver.dock.run_section.segment
        driver.show(button)
        started = []
        driver.dock.runs.runner.stepped.connect(started.append)
        qtbot.mouseDClick(button, Qt.MouseButton.LeftButton)
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        # Whoever has a key for it, too.
        driver.dock.run_section.segment_asked.emit()
        model.free()
        driver.wait_for_end()
        assert sum(isinstance(step, RunPlan) for step in started) == 1
        assert model.calls == 5
        only_result(driver)

    def test_a_run_that_is_done_is_not_done_again(self, driver, model) -> None:
        model.free()
        driver.segment()
        driver.wait_for_end()
        driver.segment()
        driver.wait_for_end("Done")
        assert model.calls == 5

    def test_an_earlier_result_is_replaced_only_after_a_question(
        self, driver, model, monkeypatch
    ) -> None:
        model.free()
        driver.segment()
        driver.wait_for_end()
        driver.choose(driver.dock.advanced_section.overwrite.native, "Replace it")
        asked = []
        answers = iter([QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes])
        monkeypatch.setattr(
            QMessageBox, "question", lambda *words: asked.append(words[-1]) or next(answers)
        )
        driver.wait(driver.is_ready)
        driver.click(driver.dock.run_section.segment)
        assert driver.dock.runs.runner.request is None
        driver.segment()
        driver.wait_for_end("Done")
        assert len(asked) == 2
        assert "corrections" in asked[0]
        assert model.calls == 5 + 5

    def test_progress_is_told_in_words_and_in_the_activity_dock(self, driver, model) -> None:
        driver.segment()
        model.let(2)
        driver.wait_for_patches(10)
        state = driver.dock.run_section.state.text()
        assert "10 of 25 patches" in state
        assert "left" in state
        activity = driver.viewer.window._qt_window._activity_dialog

        def bars() -> list[int]:
            """Rows in all, of each bar that is ours; looked up anew, as others come and go."""
            found = activity.findChildren(QtLabeledProgressBar)
            ours = [bar for bar in found if "Segmenting slide" in bar.description_label.text()]
            return [bar.qt_progress_bar.maximum() for bar in ours]

        # The first row is on disk: the next step tells of it.
        pm = driver.dock.results.current.pm
        driver.wait(lambda: bool(pm.finished[0].all()))
        model.let()
        driver.wait(lambda: bars() == [5])
        model.free()
        driver.wait_for_end()
        driver.wait(lambda: bars() == [])
