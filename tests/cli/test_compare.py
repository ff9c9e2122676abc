"""`compare` as a user meets it: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from maps import SIGMOID, SOFTMAX, map_of
from napari_wsiseg.cli.compare import compare_result
from napari_wsiseg.errors import ExportError, JobError, StoreError
from napari_wsiseg.labels import MODELS_OWN, DecisionRule
from napari_wsiseg.measure.agreement import OTHER_SLIDES
from napari_wsiseg.measure.words import in_digits
from napari_wsiseg.notice import RESEARCH_USE


def box(kind, left, top, right, bottom):
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": kind, "color": [200, 0, 0]},
        },
    }


def left_and_right(folder, spec=SOFTMAX, **options):
    """A result whose left half is its first class, and the right half its second."""
    values = np.zeros((len(spec.classes), 20, 40), np.float32)
    values[0, :, :20], values[1, :, 20:] = 0.8, 0.6
    path = folder / "slide.ome.zarr"
    map_of(values, spec, path=path, **options).close()
    return path


@pytest.fixture
def compare(tmp_path):
    """Compare a result with features: (result, *features, ...) -> exit status."""

    def start(result, *features, rule=MODELS_OWN, aliases=None, output=None, **options):
        annotations = tmp_path / "drawn.geojson"
        annotations.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        options = {"overwrite": False, "as_json": False} | options
        return compare_result(result, annotations, lambda _: rule, aliases or {}, output, **options)

    return start


def words(capsys):
    """What was printed, with single spaces."""
    printed, errors = capsys.readouterr()
    assert errors == ""
    return " ".join(printed.split())


HALVES = [box("Tumor", 0, 0, 10, 20), box("stroma", 10, 0, 40, 20)]


class TestTables:
    def test_exclusive_classes(self, compare, tmp_path, capsys):
        rule = DecisionRule({"Stroma": 0.37})
        assert compare(left_and_right(tmp_path), *HALVES, rule=rule) == 0
        text = words(capsys)
        assert text.startswith("Annotations: Tumour 1, Stroma 1; 0.0002 mm² (800 px) compared.")
        # 200 px of 400 predicted, and 400 of 600.
        mm2 = {pixels: in_digits(pixels * 0.25 / 1e6) for pixels in (200, 400, 600)}
        assert f"Tumour 0.00 0.667 0.500 1.000 {mm2[200]} {mm2[400]} +{mm2[200]} +25.0" in text
        assert f"Stroma 0.37 0.800 1.000 0.667 {mm2[600]} {mm2[400]} -{mm2[200]} -25.0" in text
        assert "Other 0.00 - - - 0 0 0 +0.0" in text
        assert "Stroma 200 400 0 0" in text
        assert "Same label: 75.0 % of the compared pixels; Cohen's kappa 0.500." in text
        assert "mm² at 0.5 µm/px; the slide's scale is from the file." in text

    def test_sweep(self, compare, tmp_path, capsys):
        rule = DecisionRule({"Stroma": 0.37, "Tumour": 0.9})
        compare(left_and_right(tmp_path), *HALVES, rule=rule)
        text = words(capsys)
        assert "Threshold Dice Tumour Dice Stroma 0.05 best 0.667 0.800" in text
        # A threshold in use that is no step has a row of its own, with a figure for its class.
        assert "0.37 in use, best 0.800" in text
        assert "0.80 0.667 0.000" in text
        assert "0.90 in use 0.000 0.000" in text

    def test_independent_classes(self, compare, tmp_path, capsys):
        features = [box("Nuclei", 0, 0, 20, 20), box("Region*", 0, 0, 30, 20)]
        compare(left_and_right(tmp_path, SIGMOID), *features)
        text = words(capsys)
        assert "Annotations: Nuclei 1, in 1 region;" in text
        assert "Nuclei 400 0 0 200" in text
        assert "Glands 0 0 200 400" in text
        assert "kappa" not in text

    def test_without_a_scale(self, compare, tmp_path, capsys):
        compare(left_and_right(tmp_path, mpp=None), *HALVES)
        text = words(capsys)
        assert "Tumour 0.00 0.667 0.500 1.000 200 400 +200 +25.0" in text
        assert "Scale unknown" in text
        assert "mm²" not in text


class TestHonesty:
    def test_what_must_be_read(self, compare, tmp_path, capsys):
        compare(left_and_right(tmp_path), HALVES[0], box("Fat", 0, 0, 9, 9))
        text = words(capsys)
        assert OTHER_SLIDES in text
        assert text.endswith(RESEARCH_USE)
        assert "Only Tumour is annotated" in text
        assert "1 of class 'Fat'" in text

    @pytest.mark.parametrize("as_json", [False, True])
    def test_the_scanned_parts_corner_is_added_and_told(self, compare, tmp_path, capsys, as_json):
        path = left_and_right(tmp_path)
        head = json.loads((path / "zarr.json").read_text())
        # Top, left, height and width of what was scanned.
        head["attributes"]["napari_wsiseg"]["slide_bounds"] = [5, 10, 15, 30]
        (path / "zarr.json").write_text(json.dumps(head))
        compare(path, box("Tumour", 0, 0, 10, 15), box("Region*", 0, 0, 30, 15), as_json=as_json)
        text = words(capsys)
        if as_json:
            values = json.loads(text)
            assert values["offset"] == [5, 10]
            assert values["classes"][0]["dice"] == 1
        else:
            assert "x 10, y 5 were added" in text
            assert "Tumour 0.00 1.000 1.000 1.000" in text

    def test_no_offset_no_word(self, compare, tmp_path, capsys):
        compare(left_and_right(tmp_path), *HALVES)
        assert "were added" not in words(capsys)


def test_json(compare, tmp_path, capsys):
    compare(left_and_right(tmp_path), *HALVES, output=tmp_path / "out", as_json=True)
    values = json.loads(capsys.readouterr().out)
    assert values["model"] == "three"
    assert values["evaluated_pixels"] == 800
    assert values["kappa"] == pytest.approx(0.5)
    assert values["confusion"]["Stroma"]["Tumour"] == 200
    tumour = values["classes"][0]
    assert (tumour["name"], tumour["dice"]) == ("Tumour", pytest.approx(2 / 3))
    assert tumour["reference_mm2"] == pytest.approx(200 * 0.25 / 1e6)
    assert len(tumour["sweep"]) == 20
    assert values["classes"][2]["dice"] is None
    assert values["notice"] == RESEARCH_USE
    assert OTHER_SLIDES in values["remarks"]
    assert len(values["files"]) == 3


class TestFiles:
    def test_tables_and_plot(self, compare, tmp_path, capsys):
        compare(left_and_right(tmp_path), *HALVES, output=tmp_path / "out")
        names = ["slide-agreement.csv", "slide-sweep.csv", "slide-sweep.png"]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
        text = words(capsys)
        for name in names:
            assert f"Written: {tmp_path / 'out' / name}" in text

    def test_existing_files_stop_it_before_any_work(self, compare, tmp_path, capsys):
        result, out = left_and_right(tmp_path), tmp_path / "out"
        out.mkdir()
        (out / "slide-sweep.png").write_text("mine")
        # The annotations would be refused too, but later.
        with pytest.raises(ExportError, match="is there already"):
            compare(result, box("Fat", 0, 0, 9, 9), output=out)
        assert [path.name for path in out.iterdir()] == ["slide-sweep.png"]
        assert compare(result, *HALVES, output=out, overwrite=True) == 0
        assert len(list(out.iterdir())) == 3


def test_aliases(compare, tmp_path, capsys):
    compare(left_and_right(tmp_path), box("Nest", 0, 0, 20, 20), aliases={"Nest": "Tumour"})
    assert "Annotations: Tumour 1;" in words(capsys)


def test_bad_input_is_one_sentence(compare, tmp_path, capsys):
    result = left_and_right(tmp_path)
    for kind, error, message in (
        ("Tumeur", JobError, "Tumeur=Tumour"),
        (None, JobError, "no class at all"),
    ):
        with pytest.raises(error, match=message):
            compare(result, box(kind, 0, 0, 9, 9))
    with pytest.raises(JobError, match="'Fat'"):
        compare(result, *HALVES, rule=DecisionRule({"Fat": 0.5}))
    with pytest.raises(StoreError):
        compare(tmp_path / "none.ome.zarr", *HALVES)
    with pytest.raises(JobError, match=r"none\.geojson cannot be read"):
        compare_result(
            result,
            tmp_path / "none.geojson",
            lambda _: MODELS_OWN,
            {},
            None,
            overwrite=False,
            as_json=False,
        )
    assert capsys.readouterr().out == ""
