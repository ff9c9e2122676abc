"""What the dock says and does when things are not where they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import napari_wsiseg as ws
from gui.dock_driver import Driver
from napari_wsiseg._napari import models_control
from napari_wsiseg._napari.kept_view import keep_hidden, keep_rule
from napari_wsiseg._napari.result_layers import result_of
from napari_wsiseg._napari.sections.export import ExportChoice
from napari_wsiseg.labels import corrections
from napari_wsiseg.models import weights

pytestmark = pytest.mark.one_binding


def test_a_result_that_is_gone_has_no_areas(segmented: Driver, told) -> None:
    dock = segmented.dock
    shutil.rmtree(dock.results.current.pm.path)
    for threshold in ("0.3", "0.4"):
        segmented.type(dock.result_section.classes[1].number, threshold)
        segmented.wait(lambda: not dock.background.is_busy and dock.areas.tables == [])
    assert dock.result_section.classes[1].area.text() == "-"
    assert "slide.ome.zarr is gone" in dock.result_section.readout.text()
    assert len([text for severity, text in told if "is gone" in text]) == 1


def test_a_result_looks_as_it_did_without_the_dock_too(make_napari_viewer, result: Path) -> None:
    with ws.ProbabilityMap.open(result) as pm:
        rule = ws.DecisionRule({pm.classes[1]: 0.25})
        keep_rule(pm, rule)
        keep_hidden(pm, {0})
    viewer = make_napari_viewer()
    viewer.open(result, plugin="napari-wsiseg")
    (labels,) = [layer for layer in viewer.layers if layer.name.endswith("classes")]
    assert result_of(labels).rule == rule
    assert result_of(labels).hidden == {0}


def test_a_device_that_is_no_more_is_not_used(driver: Driver) -> None:
    dock = driver.dock
    driver.wait(lambda: not dock.background.is_busy)
    dock.panel.device = "cuda:7"
    dock.advanced_section.show_panel(dock.panel)
    dock.advanced_section.show_machine(["auto", "cpu"], "CPU")
    assert dock.advanced_section.device.value == dock.panel.device == "auto"


def test_the_list_of_models_knows_of_a_download(driver: Driver, monkeypatch, tmp_path) -> None:
    dock, name = driver.dock, "fcn_resnet50_unet-bcss"
    here = []
    monkeypatch.setattr(models_control, "weights_ready", lambda _: bool(here))
    monkeypatch.setattr(weights, "fetch", lambda _: here.append(True) or tmp_path)
    driver.choose(dock.model_section.models, name)
    assert "needs weights" in dock.model_section.models.currentText()
    driver.menu(dock.model_section.weights, "Download")
    driver.wait(lambda: here and not dock.background.is_busy)
    assert "needs weights" not in dock.model_section.models.currentText()


def test_a_picture_is_made_while_another_slide_is_looked_at(
    segmented, make_slide, tmp_path
) -> None:
    dock = segmented.dock
    segmented.open(make_slide("other.svs", 700))
    dock.exports.start(ExportChoice("png"), tmp_path / "a.png", overwrite=False)
    segmented.wait(lambda: dock.exports.runner.request is None)
    assert (tmp_path / "a.png").exists(), dock.export_section.state.text()


def test_corrections_are_kept_once(segmented: Driver) -> None:
    dock, section = segmented.dock, segmented.dock.export_section
    segmented.menu(section.correct, "What the window shows")
    segmented.wait(section.keep.isVisible)
    painted = next(layer for layer in segmented.viewer.layers if layer.name.endswith("correcting"))
    painted.data_setitem(np.nonzero(np.ones((20, 20))), 0)
    segmented.click(section.keep)
    assert not section.keep.isEnabled()
    assert not section.drop.isEnabled()
    segmented.wait(lambda: "px corrected" in section.correction.text())
    assert len(corrections(dock.results.current.pm)) == 1
    segmented.menu(section.correct, "What the window shows")
    segmented.wait(section.keep.isVisible)
    assert section.keep.isEnabled()
    segmented.click(section.drop)


def test_side_by_side_ends_with_its_slide(segmented: Driver, told) -> None:
    dock, viewer = segmented.dock, segmented.viewer
    dock.advanced_section.dtype.value = "16 bit"
    segmented.wait(dock.run_section.segment.isEnabled)
    segmented.segment()
    segmented.wait_for_end()
    segmented.click(dock.result_section.beside)
    assert viewer.canvas.grid.enabled
    viewer.layers.remove(dock.slides.current.layer)
    assert not viewer.canvas.grid.enabled
    assert "slide" not in [layer.name for layer in viewer.layers]
    assert [text for severity, text in told if severity == "error"] == []
