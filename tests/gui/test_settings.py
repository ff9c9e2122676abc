"""The plugin's settings live in napari's, and no damage to them is felt."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from napari import settings as napari_settings
from npe2 import PluginManager

from napari_wsiseg._napari.dock import SegmentDock
from napari_wsiseg._napari.settings import Settings, default_output_folder, read_settings, remember
from napari_wsiseg.export.formats import FORMATS


@pytest.fixture
def stored(monkeypatch) -> Path:
    """The file that napari keeps the settings in."""
    PluginManager.instance().discover()
    return Path(napari_settings._CFG_PATH).parent / "napari-wsiseg.yaml"


def restart() -> None:
    napari_settings._clear_plugin_settings_cache()


def test_the_defaults_are_the_manifests(stored) -> None:
    assert read_settings() == Settings()
    assert read_settings().output_folder == default_output_folder()


def test_what_is_remembered_is_there_the_next_time(stored, tmp_path) -> None:
    changed = Settings(
        output_folder=tmp_path,
        memory_threshold=50,
        device="cpu",
        offline=True,
        stain="H-DAB",
        model="tissue",
        export_format="csv",
        slide_folder=tmp_path / "slides",
        asked_for_slides=True,
    )
    default = Settings()
    assert all(getattr(changed, f.name) != getattr(default, f.name) for f in fields(Settings))
    remember(**{f.name: getattr(changed, f.name) for f in fields(Settings)})
    restart()
    assert read_settings() == changed
    assert stored.exists()


def test_what_is_out_of_range_is_not_kept(stored, caplog) -> None:
    remember(memory_threshold=500, stain="blue", device="cpu")
    assert read_settings() == Settings(device="cpu")
    assert "memory_threshold" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "runs: {memory_threshold: lots, stain: 7, device: cpu}",
        "runs: {memory_threshold: -1, device: cpu}",
        "runs: {output_folder: [1, 2], device: cpu}",
    ],
)
def test_a_damaged_value_counts_as_its_default(stored, text) -> None:
    stored.write_text(text, encoding="utf-8")
    restart()
    assert read_settings() == Settings(device="cpu")


@pytest.mark.parametrize("text", ["", "runs: nothing", "runs: [", "\0\0", "- a list"])
def test_a_damaged_file_counts_as_none(stored, text) -> None:
    stored.write_text(text, encoding="utf-8")
    restart()
    assert read_settings() == Settings()
    remember(device="cpu")  # whether or not napari can keep it


def test_without_the_manifest_there_are_defaults(monkeypatch) -> None:
    def unknown(_):
        raise KeyError("napari-wsiseg")

    monkeypatch.setattr("napari_wsiseg._napari.settings.get_plugin_settings", unknown)
    remember(device="cpu")
    assert read_settings() == Settings()


def test_the_manifest_knows_what_the_code_knows(root) -> None:
    text = (root / "src" / "napari_wsiseg" / "napari.yaml").read_text(encoding="utf-8")
    groups = yaml.safe_load(text)["contributions"]["configurations"]
    known = {
        name: entry for group in groups.values() for name, entry in group["properties"].items()
    }
    assert set(known) == {f.name for f in fields(Settings)}
    assert known["export_format"]["enum"] == list(FORMATS)


def test_the_dock_begins_as_it_was_left(make_napari_viewer, stored) -> None:
    remember(stain="H-DAB", export_format="csv", memory_threshold=40, model="")
    dock = SegmentDock(make_napari_viewer())
    assert (dock.panel.stain, dock.panel.model) == ("H-DAB", "hdab-stain")
    assert dock.export_section.format.value == "csv"
    assert not dock.export_section.per.isVisibleTo(dock)
    assert dock.memory_section.slider.value() == 40
    dock.model_section.model_chosen.emit("tissue")
    dock.close_all()
    assert read_settings().model == "tissue"
    remember(model="fcn_resnet50_unet-bcss")  # whose weights are not here
    dock = SegmentDock(make_napari_viewer())
    assert dock.panel.model == "hdab-stain"
    dock.close_all()
