"""napari opens slides and results through the plugin, in real windows and without one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import npe2
import numpy as np
import pytest
import yaml
from napari import Viewer
from napari.errors import MultipleReaderError
from napari.settings import get_settings

from gui.dock_driver import PATIENCE
from napari_wsiseg import SlideError
from napari_wsiseg._napari import reader, samples
from napari_wsiseg._napari.reader import (
    SLIDE_SUFFIXES,
    get_reader,
    is_default_reader,
    make_default_reader,
)
from napari_wsiseg._napari.result_layers import result_of
from napari_wsiseg._napari.settings import Settings
from napari_wsiseg._napari.slide_layer import close, slide_of
from napari_wsiseg.slides import READERS, pyramid

PLUGIN = "napari-wsiseg"


@pytest.fixture
def viewer(make_napari_viewer) -> Viewer:
    return make_napari_viewer()


@pytest.fixture
def manifest(root) -> dict:
    text = (root / "src" / "napari_wsiseg" / "napari.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["contributions"]


@pytest.fixture
def read() -> Iterator:
    """Read without a window, and close afterwards what was read."""
    npe2.PluginManager.instance().discover()
    layers: list = []

    def read_it(*paths) -> list:
        layers.extend(npe2.read([str(p) for p in paths], stack=len(paths) > 1, plugin_name=PLUGIN))
        return layers

    yield read_it
    for layer in layers:
        close(layer)


class TestWhatIsOurs:
    def test_slides_and_results_are(self, make_slide, result) -> None:
        for path in (make_slide(), make_slide("slide.tif"), result, *samples.SAMPLES):
            assert get_reader(str(path)) is not None
        assert get_reader([str(make_slide()), str(make_slide("b.svs"))]) is not None

    def test_others_are_not(self, tmp_path, make_slide) -> None:
        text = tmp_path / "text.tif"
        text.write_text("no picture")
        (tmp_path / "notes.txt").write_text("no slide")
        (tmp_path / "folder").mkdir()
        (tmp_path / "cells.zarr").mkdir()
        (tmp_path / "cells.zarr" / "zarr.json").write_text("{}")
        for name in ("text.tif", "notes.txt", "folder", "cells.zarr", "nothing.tif"):
            assert get_reader(str(tmp_path / name)) is None
        assert get_reader([str(make_slide()), str(text)]) is None

    def test_the_manifest_names_what_slides_are_called(self, manifest) -> None:
        (entry,) = manifest["readers"]
        claimed = {pattern.removeprefix("*") for pattern in entry["filename_patterns"]}
        readable = set().union(*(one.suffixes for one in READERS))
        # Of pictures every drop would bring up a choice, and folders have no pattern.
        assert claimed == readable - {".png", ".jpg", ".jpeg", ".zarr"}
        assert set(SLIDE_SUFFIXES) < claimed


class TestWithoutAWindow:
    def test_a_slide_is_a_layer_in_micrometres(self, read, make_slide) -> None:
        ((levels, keywords, kind),) = read(make_slide())
        assert kind == "image"
        assert keywords["scale"] == (0.5, 0.5)
        assert levels[0].shape == (600, 600, 3)

    def test_several_are_no_stack(self, read, make_slide) -> None:
        layers = read(make_slide("a.svs"), make_slide("b.svs", 300))
        assert [keywords["name"] for _, keywords, _ in layers] == ["a", "b"]

    def test_a_result_comes_with_its_slide(self, read, result) -> None:
        kinds = [(kind, keywords["name"].rpartition(" ")[2]) for _, keywords, kind in read(result)]
        assert kinds == [("image", "case"), ("image", "probability"), ("labels", "classes")]

    def test_a_result_comes_without_one_that_is_gone(self, read, result, tmp_path) -> None:
        (tmp_path / "case.tif").unlink()
        assert [kind for _, _, kind in read(result)] == ["image", "labels"]

    def test_a_damaged_one_is_an_error(self, read, tmp_path) -> None:
        bad = tmp_path / "bad.svs"
        bad.write_bytes(b"II*\0 and no more")
        with pytest.raises(SlideError, match=r"bad\.svs cannot be opened as a slide"):
            read(bad)

    def test_what_should_be_known_is_a_warning(self, read, make_slide) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reader.read(str(make_slide("a_tiff.png", 300)))
        assert "is not what its name says" in str(caught[0].message)


class TestInAWindow:
    def test_one_that_must_be_prepared_comes_later(self, viewer, qtbot, make_slide) -> None:
        assert viewer.open(make_slide(), plugin=PLUGIN) == []
        qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=PATIENCE)
        np.testing.assert_allclose(viewer.layers[0].scale, 0.5)
        assert viewer.canvas.overlays.scale_bar.visible

    def test_one_that_is_at_hand_comes_at_once(self, viewer, make_slide) -> None:
        assert pyramid is not None  # loading it holds a window up, so that is left to a worker
        (layer,) = viewer.open(make_slide("small.svs", 300), plugin=PLUGIN)
        slide = slide_of(layer)
        assert not slide.closed
        assert viewer.canvas.overlays.scale_bar.visible
        viewer.layers.clear()
        assert slide.closed

    def test_a_damaged_one_is_one_notification(self, viewer, tmp_path, told) -> None:
        bad = tmp_path / "bad.svs"
        bad.write_bytes(b"II*\0 and no more")
        assert viewer.open(bad, plugin=PLUGIN) == []
        ((severity, text),) = told
        assert severity == "error"
        assert "bad.svs cannot be opened as a slide" in text

    def test_a_bad_one_costs_no_other(self, viewer, tmp_path, told, make_slide) -> None:
        bad = tmp_path / "bad.svs"
        bad.write_text("bad")
        good = make_slide("good.svs", 300)
        assert [x.name for x in viewer.open([bad, good], plugin=PLUGIN, stack=True)] == ["good"]
        assert len(told) == 1

    def test_dropped_beside_another_reader(self, viewer, qtbot, make_slide, monkeypatch) -> None:
        from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog

        path = make_slide("small.svs", 300)
        with pytest.raises(MultipleReaderError):
            viewer.open(path, plugin=None)
        monkeypatch.setattr(
            QtReaderDialog, "get_user_choices", lambda _: ("WSI segmentation", False)
        )
        viewer.window._qt_viewer._qt_open([str(path)], stack=False)
        assert [slide_of(layer).info.path for layer in viewer.layers] == [path]

    def test_dropped_where_ours_is_the_default(self, viewer, make_slide) -> None:
        get_settings().plugins.extension2reader = {"*.tif": "napari", "*.SVS": "napari"}
        assert not is_default_reader()
        make_default_reader()
        assert is_default_reader()
        path = make_slide("small.svs", 300)
        viewer.window._qt_viewer._qt_open([str(path)], stack=False)
        assert [slide_of(layer).info.path for layer in viewer.layers] == [path]
        assert get_settings().plugins.extension2reader["*.tif"] == "napari"


class TestResults:
    def test_the_slide_lies_below(self, viewer, qtbot, result) -> None:
        assert viewer.open(result, plugin=PLUGIN) == []
        qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=PATIENCE)
        slide, scores, labels = viewer.layers
        assert slide_of(slide).info.stem == "case"
        assert result_of(labels) is result_of(scores) is not None
        assert {str(layer.units[0]) for layer in viewer.layers} == {"micrometer"}

    def test_a_slide_that_is_shown_is_not_opened_again(self, viewer, qtbot, result, tmp_path):
        viewer.open(tmp_path / "case.tif", plugin=PLUGIN)
        qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=PATIENCE)
        viewer.open(result, plugin=PLUGIN)
        assert len(viewer.layers) == 3
        assert not slide_of(viewer.layers[0]).closed

    def test_it_may_lie_in_a_folder_beside_the_slide(self, viewer, qtbot, result, tmp_path) -> None:
        (tmp_path / "out").mkdir()
        moved = shutil.move(result, tmp_path / "out" / "other name.ome.zarr")
        viewer.open(moved, plugin=PLUGIN)
        qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=PATIENCE)
        assert slide_of(viewer.layers[0]).info.stem == "case"

    def test_without_its_slide_it_says_so(self, viewer, told, result, tmp_path) -> None:
        (tmp_path / "case.tif").unlink()
        viewer.open(result, plugin=PLUGIN)
        assert len(viewer.layers) == 2
        assert [severity for severity, _ in told] == ["info"]
        assert "case.ome.zarr is not beside it" in told[0][1]

    def test_another_slide_of_that_name_is_not_taken(
        self, viewer, qtbot, told, result, make_slide
    ) -> None:
        make_slide("case.tif", 700)
        viewer.open(result, plugin=PLUGIN)
        qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE)
        assert "is not the slide that the result was made of" in told[0][1]
        assert len(viewer.layers) == 2

    def test_a_damaged_one_is_one_notification(self, viewer, told, result) -> None:
        (result / "coverage" / "0" / "zarr.json").unlink()
        assert viewer.open(result, plugin=PLUGIN) == []
        ((severity, text),) = told
        assert severity == "error"
        assert "case.ome.zarr" in text
        assert viewer.layers == []


class TestSamples:
    def test_the_made_slide_opens_without_a_scale(self, viewer, qtbot) -> None:
        viewer.open_sample(PLUGIN, "made-slide")
        qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=PATIENCE)
        assert viewer.layers[0].data[0].shape == (4096, 4096, 3)
        assert slide_of(viewer.layers[0]).info.mpp is None

    def test_the_real_slide_opens_from_the_cache(self, viewer, qtbot, real_slide, monkeypatch):
        monkeypatch.setattr("napari_wsiseg.demo.fetch_real_slide", lambda: real_slide)
        viewer.open_sample(PLUGIN, "real-slide")
        qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=PATIENCE)
        np.testing.assert_allclose(viewer.layers[0].scale, 0.499)

    def test_offline_is_one_notification(self, viewer, qtbot, told, monkeypatch) -> None:
        # A proxy that does not answer: every request fails.
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        viewer.open_sample(PLUGIN, "real-slide")
        qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE)
        ((severity, text),) = told
        assert severity == "error"
        assert "could not be downloaded" in text

    def test_nothing_is_downloaded_where_the_settings_say_offline(self, monkeypatch) -> None:
        monkeypatch.setattr(samples, "read_settings", lambda: Settings(offline=True))
        monkeypatch.setattr("napari_wsiseg.demo.fetch_real_slide", lambda: pytest.fail("fetched"))
        with pytest.raises(SlideError, match="the settings say offline"):
            samples.real_slide()

    def test_the_manifest_offers_them(self, manifest) -> None:
        assert {sample["uri"] for sample in manifest["sample_data"]} == set(samples.SAMPLES)


def test_a_cache_that_cannot_be_written_is_told(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "file")
    with pytest.raises(SlideError, match="cannot be kept in"):
        samples.made_slide()


def test_the_plugin_loads_nothing_slow() -> None:
    code = (
        "import sys, napari, napari.viewer, napari.layers, napari.qt.threading; napari.Viewer\n"
        "before = set(sys.modules)\n"
        "from napari_wsiseg._napari import reader, samples, settings, writer\n"
        "slow = {'dask', 'zarr', 'torch', 'scipy', 'openslide', 'tifffile', 'skimage', 'pooch'}\n"
        "print(sorted(slow & {name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
