"""Presets keep a rule, in the numbers people see, for the model they were made for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maps import SIGMOID, SOFTMAX, STAIN
from napari_wsiseg.errors import JobError
from napari_wsiseg.labels import DecisionRule, load_preset, save_preset

UNIT = st.floats(0, 1)


@given(
    spec=st.sampled_from([SOFTMAX, SIGMOID, STAIN]),
    data=st.data(),
    default=st.none() | UNIT,
    clip=st.booleans(),
)
def test_a_rule_comes_back_as_it_was(tmp_path_factory, spec, data, default, clip):
    thresholds = data.draw(st.dictionaries(st.sampled_from(spec.classes), UNIT))
    rule = DecisionRule(thresholds, default, clip)
    path = tmp_path_factory.mktemp("presets") / "preset.json"
    save_preset(rule, spec, path)
    assert load_preset(path, spec) == rule
    assert [file.name for file in path.parent.iterdir()] == ["preset.json"]


def test_the_file_says_what_it_is_for(tmp_path):
    save_preset(DecisionRule({"DAB": 0.125}), STAIN, tmp_path / "dab.json")
    values = json.loads((tmp_path / "dab.json").read_text())
    assert values["model"] == "stains"
    assert values["thresholds"] == {"DAB": 0.25}
    assert values["unit"] == "optical density"
    assert "research use" in values["notice"]


def test_a_preset_for_other_classes_is_refused_by_name(tmp_path):
    save_preset(DecisionRule({"Nuclei": 0.5}), SIGMOID, tmp_path / "each.json")
    with pytest.raises(JobError, match=r"model 'each'.*Nuclei, Glands.*model 'three'.*Tumour"):
        load_preset(tmp_path / "each.json", SOFTMAX)


def test_names_of_a_file_stay_on_one_line(tmp_path):
    """A sentence in the panel and in a log, whatever the file's classes are called."""
    path = tmp_path / "preset.json"
    save_preset(DecisionRule(), SOFTMAX, path)
    values = json.loads(path.read_text())
    values["classes"][0] = "a\nb"
    path.write_text(json.dumps(values))
    with pytest.raises(JobError, match="with the classes a b, ") as refused:
        load_preset(path, SOFTMAX)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thresholds": {"Tumour": 1.5}}, "Tumour|1.5"),
        ({"thresholds": {"Tumor": 0.5}}, "did you mean 'Tumour'"),
        ({"thresholds": {"Tumour": "high"}}, "thresholds"),
        ({"napari_wsiseg_preset": 2}, "napari_wsiseg_preset"),
        ({"surprise": 1}, "surprise"),
        ({"classes": None}, "classes"),
    ],
)
def test_what_no_preset_is(tmp_path, change, words):
    path = tmp_path / "preset.json"
    save_preset(DecisionRule({"Tumour": 0.5}), SOFTMAX, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(JobError, match=words):
        load_preset(path, SOFTMAX)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 10**5, b" " * (10**6 + 1)]
)
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "preset.json"
    path.write_bytes(content)
    with pytest.raises(JobError, match="preset"):
        load_preset(path, SOFTMAX)


def test_of_a_file_that_is_no_json_nothing_is_shown(tmp_path):
    path = tmp_path / "notes.json"
    path.write_text("patient 123: Tumour")
    with pytest.raises(JobError, match="no preset: it is not JSON") as caught:
        load_preset(path, SOFTMAX)
    assert "patient" not in str(caught.value)


def test_missing_and_unwritable_files(tmp_path):
    with pytest.raises(JobError, match=r"none\.json cannot be read"):
        load_preset(tmp_path / "none.json", SOFTMAX)
    with pytest.raises(JobError, match="cannot be written"):
        save_preset(DecisionRule(), SOFTMAX, tmp_path / "no folder" / "preset.json")
    with pytest.raises(JobError, match="'Tumor'"):
        save_preset(DecisionRule({"Tumor": 0.5}), SOFTMAX, tmp_path / "preset.json")
    assert not list(tmp_path.iterdir())
