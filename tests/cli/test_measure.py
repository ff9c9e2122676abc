"""`measure` as a user meets it: what is printed, what is written, how it ends."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest

import napari_wsiseg as ws
from maps import SOFTMAX, STAIN, map_of
from napari_wsiseg.cli.app import run
from napari_wsiseg.cli.measure import measure_results
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import MODELS_OWN, Cleanup
from napari_wsiseg.measure import TOTAL
from napari_wsiseg.notice import RESEARCH_USE


@pytest.fixture
def make(tmp_path):
    """Write a result: name -> its folder."""

    def make(name, spec=SOFTMAX, *, covered=None, mpp=YX(0.5, 0.5), seed=0):  # noqa: B008
        rng = np.random.default_rng(seed)
        path = tmp_path / f"{name}.ome.zarr"
        made_from = {"slide": {"stem": name, "fingerprint": f"print of {name}"}}
        probabilities = rng.random((len(spec.classes), 60, 80))
        options = {"mpp": mpp, "downsample": YX(2.0, 2.0), "coverage": covered}
        map_of(probabilities, spec, path=path, provenance=made_from, **options).close()
        return path

    return make


def geojson(path, **regions):
    """name=(kind, left, top, right, bottom)."""
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x, y], [x2, y], [x2, y2], [x, y2], [x, y]]],
            },
            "properties": {
                "name": name,
                "classification": None if kind is None else {"name": kind, "color": [1, 2, 3]},
            },
        }
        for name, (kind, x, y, x2, y2) in regions.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def rows_of(text):
    """The printed tables' cells by the first."""
    split = (re.split(" {2,}", line.strip()) for line in text.splitlines())
    return [cells for cells in split if len(cells) > 1]


def table(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_one_result(make, capsys):
    path = make("a")
    assert run(["measure", str(path)]) == 0
    out, err = capsys.readouterr()
    with ws.ProbabilityMap.open(path) as pm:
        areas = ws.measure(pm)
    title, *rows = rows_of(out)
    assert title == ["Class", "Pixels", "mm²", "% of analysed tissue"]
    assert [row[:2] for row in rows] == [[row.name, f"{row.pixels:,}"] for row in areas.rows]
    lines = out.splitlines()
    assert lines[0] == f"Result: {path}"
    assert "mm² at 0.5 µm/px; the slide's scale is from the file." in lines
    assert lines[-1] == RESEARCH_USE
    assert err == ""


def test_small_areas_are_not_nothing(make, capsys):
    path = make("a")
    with ws.ProbabilityMap.open(path) as pm:
        areas = {t: ws.measure(pm, ws.DecisionRule({"Tumour": t}))["Tumour"] for t in (0, 0.99)}
    assert 0 < areas[0.99].area_mm2 < 0.0005
    for threshold, area in areas.items():
        assert run(["measure", str(path), "--threshold", f"Tumour={threshold}"]) == 0
        (tumour,) = (row for row in rows_of(capsys.readouterr().out) if row[0] == "Tumour")
        assert float(tumour[2]) == pytest.approx(area.area_mm2, rel=0.01)


def test_a_stain_is_read_out(make, capsys):
    assert run(["measure", str(make("a", STAIN))]) == 0
    assert "DAB-positive area 8" in capsys.readouterr().out
    assert run(["measure", str(make("b", STAIN)), "--threshold", "DAB=1", "--min-area", "1"]) == 0
    dab = capsys.readouterr().out
    assert "at DAB OD >= 1.00; mean" in dab
    assert "at 0.95-1.05" not in dab


def test_without_a_scale(make, capsys):
    path = make("a", mpp=None)
    assert run(["measure", str(path)]) == 0
    out = capsys.readouterr().out
    assert "mm²" not in out
    assert "Scale unknown: areas are in pixels and %." in out
    assert run(["measure", str(path), "--min-area", "5"]) == 2
    assert "no scale" in capsys.readouterr().err


def test_regions_by_name_and_class(make, tmp_path, capsys):
    path = make("a")
    shapes = geojson(
        tmp_path / "r.geojson",
        Front=("Tumor", 0, 0, 80, 120),
        Back=(None, 80, 0, 160, 120),
        Fold=("Exclude", 0, 0, 40, 120),
    )
    assert run(["measure", str(path), "--regions", str(shapes)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert f"Regions: {shapes}, in pixels from the slide's corner, as in QuPath." in lines
    assert [line for line in lines if line in ("Front (Tumor)", "Back", "Fold (Exclude)")] == [
        "Front (Tumor)",
        "Back",
    ]
    assert [row[1] for row in rows_of(out) if row[0] == TOTAL] == ["1,200", "2,400"]


def test_a_table_of_many_results(make, tmp_path, capsys):
    paths = [make(name, seed=seed) for seed, name in enumerate("abc")]
    folder = tmp_path / "regions"
    folder.mkdir()
    for number, name in enumerate("abc", 1):
        geojson(folder / f"{name}.geojson", Here=(None, 0, 0, 20 * number, 20))
    target = tmp_path / "t.csv"
    command = ["measure", *map(str, paths), "--regions", str(folder), "--csv", str(target)]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert out.count(RESEARCH_USE) == 1
    assert f"Table: {target}" in err
    found = [(row["slide"], row["region"], row["pixels"]) for row in table(target)[5::6]]
    assert found == [("a", "Here", "100"), ("b", "Here", "200"), ("c", "Here", "300")]
    assert run(command) == 2
    assert "there already" in capsys.readouterr().err
    assert run([*command, "--overwrite"]) == 0


def test_a_bad_result_does_not_stop_the_others(make, tmp_path, capsys):
    good, other = make("a"), make("c")
    broken = make("b")
    (broken / "0" / "c" / "0" / "0" / "1").write_bytes(b"nothing of ours")
    target = tmp_path / "t.csv"
    paths = [good, broken, other]
    assert run(["measure", *map(str, paths), "--csv", str(target)]) == 1
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if line.startswith("Result")] == [
        f"Result: {good}",
        f"Result: {other}",
    ]
    assert "1 of 3 results failed:" in err
    assert f"  {broken}: The map cannot be read" in err
    assert [row["slide"] for row in table(target)] == ["a"] * 6 + ["c"] * 6
    assert run(["measure", str(broken), "--csv", str(tmp_path / "none.csv")]) == 2
    assert not (tmp_path / "none.csv").exists()


def test_a_slide_without_its_regions(make, tmp_path, capsys):
    paths = [make("a"), make("b")]
    geojson(tmp_path / "a.geojson", Here=(None, 0, 0, 20, 20))
    assert run(["measure", *map(str, paths), "--regions", str(tmp_path)]) == 1
    assert f"There is no b.geojson in {tmp_path}; name it" in capsys.readouterr().err
    assert run(["measure", str(paths[0]), "--regions", str(tmp_path / "no.geojson")]) == 2
    assert "no.geojson cannot be read" in capsys.readouterr().err


def test_a_class_that_the_model_does_not_have(make, capsys):
    assert run(["measure", str(make("a")), "--threshold", "Tumor=0.5"]) == 2
    assert "did you mean 'Tumour'?" in capsys.readouterr().err


def test_json(make, tmp_path, capsys):
    path = make("a")
    assert run(["measure", str(path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    with ws.ProbabilityMap.open(path) as pm:
        areas = ws.measure(pm)
    assert [area["pixels"] for area in values["areas"]] == [row.pixels for row in areas.rows]
    assert (values["slide"], values["status"], values["notice"]) == ("a", "complete", RESEARCH_USE)
    shapes = geojson(tmp_path / "r.geojson", Front=("Tumor", 0, 0, 80, 120))
    assert run(["measure", str(path), "--json", "--regions", str(shapes)]) == 0
    values = json.loads(capsys.readouterr().out)
    assert "areas" not in values
    (region,) = values["regions"]
    assert (region["name"], region["class"]) == ("Front", "Tumor")
    assert region["areas"][-1]["pixels"] == 2400


def test_qupath_begins_at_the_corner_of_the_scanned_part(make, tmp_path, capsys, monkeypatch):
    """Annotations are drawn on the cropped slide; the map is of the whole one."""
    covered = np.zeros((60, 80), bool)
    covered[20:30, 40:60] = True
    path = make("a", covered=covered)
    bounds = Region(40, 80, Size(80, 80))
    monkeypatch.setattr(ws.ProbabilityMap, "slide_bounds", property(lambda self: bounds))
    shapes = geojson(tmp_path / "r.geojson", Drawn=(None, 0, 0, 40, 20))
    assert run(["measure", str(path), "--regions", str(shapes)]) == 0
    out = capsys.readouterr().out
    assert "corner of the scanned part, x 80, y 40 on the slide, as in QuPath" in out
    rows = {row[0]: row[1] for row in rows_of(out)}
    assert (rows[TOTAL], rows["Not analysed"]) == ("200", "0")


def test_failed_patches_and_unfinished_runs_are_said(make, capsys):
    path = make("a")
    state = json.loads((path / "state.json").read_text())
    state["status"] = "cancelled"
    (path / "state.json").write_text(json.dumps(state))
    assert run(["measure", str(path)]) == 0
    assert re.search(r"It is cancelled: \d+ of \d+ chunks are finished\.", capsys.readouterr().out)


def test_it_says_what_went_wrong_inside(make, capsys):
    def no_rule(spec):
        raise ZeroDivisionError("oh")

    assert measure_results([make("a")], no_rule, Cleanup()) == 1
    assert "Unexpected ZeroDivisionError: oh" in capsys.readouterr().err
    assert measure_results([make("b")], lambda spec: replace(MODELS_OWN), Cleanup()) == 0


def test_corrected_labels(make, capsys, tmp_path):
    path, plain = make("a"), make("b")
    with ws.ProbabilityMap.open(path) as pm:
        ws.correct(pm, Region(0, 0, Size(30, 40)), np.full((30, 40), 2))
        areas, (correction,) = ws.measure(pm, corrected=True), ws.corrections(pm)
    assert run(["measure", str(path), "--corrected", "--csv", str(tmp_path / "t.csv")]) == 0
    out = capsys.readouterr().out
    assert rows_of(out)[2][:2] == ["Stroma", f"{areas['Stroma'].pixels:,}"]
    assert f"Labels corrected by hand: {correction.pixels} pixels, last on 20" in out
    assert int(table(tmp_path / "t.csv")[1]["pixels"]) == areas["Stroma"].pixels
    assert run(["measure", str(path), "--corrected", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["corrections"] == [correction.json()]
    assert run(["measure", str(path)]) == 0
    assert "by hand" not in capsys.readouterr().out
    assert run(["measure", str(plain), "--corrected"]) == 2
    assert "nothing was corrected" in capsys.readouterr().err
    target = tmp_path / "c.geojson"
    assert run(["export", str(path), "--corrected", "-o", str(target)]) == 0
    assert "(corrected)" in target.read_text()


@pytest.mark.parametrize("verb", ["measure", "export"])
@pytest.mark.parametrize(
    "option", [["-t", "Tumour=0.5"], ["--default-threshold", "0.5"], ["--preset", "p.json"]]
)
def test_corrected_labels_have_their_thresholds(make, capsys, verb, option):
    assert run([verb, str(make("a")), "--corrected", *option]) == 2
    assert "--corrected takes labels that are there" in capsys.readouterr().err
