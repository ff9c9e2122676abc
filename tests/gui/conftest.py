"""Slides and results to open, and napari's settings and our caches in folders of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

import napari_wsiseg as ws
from napari_wsiseg._napari import model_shelf
from napari_wsiseg.engine import fields
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.models import load_model

if TYPE_CHECKING:
    # Qt is imported late: pytest-qt chooses the binding after this file was read.
    from gui.dock_driver import Driver, HeldModel

# Of Qt and its style on this screen, not of ours.
_KNOWN = ("QFontDatabase:", "libpng warning")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Iterator[None]:
    """Nothing is read from the user's settings and caches, and nothing is left there."""
    from napari import settings

    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("NAPARI_WSISEG_CACHE", str(folder / "cache"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: folder / "cache")
    monkeypatch.setattr(settings, "_CFG_PATH", str(folder / "settings.yaml"))
    monkeypatch.setattr(settings, "_SETTINGS", settings.NapariSettings(config_path=None))
    settings._clear_plugin_settings_cache()
    yield
    settings._clear_plugin_settings_cache()


@pytest.fixture
def told(monkeypatch) -> list[tuple[str, str]]:
    """What notifications say: (severity, message), as they come."""
    from napari.utils.notifications import notification_manager

    heard: list[tuple[str, str]] = []
    monkeypatch.setattr(
        notification_manager,
        "dispatch",
        lambda note: heard.append((str(note.severity), note.message)),
    )
    return heard


def write_slide(path: Path, side: int = 600, *, mpp: float | None = 0.5) -> Path:
    """A tiled TIFF of one level; above 512 px it needs an averaged one to be shown."""
    rng = np.random.default_rng(side)
    coarse = rng.integers(100, 250, (side // 20 + 1, side // 20 + 1, 3), np.uint8)
    pixels = coarse.repeat(20, 0).repeat(20, 1)[:side, :side]
    scale = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None, **scale)
    return path


@pytest.fixture
def make_slide(tmp_path: Path) -> Callable[..., Path]:
    """Write a slide: (name="slide.svs", side=600, mpp=0.5) -> path."""

    def make(name: str = "slide.svs", side: int = 600, *, mpp: float | None = 0.5) -> Path:
        return write_slide(tmp_path / name, side, mpp=mpp)

    return make


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result beside its slide, `case.tif`."""
    slide = write_slide(tmp_path / "case.tif")
    output = tmp_path / "case.ome.zarr"
    job = ws.SegmentationJob(slide=slide, model="he-stain", output=output, tissue="none")
    ws.run(job).close()
    return output


@pytest.fixture
def _nothing_stays(qtlog) -> Iterator[None]:
    """When the window is gone, so are the threads; and Qt had nothing to complain of."""
    from qtpy.QtCore import QThreadPool, QtMsgType

    from gui.dock_driver import PATIENCE

    yield
    assert QThreadPool.globalInstance().waitForDone(PATIENCE)
    for thread in threading.enumerate():
        if thread.name.startswith("wsiseg"):
            thread.join(PATIENCE / 1000)
            assert not thread.is_alive(), f"{thread.name} still runs"
    complaints = [
        record.message
        for record in qtlog.records
        if record.type != QtMsgType.QtDebugMsg and not record.message.startswith(_KNOWN)
    ]
    assert complaints == []


@pytest.fixture
def add_dock(tmp_path: Path, qtbot) -> Callable[[Any], Driver]:
    """Add the dock to a window as the Plugins menu does."""

    from gui.dock_driver import Driver

    def add(viewer: Any) -> Driver:
        _, dock = viewer.window.add_plugin_dock_widget("napari-wsiseg", "Segment slide")
        dock.advanced_section.output_folder.value = tmp_path / "out"
        return Driver(viewer, dock, qtbot)

    return add


@pytest.fixture
def driver(_nothing_stays, make_napari_viewer, add_dock, request) -> Driver:
    """A dock in a window on the screen; with the parameter "async", napari slices in a thread."""
    from napari.settings import get_settings

    get_settings().experimental.async_ = getattr(request, "param", "sync") == "async"
    return add_dock(make_napari_viewer(show=True))


@pytest.fixture
def hold(monkeypatch) -> Iterator[Callable[..., HeldModel]]:
    """Have the dock load models that answer when they are let, on small chunks."""
    from gui.dock_driver import HeldModel

    made: list[HeldModel] = []

    def start(patch: int = 128, chunk: int = 128, name: str = "he-stain") -> HeldModel:
        model = HeldModel(load_model(name), patch)
        made.append(model)
        monkeypatch.setattr(model_shelf, "load_model", lambda *_, **__: model)
        monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=chunk))
        return model

    yield start
    for model in made:
        model.free()


@pytest.fixture
def slide(make_slide) -> Path:
    """A slide of five rows of five patches."""
    return make_slide()


@pytest.fixture
def model(hold) -> HeldModel:
    """Answers when it is let."""
    return hold()


@pytest.fixture
def opened(driver: Driver, slide: Path, model: HeldModel) -> Driver:
    """All of the slide is to be segmented, a row of patches at a time."""
    driver.open(slide)
    driver.choose(driver.dock.where_section.where, "Whole slide")
    driver.dock.advanced_section.batch_size.value = 5
    return driver


@pytest.fixture
def segmented(opened: Driver, model: HeldModel) -> Driver:
    """All of the slide was segmented, and its areas are known."""
    model.free()
    opened.segment()
    opened.wait_for_end()
    opened.wait_for_areas()
    return opened
