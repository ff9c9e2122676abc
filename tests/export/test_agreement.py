"""What an agreement leaves on disk: tables that other programs read, and a legible picture."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from shapely import box

from maps import SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.agreement import check_agreement, write_agreement
from napari_wsiseg.export.sweep_plot import sweep_figure
from napari_wsiseg.labels import DecisionRule
from napari_wsiseg.measure.agreement import OTHER_SLIDES, agreement
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.regions import NamedRegion
from napari_wsiseg.spec import ModelSpec

NAMES = ["a-agreement.csv", "a-sweep.csv", "a-sweep.png"]
RULE = DecisionRule({"Tumour": 0.62})


def drawn(kind, *bounds):
    return NamedRegion("", kind, box(*bounds))


def some_map(spec=SOFTMAX, **options):
    """A map on which figures differ from each other, and what was drawn on it."""
    random = np.random.default_rng(0)
    values = random.random((len(spec.classes), 40, 60))
    if spec.exclusive:
        values **= 4
        values /= values.sum(0)
    return map_of(values, spec, **options)


DRAWN = [drawn("Tumour", 0, 0, 30, 40), drawn("Stroma", 30, 0, 60, 20), drawn("Fat", 0, 0, 9, 9)]


def table(path):
    """The lines of comment, and the rows by their titles."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line[2:] for line in lines if line.startswith("# ")]
    return head, list(csv.DictReader(lines[len(head) :]))


@pytest.fixture
def written(tmp_path):
    """An agreement and its files, by name."""
    with some_map(provenance={"slide": {"stem": "b", "fingerprint": "12ab"}}) as pm:
        found = agreement(pm, DRAWN, RULE)
        paths = write_agreement(found, pm, tmp_path / "new" / "er", "a", annotations="x.geojson")
    assert [path.name for path in paths] == NAMES
    assert sorted(path.name for path in paths[0].parent.iterdir()) == NAMES
    return found, paths


class TestTables:
    def test_classes(self, written):
        found, (path, _, _) = written
        _, rows = table(path)
        assert {row["slide"] for row in rows} == {"b"}
        assert [row["class"] for row in rows] == [*SOFTMAX.classes, "none of the classes"]
        for row, known in zip(rows, found.classes, strict=False):
            overlap = known.overlap
            assert int(row["reference_pixels"]) == overlap.reference
            assert int(row["predicted_pixels"]) == overlap.predicted
            assert int(row["both_pixels"]) == overlap.both
            pixels = [int(row[f"{name}_pixels"]) for name in ("reference", "predicted", "neither")]
            assert sum(pixels) - overlap.both == found.evaluated
            assert float(row["dice"]) == pytest.approx(overlap.dice)
            more = overlap.predicted - overlap.reference
            assert float(row["difference_mm2"]) == pytest.approx(more * 0.25 / 1e6)
            assert float(row["difference_percentage_points"]) == pytest.approx(
                100 * more / found.evaluated
            )
        # Nothing was drawn of it: no recall.
        assert rows[2]["recall"] == ""
        assert float(rows[0]["threshold"]) == 0.62
        predicted = [f"predicted {row['class']}" for row in rows]
        assert tuple(tuple(int(row[p]) for p in predicted) for row in rows) == found.confusion

    def test_sweep(self, written):
        found, (_, path, _) = written
        _, rows = table(path)
        steps = [(known, step) for known in found.classes for step in known.sweep]
        assert len(rows) == len(steps) == 20 + 20 + 20
        for row, (known, step) in zip(rows, steps, strict=True):
            assert row["class"] == known.name
            assert float(row["threshold"]) == pytest.approx(step.threshold)
            assert int(row["predicted_pixels"]) == step.overlap.predicted
            dice = None if row["dice"] == "" else float(row["dice"])
            assert dice == pytest.approx(step.overlap.dice)
            assert (row["in_use"] == "yes") == (step == known.in_use)
            assert (row["best_dice"] == "yes") == (step == known.best)

    def test_both_say_what_they_are_of(self, written, tmp_path):
        found, paths = written
        for path in paths[:2]:
            *sentences, made = table(path)[0]
            assert sentences == [RESEARCH_USE, *found.remarks, OTHER_SLIDES]
            made = json.loads(made)
            assert made["slide"] == {"stem": "b", "fingerprint": "12ab"}
            assert made["thresholds"]["Tumour"] == 0.62
            assert made["compared"]["annotations"] == "x.geojson"
            assert made["compared"]["left_out"] == {"Fat": 1}
            assert made["compared"]["kappa"] == pytest.approx(found.kappa)
            assert str(tmp_path) not in path.read_text(encoding="utf-8")

    def test_names_are_neither_comments_nor_formulas(self, tmp_path):
        spec = ModelSpec("odd", ("a # b", "=1+1", 'say "no", twice'), activation="sigmoid")
        with some_map(spec) as pm:
            found = agreement(pm, [drawn("a # b", 0, 0, 60, 40)])
            path, *_ = write_agreement(found, pm, tmp_path, "a")
        assert [row["class"] for row in table(path)[1]] == ["a # b", "'=1+1", 'say "no", twice']
        assert '"a # b"' in path.read_text(encoding="utf-8")

    def test_without_a_scale_there_is_no_mm2(self, tmp_path):
        with some_map(mpp=None) as pm:
            paths = write_agreement(agreement(pm, DRAWN), pm, tmp_path, "a")
        for path in paths[:2]:
            for row in table(path)[1]:
                assert {row[name] for name in row if name.endswith("mm2")} == {""}

    def test_independent_classes_have_no_joint_table(self, tmp_path):
        with some_map(STAIN) as pm:
            found = agreement(pm, [drawn("DAB", 0, 0, 30, 40), drawn("Region*", 0, 0, 60, 40)])
            path, sweep, _ = write_agreement(found, pm, tmp_path, "a")
        _, rows = table(path)
        assert [row["class"] for row in rows] == ["Hematoxylin", "DAB"]
        assert not any(name.startswith("predicted ") for name in rows[0])
        assert float(rows[1]["threshold"]) == 0.25
        assert rows[1]["threshold_unit"] == "optical density"
        densities = [float(row["threshold"]) for row in table(sweep)[1][20:]]
        assert densities == pytest.approx([k / 20 for k in range(1, 21)])


class TestPicture:
    def test_it_carries_its_provenance(self, written):
        found, (_, _, path) = written
        with Image.open(path) as image:
            texts = dict(image.text)
        assert texts["Description"] == RESEARCH_USE
        made = json.loads(texts["napari_wsiseg"])
        assert made["compared"]["evaluated_pixels"] == found.evaluated

    def test_curves_and_marks_are_the_sweep(self):
        with some_map() as pm:
            found = agreement(pm, DRAWN, RULE)
        figure = sweep_figure(found, "a title")
        # Nothing was drawn of "Other".
        assert len(figure.axes) == 2
        for axes, row in zip(figure.axes, found.classes, strict=False):
            curves = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
            dice = [(step.threshold, step.overlap.dice) for step in row.sweep]
            np.testing.assert_allclose(curves["Dice"], np.array(dice, float))
            assert tuple(curves["in use"][0]) == (row.in_use.threshold, row.overlap.dice)
            assert tuple(curves["best Dice"][0]) == (
                row.best.threshold,
                row.best.overlap.dice,
            )
        words = " ".join(" ".join(text.get_text() for text in figure.texts).split())
        for sentence in (RESEARCH_USE, OTHER_SLIDES, *found.remarks, "No annotation of Other."):
            assert sentence in words

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_nothing_is_cut_off(self, tmp_path, count):
        names = tuple(f"Class_{i}_$x$ with a name 肿瘤 as long as they come" for i in range(count))
        spec = ModelSpec("a-model-with-a-long-name", names, activation="sigmoid")
        shapes = [drawn(name, 10 * i, 0, 10 * i + 12, 40) for i, name in enumerate(names)]
        with some_map(spec) as pm:
            found = agreement(pm, shapes)
            *_, path = write_agreement(found, pm, tmp_path, "a-slide-with-a-long-name" * 8)
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        for margin in (pixels[:6], pixels[-6:], pixels[:, :6], pixels[:, -6:]):
            assert (margin == 255).all()
        assert (pixels < 100).any()

    def test_no_class_with_a_reference(self, tmp_path):
        spec = ModelSpec("one", ("Glass", "Tissue"), background=0)
        with some_map(spec) as pm:
            found = agreement(pm, [drawn("Glass", 0, 0, 60, 40)])
            write_agreement(found, pm, tmp_path, "a")
        assert len(sweep_figure(found, "").axes) == 1

    def test_no_window_system_is_touched(self):
        code = (
            "import sys, napari_wsiseg.export.agreement\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestFiles:
    def test_existing_files_are_kept_unless_told(self, tmp_path):
        (tmp_path / "a-sweep.csv").write_text("mine")
        with some_map() as pm:
            found = agreement(pm, DRAWN)
            with pytest.raises(ExportError, match=r"a-sweep\.csv is there already"):
                write_agreement(found, pm, tmp_path, "a")
            assert [path.name for path in tmp_path.iterdir()] == ["a-sweep.csv"]
            write_agreement(found, pm, tmp_path, "a", overwrite=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
        assert table(tmp_path / "a-sweep.csv")[1]

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "x").write_text("mine")
        with pytest.raises(ExportError, match="is a file; give a folder"):
            check_agreement(tmp_path / "x", "a", overwrite=True)
        with some_map() as pm, pytest.raises(ExportError, match="cannot be made"):
            write_agreement(agreement(pm, DRAWN), pm, tmp_path / "x" / "y", "a")

    def test_a_full_disk_leaves_what_was_there(self, tmp_path):
        resource = pytest.importorskip("resource", reason="only POSIX limits a file's size")
        for name in NAMES:
            (tmp_path / name).write_text("mine")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with some_map() as pm:
            found = agreement(pm, DRAWN)
            # Room for the tables, not for the picture.
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
            try:
                with pytest.raises(ExportError, match="cannot be written"):
                    write_agreement(found, pm, tmp_path, "a", overwrite=True)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
        assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}
