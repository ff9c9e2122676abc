"""The table of areas: read back by others, cell by cell."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_wsiseg as ws
from maps import SIGMOID, SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.csv import (
    COLUMNS,
    CsvWriter,
    csv_block,
    table_of,
    write_csv,
)
from napari_wsiseg.export.provenance import encodable
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.export.table import check_table, write_table
from napari_wsiseg.geometry import YX
from napari_wsiseg.labels import Cleanup, DecisionRule, LabelMap
from napari_wsiseg.measure import NOT_ANALYSED, TOTAL, UNCLASSIFIED, measure
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.regions import NamedRegion, named
from napari_wsiseg.spec import ModelSpec

MADE_FROM = {"slide": {"stem": "slide 1", "fingerprint": "abc"}}


def a_map(spec=SOFTMAX, seed=0, **options):
    rng = np.random.default_rng(seed)
    covered = rng.random((40, 60)) < 0.8
    probabilities = rng.random((len(spec.classes), 40, 60))
    return map_of(probabilities, spec, coverage=covered, **{"provenance": MADE_FROM} | options)


def request_of(pm, rule=DecisionRule(), cleanup=None, codes=None, names=None):  # noqa: B008
    labels = LabelMap(pm, rule, cleanup)
    codes = codes or tuple(code for layer in labels.layers for code in layer)
    names = names or {code: pm.spec.classes[code - 1] for code in codes}
    return ExportRequest(labels, codes, names, "slide")


def written(path, request, regions=None):
    steps = list(CsvWriter(regions).write(request, path, path.with_name("target.csv")))
    assert [step.stage for step in steps[-2:]] == ["writing", "checking"]
    return read(path)


def read(path):
    """The head without its "# ", and the rows by title."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    head = [line[2:].rstrip("\n") for line in lines if line.startswith("# ")]
    assert lines[: len(head)] == [f"# {line}\n" for line in head]
    assert not any("\r" in line for line in lines)
    rows = list(csv.DictReader(lines[len(head) :]))
    return head, rows


@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID])
def test_the_rows_are_what_was_measured(tmp_path, spec):
    pm, rule = a_map(spec), DecisionRule(default=0.6)
    head, rows = written(tmp_path / "a.csv", request_of(pm, rule))
    areas = measure(pm, rule)
    assert tuple(rows[0]) == COLUMNS
    assert [row["class"] for row in rows] == [row.name for row in areas.rows]
    for found, row in zip(rows, areas.rows, strict=True):
        assert int(found["pixels"]) == row.pixels
        assert float(found["area_mm2"]) == pytest.approx(row.area_mm2, rel=1e-11)
        is_class = row.name in spec.classes
        assert (found["threshold"], found["threshold_unit"]) == (
            ("0.6", "probability") if is_class else ("", "")
        )
        if row.fraction is None:
            assert found["percent_of_analysed_tissue"] == ""
        else:
            percent = float(found["percent_of_analysed_tissue"])
            assert percent == pytest.approx(100 * row.fraction, rel=1e-11)
        assert (found["slide"], found["fingerprint"]) == ("slide 1", "abc")
        assert (found["region"], found["region_class"]) == ("", "")
        assert (found["model"], found["mpp"], found["mpp_source"], found["status"]) == (
            spec.name,
            "0.5",
            "metadata",
            "complete",
        )
    notice, made = head
    assert notice == RESEARCH_USE
    made = json.loads(made)
    assert made["slide"] == {"stem": "slide 1", "fingerprint": "abc"}
    assert made["thresholds"] == dict.fromkeys(spec.classes, 0.6)
    assert str(tmp_path) not in head[1]


def test_stains_are_in_optical_density(tmp_path):
    _, rows = written(tmp_path / "a.csv", request_of(a_map(STAIN)))
    assert [(row["threshold"], row["threshold_unit"]) for row in rows[:2]] == [
        ("0.1", "optical density"),
        ("0.25", "optical density"),
    ]


def test_cleaned_labels_are_measured(tmp_path):
    pm, cleanup = a_map(), Cleanup(min_object_um2=3)
    request = request_of(pm, cleanup=cleanup)
    head, rows = written(tmp_path / "a.csv", request)
    request.labels.close()
    expected = measure(pm, cleanup=cleanup)
    assert [int(row["pixels"]) for row in rows] == [row.pixels for row in expected.rows]
    assert expected.rows != measure(pm).rows
    assert json.loads(head[1])["cleanup"]["min_object_um2"] == 3


def test_regions_are_rows_and_what_is_excluded_is_left_out(tmp_path):
    pm = a_map()
    front = NamedRegion("Front", "Tumor", shapely.box(0, 0, 30, 40))
    fold = NamedRegion("Fold", "exclude", shapely.box(0, 0, 10, 40))
    back = NamedRegion("Back", None, shapely.box(30, 0, 60, 40))
    _, rows = written(tmp_path / "a.csv", request_of(pm), (front, fold, back))
    assert [(row["region"], row["region_class"], row["class"]) for row in rows] == [
        (name, kind, row)
        for name, kind in (("Front", "Tumor"), ("Back", ""))
        for row in (*SOFTMAX.classes, UNCLASSIFIED, NOT_ANALYSED, TOTAL)
    ]
    assert [int(row["pixels"]) for row in rows if row["class"] == TOTAL] == [20 * 40, 30 * 40]


def test_classes_left_out_and_renamed(tmp_path):
    names = {1: "Tumor", 3: "Rest"}
    _, rows = written(tmp_path / "a.csv", request_of(a_map(), codes=(1, 3), names=names))
    plain = measure(a_map())
    assert [(row["class"], int(row["pixels"])) for row in rows] == [
        ("Tumor", plain["Tumour"].pixels),
        ("Rest", plain["Other"].pixels),
        *((name, plain[name].pixels) for name in (UNCLASSIFIED, NOT_ANALYSED, TOTAL)),
    ]


def test_without_scale_without_coverage_without_a_name(tmp_path):
    pm = a_map(mpp=None, provenance={}, path=tmp_path / "my slide.ome.zarr")
    _, rows = written(tmp_path / "a.csv", request_of(pm))
    assert {(row["area_mm2"], row["mpp"], row["mpp_source"]) for row in rows} == {("", "", "")}
    assert {(row["slide"], row["fingerprint"]) for row in rows} == {("my slide", "")}
    nothing = map_of(np.ones((3, 9, 9)), SOFTMAX, coverage=np.zeros((9, 9), bool))
    _, rows = written(tmp_path / "b.csv", request_of(nothing))
    assert [row["pixels"] for row in rows] == ["0", "0", "0", "0", "81", "81"]
    assert {row["percent_of_analysed_tissue"] for row in rows} == {""}


def test_pixels_that_are_not_square(tmp_path):
    _, rows = written(tmp_path / "a.csv", request_of(a_map(mpp=YX(0.5, 0.125))))
    for row in rows:
        area = int(row["pixels"]) * float(row["mpp"]) ** 2 / 1e6
        assert float(row["area_mm2"]) == pytest.approx(area)
    assert rows[0]["mpp"] == "0.25"


ANY_TEXT = st.text(st.characters(), min_size=1, max_size=20)


@settings(max_examples=40)
@given(ANY_TEXT, ANY_TEXT)
def test_any_name_survives_and_none_is_a_formula(tmp_path_factory, name, kind):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    spec = ModelSpec("=HYPERLINK()", ("@SUM", "-1 # 2", 'a, "b"'))
    region = NamedRegion(name, kind, shapely.box(0, 0, 9, 9))
    pm = map_of(np.ones((3, 9, 9)), spec, provenance={"slide": {"stem": "+1\r\n2"}})
    path.unlink(missing_ok=True)
    table = table_of([csv_block(request_of(pm), measure(pm, regions=[region]))])
    write_table(path, *table)
    check_table(path, *table, path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(line for line in file if not line.startswith("# ")))
    assert [row[4] for row in rows[1:4]] == ["'@SUM", "'-1 # 2", 'a, "b"']
    assert (rows[1][0], rows[1][10]) == ("'+1 2", "'=HYPERLINK()")
    for cell, text in ((rows[1][2], encodable(name)), (rows[1][3], encodable(kind))):
        plain = cell[1:] if text[0] in "=+-@" else cell
        assert not cell.startswith(("=", "+", "-", "@"))
        assert plain == text or any(ord(letter) < 32 or ord(letter) == 127 for letter in text)


def test_many_results_in_one_file(tmp_path):
    maps = [a_map(seed=seed, provenance={"slide": {"stem": f"s{seed}"}}) for seed in range(3)]
    regions = named([((0.0, 0.0), (0.0, 30.0), (20.0, 30.0))])
    blocks = [csv_block(request_of(pm), measure(pm, regions=regions)) for pm in maps]
    path = tmp_path / "all.csv"
    write_csv(path, blocks, overwrite=False)
    head, rows = read(path)
    assert [json.loads(line)["slide"]["stem"] for line in head[1:]] == ["s0", "s1", "s2"]
    assert [row["slide"] for row in rows] == [f"s{i}" for i in range(3) for _ in range(6)]
    with pytest.raises(ExportError, match="there already"):
        write_csv(path, blocks, overwrite=False)
    assert [file.name for file in tmp_path.iterdir()] == ["all.csv"]


def test_estimates_are_refused():
    pm = a_map()
    with pytest.raises(ExportError, match="estimate"):
        csv_block(request_of(pm), [measure(pm, estimate=True)])


def test_a_file_that_reads_back_otherwise_is_an_error(tmp_path):
    pm, path = a_map(), tmp_path / "a.csv"
    block = csv_block(request_of(pm), [measure(pm)])
    write_table(path, *table_of([block]))
    whole = path.read_text(encoding="utf-8")
    for broken in (
        whole[: whole.rindex(",")],
        whole.replace("Stroma", "Strom"),
        whole.replace("#", "", 1),
        "",
    ):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(ExportError, match=r"target\.csv did not read back"):
            check_table(path, *table_of([block]), tmp_path / "target.csv")


def test_unknown_options():
    with pytest.raises(ExportError, match="no field 'region'"):
        CsvWriter(region=1)
    with pytest.raises(ExportError, match="regions"):
        CsvWriter(regions=[(1, 2)])


def test_by_name_as_the_library_does_it(tmp_path):
    pm = a_map()
    path = ws.export(pm, tmp_path / "a.csv", format="csv", classes=["Stroma"])
    _, rows = read(path)
    assert [row["class"] for row in rows] == ["Stroma", UNCLASSIFIED, NOT_ANALYSED, TOTAL]
    assert math.isclose(float(rows[0]["area_mm2"]), measure(pm)["Stroma"].area_mm2)
