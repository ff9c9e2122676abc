"""What the panel's choices come to, and how they are put in words: no window is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from maps import SOFTMAX, STAIN, map_of
from napari_wsiseg._napari import kept_view, model_shelf
from napari_wsiseg._napari.area_words import as_tsv, extent_words, share_words, summary_words
from napari_wsiseg._napari.kept_view import keep_hidden, keep_rule, kept_hidden, kept_rule
from napari_wsiseg._napari.model_shelf import ModelShelf, is_at_hand
from napari_wsiseg._napari.panel import (
    FOR_STAIN,
    PLACES,
    UNITS,
    PanelModel,
    Stain,
    Where,
    resolution_of,
    spec_of,
    stain_warning,
)
from napari_wsiseg._napari.run_words import (
    ended_words,
    foretold_words,
    progress_words,
    unreachable_words,
)
from napari_wsiseg._napari.runs import RunEnd
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import Progress, plan
from napari_wsiseg.errors import InferenceError, JobError
from napari_wsiseg.geometry import Region, Resolution, Size
from napari_wsiseg.labels import MODELS_OWN, DecisionRule
from napari_wsiseg.measure import AreaRow, AreaTable, measure
from napari_wsiseg.models import models

pytestmark = pytest.mark.one_binding

VIEW = Region(10, 20, Size(30, 40))
OUTLINE = ((0.0, 0.0), (0.0, 9.0), (9.0, 0.0))


def test_the_panel_knows_no_window() -> None:
    """What is tested here runs where there is no screen."""
    names = [
        "area_words",
        "exports",
        "kept_view",
        "model_shelf",
        "panel",
        "run_words",
        "runs",
        "switch",
    ]
    imports = ", ".join(f"napari_wsiseg._napari.{name}" for name in names)
    heavy = "{'napari', 'qtpy', 'superqt', 'magicgui', 'torch'}"
    code = f"import sys, {imports}\nassert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class TestJob:
    def test_untouched_it_is_the_slides_tissue_at_the_models_resolution(self) -> None:
        assert PanelModel().job() == SegmentationJob(model="he-stain", tissue="auto")

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ({"model": "hdab-stain"}, {"model": "hdab-stain"}),
            ({"model": "net.pt", "trust": True}, {"model": "net.pt", "trust": True}),
            ({"weights": Path("w.pth")}, {"weights": Path("w.pth")}),
            ({"resolution": Resolution(0.5, "mpp")}, {"resolution": "0.5 mpp"}),
            ({"memory_threshold": 35}, {"memory_threshold": 35}),
            ({"device": "cpu"}, {"device": "cpu"}),
            ({"precision": "exact"}, {"precision": "exact"}),
            ({"batch_size": 3}, {"batch_size": 3}),
            ({"stride": 96}, {"stride_shape": 96}),
            ({"window": "gaussian"}, {"window": "gaussian"}),
            ({"dtype": "float32"}, {"dtype": "float32"}),
            ({"overwrite": True}, {"on_exists": "overwrite"}),
            ({"where": "whole"}, {"tissue": "none"}),
            ({"where": "view"}, {"region": VIEW}),
            ({"where": "shapes", "regions": (OUTLINE,)}, {"region": (OUTLINE,)}),
            ({"where": "file", "regions": (OUTLINE, VIEW)}, {"region": (OUTLINE, VIEW)}),
            # What is chosen elsewhere plays no part.
            ({"where": "tissue", "regions": (OUTLINE,)}, {}),
            ({"output_folder": Path("out"), "stain": "other"}, {}),
        ],
        ids=str,
    )
    def test_each_choice_is_a_field_of_the_job(self, choice, expected) -> None:
        assert PanelModel(**choice).job(VIEW) == SegmentationJob(**expected)

    @pytest.mark.parametrize("where", ["shapes", "file"])
    def test_regions_that_are_missing_are_asked_for(self, where) -> None:
        with pytest.raises(JobError, match="No region is chosen"):
            PanelModel(where=where).job()

    @pytest.mark.parametrize("view", [None, Region(0, 0, Size(0, 5))])
    def test_a_view_beside_the_slide_is_told(self, view) -> None:
        with pytest.raises(JobError, match="shows no part of the slide"):
            PanelModel(where="view").job(view)

    def test_a_value_out_of_range_is_an_error_of_ours(self) -> None:
        with pytest.raises(JobError, match="batch_size"):
            PanelModel(batch_size=0).job()

    def test_the_job_of_a_model_says_no_more_than_what_to_load(self) -> None:
        panel = PanelModel(model="hdab-stain", device="cpu", where="shapes", batch_size=3)
        assert panel.job_for_model() == SegmentationJob(model="hdab-stain", device="cpu")
        other = panel.job_for_model(weights=Path("w.pth"))
        assert other.weights == Path("w.pth")

    def test_every_place_and_stain_has_words_and_a_model(self) -> None:
        assert set(PLACES) == set(get_args(Where))
        assert set(FOR_STAIN) == set(get_args(Stain))
        assert set(FOR_STAIN.values()) <= set(models())

    def test_listeners_hear_of_changes_and_of_nothing_else(self) -> None:
        panel, heard = PanelModel(), []
        panel.events.connect(lambda info: heard.append((info.signal.name, info.args[0])))
        panel.stain = "H&E"
        panel.stain = "H-DAB"
        assert heard == [("stain", "H-DAB")]


class TestResolution:
    @pytest.mark.parametrize(
        ("number", "unit", "expected"),
        [
            ("", "The model's own", None),
            ("7", "The model's own", None),
            ("0.5", "µm per pixel", Resolution(0.5, "mpp")),
            (" 0,25 ", "µm per pixel", Resolution(0.25, "mpp")),
            ("20", "objective (x)", Resolution(20, "power")),
            ("1", "level of the file", Resolution(1, "level")),
            ("0.5", "scale (1 = full size)", Resolution(0.5, "baseline")),
        ],
    )
    def test_what_was_typed_is_read(self, number, unit, expected) -> None:
        assert resolution_of(number, unit) == expected

    @pytest.mark.parametrize("number", ["", "  ", "a lot", "-1", "0", "nan", "0.5 mpp"])
    @pytest.mark.parametrize("unit", [unit for unit, pattern in UNITS.items() if pattern])
    def test_what_is_no_number_is_told(self, number, unit) -> None:
        if (number, unit) == ("0", "level of the file"):
            assert resolution_of(number, unit) == Resolution(0, "level")
            return
        with pytest.raises(JobError):
            resolution_of(number, unit)


class TestStain:
    def test_a_model_of_the_other_stain_warns(self) -> None:
        assert "made for H&E slides, and this one is given as H-DAB" in stain_warning(
            models()["he-stain"], "H-DAB"
        )

    @pytest.mark.parametrize(
        ("model", "stain"),
        [("he-stain", "H&E"), ("he-stain", "other"), ("hdab-stain", "H-DAB"), ("tissue", "H&E")],
    )
    def test_one_that_suits_does_not(self, model, stain) -> None:
        assert stain_warning(models()[model], stain) == ""

    @pytest.mark.parametrize("stain", get_args(Stain))
    def test_the_model_for_a_stain_suits_it(self, stain) -> None:
        assert stain_warning(models()[FOR_STAIN[stain]], stain) == ""

    def test_the_spec_of_a_file_is_not_known(self) -> None:
        assert spec_of("he-stain") is models()["he-stain"]
        assert spec_of("net.pt") is None


def progress(**changes) -> Progress:
    values = {
        "kind": "batch", "result": None, "row": 3, "rows": 12, "patches_done": 210,
        "patches_total": 900, "elapsed": 7.0, "eta": 22.4, "memory": 0,
    }  # fmt: skip
    return Progress(**(values | changes))


def ended(status: str = "complete", path: Path | None = Path("a.ome.zarr")) -> RunEnd:
    return RunEnd(status, SimpleNamespace(path=path, failed_patches=()))  # type: ignore[arg-type]


class TestRunWords:
    def test_progress(self) -> None:
        assert progress_words(progress(), from_disk=False) == (
            "Row 3 of 12 · 210 of 900 patches · 30 patches/s · 0:22 left"
        )
        first = progress(row=0, patches_done=0, elapsed=0.0, eta=None)
        assert progress_words(first, from_disk=True) == (
            "Row 0 of 12 · 0 of 900 patches · working from disk"
        )
        last = progress(kind="done", row=12, patches_done=900, eta=0.0)
        assert "left" not in progress_words(last, from_disk=False)

    @pytest.mark.parametrize(
        ("end", "says"),
        [
            (ended(), "Done. a.ome.zarr"),
            (ended(path=None), "Done."),
            (ended("cancelled"), "Cancelled; finished rows are kept"),
            (RunEnd("cancelled"), "Cancelled before the first patch: nothing was written."),
            (RunEnd("failed", None, InferenceError("It broke.")), "⚠ Failed: It broke."),
            (
                RunEnd("failed", ended().result, InferenceError("It broke.")),
                "⚠ Failed: It broke. Finished rows are kept; Segment goes on from there.",
            ),
        ],
    )
    def test_the_end(self, end, says) -> None:
        assert ended_words(end).startswith(says)

    @pytest.mark.parametrize(
        ("wanted", "objective", "reached"),
        [
            ("0.5 mpp", 20.0, False),
            ("10x", 20.0, True),
            ("10x", None, False),
            ("level 1", None, True),
            ("baseline 0.5", None, True),
        ],
    )
    def test_a_slide_without_a_scale(self, wanted, objective, reached) -> None:
        lacks = SimpleNamespace(mpp=None, objective_power=objective)
        words = unreachable_words(Resolution.parse(wanted), lacks)
        assert (words == "") == reached
        assert reached or ("section 1" in words and "--mpp" not in words)
        knows = SimpleNamespace(mpp=(0.5, 0.5), objective_power=None)
        assert unreachable_words(Resolution.parse(wanted), knows) == ""

    def test_what_it_comes_to(self) -> None:
        slide = np.full((300, 200, 3), 200, np.uint8)
        spec = models()["he-stain"]
        job = SegmentationJob(mpp=0.5, tissue="none")
        words = foretold_words(plan(job, slide), spec)
        assert words.text.startswith("0.5 µm/px -> 200 x 300 px, 1 patch, ")
        assert "made for" not in words.text
        assert words.warning == ""
        finer = job.model_copy(update={"resolution": Resolution(0.25, "mpp")})
        words = foretold_words(plan(finer, slide), spec)
        assert words.text.endswith("he-stain is made for 0.5 µm/px.")
        assert words.warning


class TestAreaWords:
    ROWS = (
        AreaRow("Tumour", 1420, 1.42, 0.123),
        AreaRow("Unclassified tissue", 10, 0.01, 0.877),
        AreaRow("Not analysed", 7, 0.007, None),
        AreaRow("Total tissue", 1437, 1.437, None),
    )

    def table(self, **changes) -> AreaTable:
        return AreaTable(
            **({"rows": self.ROWS, "stains": (), "mpp": None, "mpp_source": None} | changes)
        )

    def test_an_area_and_an_estimate(self) -> None:
        for words, said in ((extent_words, "1.42 mm²"), (share_words, "12.3 %")):
            assert words(self.table(), self.ROWS[0]) == said
            assert words(self.table(estimated=True), self.ROWS[0]) == f"~{said}"

    def test_a_few_pixels_take_no_row_of_digits(self) -> None:
        few = AreaRow("x", 3, 0.000000875, 0.0)
        assert extent_words(self.table(), few) == "<0.0001 mm²"
        assert extent_words(self.table(), AreaRow("x", 0, 0.0, 0.0)) == "0 mm²"

    def test_without_a_scale_pixels_are_told(self) -> None:
        row = AreaRow("x", 12345, None, None)
        assert extent_words(self.table(), row) == "12,345 px"
        assert share_words(self.table(), row) == "-"

    def test_the_summary_says_what_the_percentages_are_of(self) -> None:
        assert summary_words(self.table()).splitlines() == [
            "Unclassified tissue: 87.7 %, 0.01 mm²",
            "Not analysed: 0.007 mm²",
            "Total tissue: 1.44 mm²",
            "Percentages are of the analysed tissue.",
        ]
        assert "Estimates" in summary_words(self.table(estimated=True))

    def test_a_table_to_paste(self) -> None:
        text = as_tsv([self.table(), self.table(region="Core")])
        cells = [line.split("\t") for line in text.splitlines()]
        assert len(cells) == 1 + 4 + 4
        assert all(len(line) == 5 for line in cells)
        assert cells[1] == ["Whole tissue", "Tumour", "1420", "1.420000", "12.30"]
        assert cells[5][:2] == ["Core", "Tumour"]
        assert cells[3][4] == ""

    def test_a_measured_map(self) -> None:
        values = np.zeros((3, 32, 32), np.float32)
        values[0] = 1
        with map_of(values, SOFTMAX) as pm:
            table = measure(pm)
        assert extent_words(table, table["Tumour"]) == "0.000256 mm²"
        assert share_words(table, table["Tumour"]) == "100.0 %"


class TestKeptView:
    RULE = DecisionRule({"DAB": 0.3})

    @pytest.fixture
    def pm(self, tmp_path):
        values = np.full((2, 16, 16), 0.5, np.float32)
        with map_of(values, STAIN, path=tmp_path / "a.ome.zarr") as pm:
            yield pm

    def test_they_come_back(self, pm) -> None:
        assert kept_rule(pm) == MODELS_OWN
        keep_rule(pm, self.RULE)
        assert kept_rule(pm) == self.RULE

    def test_damaged_ones_cost_nothing_else(self, pm, caplog) -> None:
        (pm.path / kept_view.THRESHOLDS).write_text("{")
        assert kept_rule(pm) == MODELS_OWN
        assert "are not restored" in caplog.text

    def test_those_of_other_classes_are_not_taken(self, pm) -> None:
        keep_rule(pm, self.RULE)
        values = np.full((3, 16, 16), 0.3, np.float32)
        with map_of(values, SOFTMAX, path=pm.path.with_name("b.ome.zarr")) as other:
            (other.path / kept_view.THRESHOLDS).write_bytes(
                (pm.path / kept_view.THRESHOLDS).read_bytes()
            )
            assert kept_rule(other) == MODELS_OWN

    def test_a_result_that_cannot_be_written_keeps_none(self, pm, monkeypatch) -> None:
        def full(*_, **__):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", full)
            keep_rule(pm, self.RULE)
        assert kept_rule(pm) == MODELS_OWN
        assert not [p for p in pm.path.iterdir() if "partial" in p.name]

    def test_a_result_in_memory_keeps_none(self) -> None:
        with map_of(np.full((2, 16, 16), 0.5, np.float32), STAIN) as pm:
            keep_rule(pm, self.RULE)
            assert kept_rule(pm) == MODELS_OWN
            keep_hidden(pm, {0})
            assert kept_hidden(pm) == set()

    def test_hidden_classes_come_back_by_their_names(self, pm) -> None:
        for hidden in ({1}, {0, 1}, set()):
            keep_hidden(pm, hidden)
            assert kept_hidden(pm) == hidden
        (pm.path / kept_view.HIDDEN).write_text(json.dumps([pm.classes[1], "no such class"]))
        assert kept_hidden(pm) == {1}

    @pytest.mark.parametrize("text", ["{", '"x"', "[[1], null]", "\xff"])
    def test_damaged_ones_hide_nothing(self, pm, text) -> None:
        (pm.path / kept_view.HIDDEN).write_bytes(text.encode("latin-1"))
        assert kept_hidden(pm) == set()


class TestModelShelf:
    @pytest.fixture
    def loaded(self, monkeypatch) -> list[str]:
        loaded: list[str] = []

        def load(name, **_):
            loaded.append(name)
            if name == "broken.pt":
                raise RuntimeError("torn")
            return object()

        monkeypatch.setattr(model_shelf, "load_model", load)
        return loaded

    def test_the_last_model_is_loaded_once(self, loaded) -> None:
        shelf, job = ModelShelf(), SegmentationJob(model="he-stain")
        first = shelf.take(job)
        assert shelf.take(job.model_copy(update={"batch_size": 2, "tissue": "none"})) is first
        assert shelf.take(job.model_copy(update={"weights": Path("w.pth")})) is not first
        assert shelf.take(job) is not first
        assert loaded == ["he-stain"] * 3

    def test_one_that_cannot_be_loaded_is_tried_again(self, loaded) -> None:
        shelf, job = ModelShelf(), SegmentationJob(model="broken.pt", trust=True)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="torn"):
                shelf.take(job)
        assert loaded == ["broken.pt"] * 2

    def test_what_is_at_hand(self, monkeypatch) -> None:
        monkeypatch.setattr(model_shelf, "weights_ready", lambda name: name == "he-stain")
        assert is_at_hand(SegmentationJob(model="he-stain"))
        assert is_at_hand(SegmentationJob(model="net.pt"))
        net = SegmentationJob(model="fcn_resnet50_unet-bcss")
        assert not is_at_hand(net)
        assert is_at_hand(net.model_copy(update={"weights": Path("w.pth")}))
