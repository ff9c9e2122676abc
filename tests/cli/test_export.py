"""`export`, `measure` and `compare` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import napari_wsiseg as ws
from maps import SOFTMAX, STAIN, map_of
from napari_wsiseg.cli.app import run
from napari_wsiseg.notice import RESEARCH_USE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two results of one model, one of stains, and a folder that is none."""
    values = np.zeros((3, 40, 60))
    values[0, :, :20], values[1, :, 20:] = 0.8, 0.6
    map_of(values, SOFTMAX, path=tmp_path / "a.ome.zarr").close()
    map_of(values, SOFTMAX, path=tmp_path / "b.ome.zarr").close()
    densities = np.full((2, 40, 60), 0.1)
    densities[1, :10] = 0.2
    map_of(densities, STAIN, path=tmp_path / "stain.ome.zarr").close()
    (tmp_path / "foreign").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def areas(path):
    """Pixels by class, as an exported GeoJSON has them."""
    return {
        feature["properties"]["classification"]["name"]: feature["properties"]["measurements"][
            "Area µm^2 (predicted)"
        ]
        * 4
        for feature in json.loads(path.read_text())["features"]
    }


def test_one_result_goes_where_it_is_told(folder, capsys):
    assert run(["export", "a.ome.zarr", "-o", "out.geojson", "-t", "Tumour=0.9"]) == 0
    out, err = capsys.readouterr()
    assert out == f"geojson: out.geojson\n{RESEARCH_USE}\n"
    assert err == ""
    assert areas(folder / "out.geojson") == {"Stroma": 1600}


def test_several_results_go_beside_themselves_or_into_a_folder(folder, capsys):
    (folder / "out").mkdir()
    assert run(["export", "[ab].ome.zarr", "--format", "csv"]) == 0
    assert run(["export", "a.ome.zarr", "b.ome.zarr", "--format", "csv", "-o", "out"]) == 0
    for place in (folder, folder / "out"):
        assert {"a.csv", "b.csv"} <= {path.name for path in place.iterdir()}
    assert run(["export", "a.ome.zarr", "b.ome.zarr", "--format", "csv", "-o", "one.csv"]) == 2
    assert "cannot hold the exports of 2 results" in capsys.readouterr().err


_STRUCK = """
import os, signal, sys
from napari_wsiseg.cli import app, export
export._show = lambda *_: os.kill(os.getpid(), signal.Signals[sys.argv[1]])
sys.exit(app.run(["export", "a.ome.zarr"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_one_that_is_told_to_stop_leaves_nothing(folder, name):
    before = {path.name for path in folder.iterdir()}
    command = [sys.executable, "-c", _STRUCK, name]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (ended.returncode, ended.stderr) == (130, "Interrupted.\n")
    assert {path.name for path in folder.iterdir()} == before


def test_a_bad_result_does_not_stop_the_others(folder, capsys):
    assert run(["export", "foreign", "none.ome.zarr", "a.ome.zarr", "--classes", "Stroma"]) == 1
    _, err = capsys.readouterr()
    assert "foreign is no result" in err
    assert "There is no result at none.ome.zarr" in err
    (folder / "a.geojson").unlink()
    assert run(["export", "foreign"]) == 2
    assert run(["measure", "none-*"]) == 2
    assert "that none-* stands for" in capsys.readouterr().err
    (folder / "b.ome.zarr" / "state.json").write_text("{")
    assert run(["export", ".", "--classes", "Stroma"]) == 1
    out, err = capsys.readouterr()
    assert "a.geojson" in out
    assert "2 of 3 results failed:" in err
    assert "stains' has no class 'Stroma'" in err
    assert areas(folder / "a.geojson") == {"Stroma": 1600}


def test_thresholds_of_stains_are_optical_densities(folder, capsys):
    assert run(["export", "stain.ome.zarr", "-t", "DAB=0.3", "--classes", "DAB"]) == 0
    assert areas(folder / "stain.geojson") == {"DAB": 600}
    assert run(["export", "stain.ome.zarr", "-t", "DAB=2.5"]) == 2
    assert "give 0 to 2 (optical density)" in capsys.readouterr().err


def test_a_preset_is_taken_and_what_is_given_beside_it_wins(folder, capsys):
    ws.save_preset(ws.DecisionRule({"Tumour": 0.9, "Stroma": 0.7}), SOFTMAX, "lab.json")
    assert run(["export", "a.ome.zarr", "--preset", "lab.json", "-t", "Tumour=0.5"]) == 0
    assert areas(folder / "a.geojson") == {"Tumour": 800}
    assert run(["export", "stain.ome.zarr", "--preset", "lab.json"]) == 2
    assert "preset for model 'three'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--threshold", "Tumor=0.5"], "did you mean 'Tumour'?"),
        (["--threshold", "0.5"], "write it as CLASS=VALUE"),
        (["--threshold", "Tumour=much"], "give 0 to 1 (a probability)"),
        (["--threshold", "Tumour=nan"], "give 0 to 1"),
        (["--default-threshold", "1.5"], "--default-threshold 1.5 is out of range"),
        (["--min-area", "-1"], "Invalid value for '--min-area'"),
        (["--smooth", "nan"], "smooth"),
        (["--simplify", "-0.5"], "Invalid value for '--simplify'"),
        (
            ["--per", "object", "--format", "csv"],
            "not for csv, but for geojson and annotation-store",
        ),
        (["--format", "png"], "with --slide FILE"),
        (["--smooth", "1e6"], "give at most"),
        (["--format", "shapefile"], "there are geojson"),
        (["--size", "300"], "--size is not for geojson, but for png"),
        (["--alias", "Tumour"], "write it as CLASS=VALUE"),
        (["--origin", "corner"], "origin cannot be 'corner'"),
        (["--preset", "none.json"], "none.json cannot be read"),
        (["-o", "none/a.geojson"], "There is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_are_one_sentence(folder, capsys, options, complaint):
    before = sorted(folder.iterdir())
    assert run(["export", "a.ome.zarr", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert complaint in err
    assert err.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_the_picture_needs_the_slide(folder, capsys, slide):
    assert run(["export", "a.ome.zarr", "--format", "png"]) == 2
    assert "slide" in capsys.readouterr().err
    assert run(["export", "a.ome.zarr", "--format", "png", "--slide", str(slide)]) == 2
    assert "is not the slide that the result was made from" in capsys.readouterr().err


def test_aliases_and_qupaths_names(folder):
    assert run(["export", "a.ome.zarr", "--alias", "Stroma=Bindegewebe"]) == 0
    assert set(areas(folder / "a.geojson")) == {"Tumour", "Bindegewebe"}
    assert run(["export", "b.ome.zarr", "--alias", "qupath"]) == 0
    assert set(areas(folder / "b.geojson")) == {"Tumor", "Stroma"}


def test_measure_takes_the_same_options(folder, capsys):
    arguments = ["measure", "a.ome.zarr", "b.ome.zarr", "-t", "Tumour=0.9", "--csv", "all.csv"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "Unclassified tissue" in out
    assert RESEARCH_USE in out
    assert (folder / "all.csv").read_text().count('\n"b"') >= 3
    assert run(arguments) == 2
    assert "is there already" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"]) == 0


def test_compare_takes_annotations(folder, capsys):
    ring = [[0, 0], [30, 0], [30, 40], [0, 40], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "Tumor"}},
    }
    (folder / "annotations.geojson").write_text(json.dumps(feature))
    assert run(["compare", "a.ome.zarr", "annotations.geojson", "-o", "."]) == 0
    assert "Dice" in capsys.readouterr().out
    assert list(folder.glob("*.png"))
    assert run(["compare", "a.ome.zarr", "none.geojson"]) == 2
