"""File > Save writes a result's labels: our multiscale layers, under the rule of now."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import npe2
import numpy as np
import pytest
import tifffile
import yaml
import zarr
from napari import Viewer
from napari.layers import Labels
from PIL import Image

from gui.dock_driver import PATIENCE
from napari_wsiseg import DecisionRule, ExportError, SlideError
from napari_wsiseg._napari import writer
from napari_wsiseg._napari.result_layers import result_of
from napari_wsiseg.export.formats import FORMATS
from napari_wsiseg.geometry import Region
from napari_wsiseg.labels import correct, labels_to_correct

PLUGIN = "napari-wsiseg"


@pytest.fixture
def manifest(root) -> dict:
    text = (root / "src" / "napari_wsiseg" / "napari.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["contributions"]


@pytest.fixture
def labels(result) -> Labels:
    """The labels layer of a result, as it stands in a window."""
    npe2.PluginManager.instance().discover()
    from napari_wsiseg import ProbabilityMap
    from napari_wsiseg._napari.result_layers import ResultLayers

    return ResultLayers(ProbabilityMap.open(result), "case").labels


def read_back(path: Path) -> None:
    """Open it with a program of others."""
    if path.suffix == ".geojson":
        assert json.loads(path.read_text(encoding="utf-8"))["type"] == "FeatureCollection"
    elif path.suffix == ".tif":
        assert tifffile.imread(path).dtype == "uint8"
    elif path.suffix == ".zarr":
        assert "ome" in zarr.open_group(path, mode="r").attrs
    elif path.suffix == ".csv":
        assert path.read_text(encoding="utf-8-sig").strip()
    elif path.suffix == ".png":
        Image.open(path).verify()
    else:
        assert path.read_bytes().startswith(b"SQLite format 3")


@pytest.mark.parametrize("entry", FORMATS.values(), ids=list(FORMATS))
def test_every_format_is_saved(entry, labels, tmp_path) -> None:
    path = tmp_path / f"saved{entry.suffixes[0]}"
    for _ in range(2):  # the second time it replaces the first
        assert labels.save(str(path)) == [str(path)]
        read_back(path)


def test_the_manifest_offers_every_format_under_its_names(manifest) -> None:
    offered = {entry["command"].rpartition("write_")[2]: entry for entry in manifest["writers"]}
    assert set(offered) == {name.replace("-", "_") for name in FORMATS}
    for name, chosen in FORMATS.items():
        entry = offered[name.replace("-", "_")]
        assert entry["filename_extensions"][0] == chosen.suffixes[0]
        assert set(entry["filename_extensions"]) <= set(chosen.suffixes)
        assert callable(getattr(writer, f"write_{name.replace('-', '_')}"))


def saved_areas(labels: Labels, path: Path) -> list[dict[str, str]]:
    labels.save(str(path))
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def test_the_rule_of_now_is_what_is_saved(labels, tmp_path) -> None:
    before = saved_areas(labels, tmp_path / "areas.csv")
    result_of(labels).set_rule(DecisionRule(default=1.0))
    assert saved_areas(labels, tmp_path / "areas.csv") != before


def test_what_was_corrected_by_hand_is_saved_where_it_is_shown(labels, tmp_path) -> None:
    shown = result_of(labels)
    box, found = labels_to_correct(shown.pm, Region(0, 0, shown.pm.size))
    correct(shown.pm, box, np.full_like(found, 2))
    predicted = saved_areas(labels, tmp_path / "areas.csv")
    shown.show_corrected(True)
    assert saved_areas(labels, tmp_path / "areas.csv") != predicted
    shown.show_corrected(False)
    assert saved_areas(labels, tmp_path / "areas.csv") == predicted


def test_the_whole_window_is_saved_from_its_menu(
    make_napari_viewer, qtbot, result, tmp_path, monkeypatch
) -> None:
    from qtpy.QtWidgets import QFileDialog

    viewer: Viewer = make_napari_viewer()
    viewer.open(result, plugin=PLUGIN)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=PATIENCE)
    viewer.layers.selection = {viewer.layers[-1]}

    def typed(*_, **options) -> tuple[str, str]:
        """As Qt's own dialog answers: the name as it was typed, and the filter chosen."""
        ours = next(one for one in options["filter"].split(";;") if "QuPath" in one)
        return str(tmp_path / "typed"), ours

    monkeypatch.setattr(QFileDialog, "getSaveFileName", typed)
    viewer.window._qt_viewer._save_layers_dialog(selected=True)
    read_back(tmp_path / "typed.geojson")


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("geojson", "a", "a.geojson"),
        ("geojson", "a.geojson.gz", "a.geojson.gz"),
        ("geojson", "case · he-stain 0.5", "case · he-stain 0.5.geojson"),
        ("ome-tiff", "a.tif", "a.ome.tif"),
        ("ome-tiff", "a.TIFF", "a.ome.tiff"),
        ("ome-zarr", "a.zarr", "a.zarr"),
        ("png", "a.PNG", "a.PNG"),
    ],
)
def test_the_format_has_its_suffix(name, given, expected) -> None:
    assert writer._target(name, given) == Path(expected)


def test_what_was_not_named_is_not_replaced(labels, tmp_path) -> None:
    labels.save(str(tmp_path / "a.csv"))
    written = (tmp_path / "a.csv").read_bytes()
    data, attributes, _ = labels.as_layer_data_tuple()
    with pytest.raises(ExportError, match=r"a\.csv"):
        writer.write_csv(str(tmp_path / "a"), data, attributes)
    assert (tmp_path / "a.csv").read_bytes() == written


def test_a_folder_of_others_is_not_replaced(labels, tmp_path) -> None:
    path = tmp_path / "a.ome.zarr"
    path.mkdir()
    (path / "mine").write_text("mine")
    with pytest.raises(ExportError, match="is no export"):
        labels.save(str(path))
    assert (path / "mine").read_text() == "mine"


def test_labels_that_are_not_ours_are_refused(tmp_path) -> None:
    npe2.PluginManager.instance().discover()
    path = tmp_path / "mine.geojson"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert Labels(np.ones((9, 9), np.uint8), name="mine").save(str(path)) == []
    assert "'mine' is no labels layer of a result" in str(caught[0].message)
    assert not path.exists()


def test_a_picture_needs_the_slide(labels, result, tmp_path) -> None:
    (tmp_path / "case.tif").unlink()
    with pytest.raises(SlideError, match="The slide case is needed too"):
        labels.save(str(tmp_path / "a.png"))
