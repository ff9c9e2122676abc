"""What goes wrong is told once, in words, and the dock is ready for the next click."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import warnings
from pathlib import Path

import pytest
from napari.utils import progress
from qtpy.QtWidgets import QFileDialog, QMessageBox

import napari_wsiseg as ws
from gui.dock_driver import PATIENCE, Driver, HeldModel
from napari_wsiseg._napari import model_shelf, runs_control
from napari_wsiseg.store.files import DurableFolder

pytestmark = pytest.mark.one_binding


def errors(told: list[tuple[str, str]]) -> list[str]:
    return [text for severity, text in told if severity == "error"]


def is_told_once(driver: Driver, told: list[tuple[str, str]], *words: str) -> None:
    """In one notification and in the status line; and Segment can be clicked again."""
    (text,) = errors(told)
    state = driver.dock.run_section.state.text()
    for word in words:
        assert word in text
        assert word in state
    assert "Traceback" not in text
    driver.wait(driver.is_ready)


def goes_on(driver: Driver, model: HeldModel, told: list[tuple[str, str]]) -> None:
    model.before = lambda _call: None
    model.free()
    driver.segment()
    driver.wait_for_end("Done")
    assert len(errors(told)) == 1
    (path,) = driver.dock.panel.output_folder.iterdir()
    with ws.ProbabilityMap.open(path) as result:
        assert result.status == "complete"
        assert result.coverage[0].compute().all()


@pytest.mark.parametrize(
    ("error", "call", "word"),
    [
        (RuntimeError("CUDA error: an illegal access"), 1, "illegal access"),
        (RuntimeError("CUDA error: an illegal access"), 4, "illegal access"),
        (MemoryError(), 4, "memory"),
        (SystemExit(3), 4, "SystemExit"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_model_that_fails(opened, model, told, error, call, word) -> None:
    def fail(number: int) -> None:
        if number >= call:
            raise error

    model.before = fail
    model.free()
    opened.segment()
    opened.wait_for_end("")
    is_told_once(opened, told, word)
    outline = opened.dock.where_section.outline
    if call == 1:
        assert not opened.dock.panel.output_folder.exists()
        assert outline.isChecked()
        assert not opened.viewer.layers["slide · tissue"].visible, "all of the slide is analysed"
    else:
        assert not outline.isChecked()
        assert "Segment goes on from there" in opened.dock.run_section.state.text()
        assert "(failed)" in opened.dock.result_section.results.currentText()
    goes_on(opened, model, told)


def test_an_end_that_comes_while_the_bar_is_made(opened, model, told, monkeypatch) -> None:
    """napari's bar handles events: a run that fails at once may have ended in one of them."""

    def fail(_call: int) -> None:
        raise RuntimeError("too soon")

    def late(**keywords):
        bar = progress(**keywords)
        opened.wait(lambda: opened.dock.runs.runner.request is None)
        return bar

    with monkeypatch.context() as patch:
        patch.setattr(runs_control, "progress", late)
        model.before = fail
        model.free()
        opened.segment()
    is_told_once(opened, told, "too soon")
    assert opened.dock.where_section.outline.isChecked()
    assert not list(progress._all_instances), "a bar that nobody closes"
    goes_on(opened, model, told)


def test_a_slide_that_is_gone(opened, model, told, slide, monkeypatch) -> None:
    """A drive that is unplugged while the run goes on."""
    away = slide.with_suffix(".away")

    def read_at(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    slide.rename(away)
    with monkeypatch.context() as patch:
        patch.setattr(type(opened.dock.slides.current.slide), "read_at", read_at)
        model.free()
        opened.segment()
        opened.wait_for_end("")
    is_told_once(opened, told, f"{slide.name} is not there any more")
    assert not opened.dock.panel.output_folder.exists()
    away.rename(slide)
    goes_on(opened, model, told)


def test_a_full_disk(opened, model, told, monkeypatch) -> None:
    put, puts = DurableFolder.put, []

    def full(self, key, data, rank) -> None:
        puts.append(key)
        if len(puts) > 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, key, data, rank)

    model.free()
    with monkeypatch.context() as patch:
        patch.setattr(DurableFolder, "put", full)
        opened.segment()
        opened.wait_for_end("")
    is_told_once(opened, told, "No space left")
    goes_on(opened, model, told)


def test_an_output_folder_that_cannot_be_made(opened, model, told, tmp_path) -> None:
    (tmp_path / "out").write_text("in the way")
    model.free()
    opened.segment()
    opened.wait_for_end("")
    is_told_once(opened, told, str(tmp_path / "out"))
    (tmp_path / "out").unlink()
    goes_on(opened, model, told)


class TestModels:
    def test_weights_that_do_not_fit(self, driver, make_slide, told, tmp_path, monkeypatch) -> None:
        driver.open(make_slide())
        section = driver.dock.model_section
        driver.choose(section.models, "fcn_resnet50_unet-bcss")
        assert "get them before you segment" in section.state.text()
        assert not driver.dock.run_section.segment.isEnabled()
        bad = tmp_path / "bad.pth"
        bad.write_bytes(b"no weights")
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(bad), ""))
        driver.menu(section.weights, "From a file")
        driver.wait(lambda: errors(told))
        assert "bad.pth" in errors(told)[0]
        assert len(errors(told)) == 1
        assert "bad.pth" in section.state.text()
        assert not driver.dock.run_section.segment.isEnabled()
        driver.choose(section.models, "he-stain")
        driver.wait(driver.dock.run_section.segment.isEnabled)

    def test_weights_that_come_late_are_not_another_models(
        self, driver, make_slide, tmp_path, monkeypatch
    ) -> None:
        may_load = threading.Event()
        load = model_shelf.load_model

        def late(name, **keywords):
            if name != "fcn-tissue_mask":
                return load(name, **keywords)
            assert may_load.wait(PATIENCE / 1000)
            return object()

        monkeypatch.setattr(model_shelf, "load_model", late)
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("late.pth", ""))
        driver.open(make_slide())
        section = driver.dock.model_section
        driver.choose(section.models, "fcn-tissue_mask")
        driver.menu(section.weights, "From a file")
        driver.choose(section.models, "he-stain")
        may_load.set()
        driver.wait(lambda: not driver.dock.background.is_busy)
        assert driver.dock.panel.weights is None
        driver.segment()
        driver.wait_for_end("Done")

    def test_a_download_without_a_network(self, driver, make_slide, told, monkeypatch) -> None:
        def fail(_: str) -> Path:
            raise ws.ModelError("The weights could not be downloaded.")

        monkeypatch.setattr("napari_wsiseg.models.weights.fetch", fail)
        driver.open(make_slide())
        section = driver.dock.model_section
        driver.choose(section.models, "fcn-tissue_mask")
        driver.menu(section.weights, "Download")
        driver.wait(lambda: errors(told) == ["The weights could not be downloaded."])
        assert "could not be downloaded" in section.state.text()

    def test_a_model_file(self, driver, make_slide, told, tmp_path, monkeypatch) -> None:
        """One that is none is told; one of ours runs, once the user trusts it."""
        asked = []
        answer = QMessageBox.StandardButton.No

        def question(_parent, _title, text, *_):
            asked.append(text)
            return answer

        monkeypatch.setattr(QMessageBox, "question", question)
        path = write_model(tmp_path / "halves.pt")
        bad = tmp_path / "bad.pt"
        bad.write_bytes(b"no model")
        bad.with_suffix(".yaml").write_text("classes: [A]\n")
        driver.open(make_slide())
        section = driver.dock.model_section
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
        driver.click(section.open)
        assert "runs on this machine" in asked[0]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.name in asked[0]
        assert digest in asked[0]
        assert driver.dock.panel.model in ws.models()
        answer = QMessageBox.StandardButton.Yes
        driver.click(section.open)
        driver.wait(lambda: driver.dock.panel.model == str(path))
        assert section.models.currentText() == "halves.pt (file)"
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(bad), ""))
        driver.click(section.open)
        driver.wait(lambda: errors(told))
        assert "bad.pt" in errors(told)[0]
        assert driver.dock.panel.model == str(path)
        driver.segment()
        driver.wait_for_end("Done")
        assert driver.dock.results.current.pm.classes == ("Dark", "Light")
        # Another, and back again: it is still trusted.
        driver.choose(section.models, "he-stain")
        driver.choose(section.models, "halves.pt")
        assert driver.dock.panel.trust
        driver.wait(driver.dock.run_section.segment.isEnabled)

    def test_a_model_file_that_is_no_program(self, driver, make_slide, told, tmp_path, monkeypatch):
        """ONNX is data: nobody is asked whether to trust it."""
        monkeypatch.setattr(QMessageBox, "question", lambda *_: pytest.fail("asked"))
        path = tmp_path / "bad.onnx"
        path.write_bytes(b"no model")
        path.with_suffix(".yaml").write_text("classes: [A]\n")
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
        driver.open(make_slide())
        driver.click(driver.dock.model_section.open)
        driver.wait(lambda: errors(told))
        assert "bad.onnx" in errors(told)[0] or "ONNX Runtime" in errors(told)[0]


def write_model(path: Path) -> Path:
    """A TorchScript file: how dark and how light a pixel is."""
    import torch

    class Halves(torch.nn.Module):
        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            light = patches.mean(1)
            return torch.stack([1 - light, light], 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(Halves(), torch.rand(1, 3, 8, 8)), path)
    path.with_suffix(".yaml").write_text(
        "classes: [Dark, Light]\nresolution: 1 mpp\npatch_input_shape: 64\n"
        "patch_output_shape: 64\nactivation: softmax\n"
    )
    return path


def test_layers_that_cannot_be_made_hold_no_run(opened, model, qtbot, monkeypatch) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("no layers today")

    monkeypatch.setattr("napari_wsiseg._napari.results_control.ResultLayers", broken)
    model.free()
    with qtbot.capture_exceptions() as caught:
        opened.segment()
        opened.wait(lambda: opened.dock.runs.runner.request is None)
    assert "no layers today" in str(caught)
    assert opened.dock.run_section.state.text().startswith("Done")
