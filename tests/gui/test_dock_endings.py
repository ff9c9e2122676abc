"""Runs that are cut off, whatever way: they stop at the next batch, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QApplication

import napari_wsiseg as ws
from gui.dock_driver import PATIENCE, Driver
from napari_wsiseg.engine import run


@pytest.fixture
def started(opened: Driver) -> Driver:
    """Segment was clicked."""
    opened.segment()
    return opened


def hide_by_its_button(driver: Driver) -> None:
    driver.click_outside(driver.dock.parentWidget().title.hide_button)


def remove_by_its_cross(driver: Driver) -> None:
    driver.click_outside(driver.dock.parentWidget().title.close_button)


def remove_the_slide(driver: Driver) -> None:
    driver.viewer.layers.remove(driver.dock.slides.current.layer)


def remove_the_slide_while_another_is_looked_at(driver: Driver) -> None:
    layer = driver.dock.slides.current.layer
    pixels = np.full((64, 64, 3), 200, np.uint8)
    driver.viewer.add_image(pixels, rgb=True, name="other")
    slides = driver.dock.slides
    driver.wait(lambda: slides.current is not None and slides.current.name == "other")
    driver.viewer.layers.remove(layer)


def remove_the_classes(driver: Driver) -> None:
    driver.viewer.layers.remove(driver.dock.results.current.labels)


def remove_all_layers(driver: Driver) -> None:
    driver.viewer.layers.clear()


def close_the_window(driver: Driver) -> None:
    gone = []
    driver.viewer.window._qt_window.destroyed.connect(lambda: gone.append(True))
    driver.viewer.close()
    driver.wait(lambda: gone)


@pytest.mark.parametrize(
    ("end", "paused"),
    [
        (hide_by_its_button, False),
        (remove_by_its_cross, False),
        (remove_by_its_cross, True),
        (remove_the_slide, True),
        (remove_the_slide_while_another_is_looked_at, False),
        (remove_the_classes, False),
        (remove_all_layers, True),
        (close_the_window, False),
        (close_the_window, True),
    ],
    ids=lambda value: getattr(value, "__name__", "paused" if value else "running"),
)
def test_it_stops_at_the_next_batch_with_whole_files(
    started: Driver, model, slide, tmp_path, end: Callable[[Driver], None], paused, told
) -> None:
    driver = started
    model.let(2)
    driver.wait_for_patches(10)
    driver.wait(lambda: model.calls == 3)
    if paused:
        driver.click(driver.dock.run_section.pause)
        model.let()
        driver.wait_for_patches(15)
    end(driver)
    model.free()
    assert QThreadPool.globalInstance().waitForDone(PATIENCE)
    QApplication.processEvents()
    assert model.calls == 3
    (path,) = (tmp_path / "out").iterdir()
    with ws.ProbabilityMap.open(path) as result:
        assert result.status == "cancelled"
        assert result.finished[:2].all()
        assert not result.finished.all()
    job = ws.SegmentationJob(output=path, batch_size=5, tissue="none")
    with ws.open_slide(slide) as opened, run(job, opened, model) as result:
        assert result.status == "complete"
        assert result.coverage[0].compute().all()
    assert [text for severity, text in told if severity == "error"] == []
