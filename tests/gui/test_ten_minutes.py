"""The first ten minutes of a stranger: from a dropped file to areas and a GeoJSON.

They have another reader of slides installed and a light theme, and know no API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import npe2
import numpy as np
import pytest
import tifffile
from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
from napari.settings import get_settings
from npe2 import PluginManifest
from qtpy.QtWidgets import QFileDialog

from gui.dock_driver import Driver
from napari_wsiseg.slides import openslide_reader, tiff

THEIRS = "another-slide-reader"
SIDE = 600


@pytest.fixture
def pixels() -> np.ndarray:
    """Eosin and hematoxylin, everywhere."""
    coarse = np.random.default_rng(3).random((30, 30)) < 0.5
    stained = np.where(coarse[..., None], (225, 130, 180), (110, 80, 160)).astype(np.uint8)
    return stained.repeat(20, 0).repeat(20, 1)


def write(path: Path, pixels: np.ndarray, mpp: float | None = 0.5, **keywords) -> Path:
    scale = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", metadata=None, **scale, **keywords
    )
    return path


def theirs(path) -> Callable:
    """Reads level 0 alone, as a plain image without a scale."""
    return lambda _: [(tifffile.imread(path), {"rgb": True, "name": Path(path).stem}, "image")]


@pytest.fixture(scope="module", autouse=True)
def _another_reader() -> Iterator[None]:
    """Another plugin that claims slides."""
    manifest = PluginManifest(
        name=THEIRS,
        display_name="Another slide reader",
        contributions={
            "commands": [
                {"id": f"{THEIRS}.read", "title": "Read", "python_name": f"{__name__}:theirs"}
            ],
            "readers": [{"command": f"{THEIRS}.read", "filename_patterns": ["*.svs", "*.tif"]}],
        },
    )
    manager = npe2.PluginManager.instance()
    # The windows of other tests, which are gone, would hear of it.
    with manager.events.plugins_registered.blocked():
        manager.register(manifest)
    manager.commands.register(f"{THEIRS}.read", theirs)
    yield
    manager.unregister(THEIRS)


@pytest.fixture
def stranger(driver: Driver) -> Driver:
    """The theme is light."""
    get_settings().appearance.theme = "light"
    return driver


def drop(driver: Driver, path: Path, monkeypatch, plugin: str) -> None:
    """Drop a file on the window, and choose from the list of readers that comes."""
    asked = []

    def choose(dialog) -> tuple[str, bool]:
        asked.append(dialog)
        return plugin, False

    monkeypatch.setattr(QtReaderDialog, "get_user_choices", choose)
    driver.viewer.window._qt_viewer._qt_open([str(path)], stack=False)
    assert asked


def to_areas_and_geojson(driver: Driver, path: Path, folder: Path, monkeypatch) -> dict:
    """Segment; read "% of tissue"; export. The GeoJSON's features' classes and corners."""
    dock = driver.dock
    driver.wait_for_slide(path.stem)
    driver.segment()
    driver.wait_for_end("Done")
    driver.wait_for_areas()
    rows = dock.result_section.classes.values()
    for row in rows:
        assert re.fullmatch(r"[\d.]+ mm²", row.area.text())
        assert re.fullmatch(r"[\d.]+ %", row.share.text())
    assert dock.result_section.summary.text().endswith("are of the analysed tissue.")
    target = folder / f"{path.stem}.geojson"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), ""))
    driver.click(dock.export_section.export)
    driver.wait(lambda: dock.exports.runner.request is None)
    assert dock.export_section.state.text().startswith("Written and checked")
    return json.loads(target.read_text())


def extent(collection: dict) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of all outlines."""
    import shapely

    shapes = [shapely.geometry.shape(f["geometry"]) for f in collection["features"]]
    return shapely.total_bounds(shapely.GeometryCollection(shapes))


@pytest.mark.parametrize("plugin", ["WSI segmentation", "Another slide reader"])
def test_a_slide_of_one_level(stranger, pixels, tmp_path, monkeypatch, plugin) -> None:
    """Whichever reader they choose: the dock takes the layer and knows its scale."""
    path = write(tmp_path / "case.tif", pixels)
    drop(stranger, path, monkeypatch, plugin)
    stranger.wait_for_slide("case")
    assert "0.5 µm/px, from the file" in stranger.dock.slide_section.about.text()
    assert stranger.dock.panel.stain == "H&E"
    found = to_areas_and_geojson(stranger, path, tmp_path, monkeypatch)
    assert {f["properties"]["classification"]["name"] for f in found["features"]} == {
        "Hematoxylin-dominant",
        "Eosin-dominant",
    }
    np.testing.assert_allclose(extent(found), (0, 0, SIDE, SIDE), atol=1)


def test_a_slide_with_a_scanned_part(stranger, pixels, tmp_path, monkeypatch) -> None:
    """QuPath's origin is the corner of what was scanned; so is that of its outlines."""
    whole = np.full((SIDE + 200, SIDE + 100, 3), 255, np.uint8)
    whole[200:, 100:] = pixels
    path = write(tmp_path / "scanned.tif", whole)
    # A generic tiled TIFF, to OpenSlide: with the bounds that a scanner would have written.
    monkeypatch.setattr(tiff, "open_file", refuse)
    properties = {"x": 100, "y": 200, "width": SIDE, "height": SIDE}
    bounds = openslide_reader._bounds

    def with_bounds(found, size):
        return bounds({f"openslide.bounds-{k}": str(v) for k, v in properties.items()}, size)

    monkeypatch.setattr(openslide_reader, "_bounds", with_bounds)
    drop(stranger, path, monkeypatch, "WSI segmentation")
    stranger.wait_for_slide("scanned")
    assert stranger.dock.slides.current.slide.info.bounds.top == 200
    found = to_areas_and_geojson(stranger, path, tmp_path, monkeypatch)
    np.testing.assert_allclose(extent(found), (0, 0, SIDE, SIDE), atol=20)
    labels = stranger.dock.results.current.labels
    layer = stranger.dock.slides.current.layer
    np.testing.assert_allclose(labels.extent.world, layer.extent.world)


def refuse(*_):
    from napari_wsiseg import SlideError

    raise SlideError("it is left to OpenSlide here")


@pytest.mark.parametrize("plugin", ["WSI segmentation", "Another slide reader"])
def test_a_slide_without_a_scale(stranger, pixels, tmp_path, monkeypatch, plugin) -> None:
    """The panel asks for it, and goes on."""
    path = write(tmp_path / "noscale.tif", pixels, mpp=None)
    drop(stranger, path, monkeypatch, plugin)
    stranger.wait_for_tissue("noscale")
    section = stranger.dock.slide_section
    stranger.wait(section.mpp.isVisible)
    stranger.wait(lambda: not stranger.dock.run_section.segment.isEnabled())
    stranger.type(section.mpp.lineEdit(), "0.25")
    stranger.click(section.give)
    stranger.wait(lambda: "0.25 µm/px, as given" in section.about.text())
    found = to_areas_and_geojson(stranger, path, tmp_path, monkeypatch)
    np.testing.assert_allclose(extent(found), (0, 0, SIDE, SIDE), atol=1)
    assert stranger.dock.results.current.pm.mpp == (0.5, 0.5)


def test_a_slide_without_glass(stranger, tmp_path, monkeypatch, pixels) -> None:
    """There is no white to measure against: all of it is tissue."""
    dark = (pixels * 0.8).astype(np.uint8)
    path = write(tmp_path / "noglass.tif", dark)
    drop(stranger, path, monkeypatch, "WSI segmentation")
    found = to_areas_and_geojson(stranger, path, tmp_path, monkeypatch)
    assert "Tissue: 100 %" in stranger.dock.where_section.about.text()
    np.testing.assert_allclose(extent(found), (0, 0, SIDE, SIDE), atol=1)
