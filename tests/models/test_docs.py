"""The examples of the models' page run."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import napari_wsiseg as ws


def test_examples_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    page = root / "docs" / "models.md"
    outcome = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 5
    assert outcome.failed == 0


def test_every_model_is_in_the_table(root: Path):
    text = (root / "docs" / "models.md").read_text(encoding="utf-8")
    for name, spec in ws.models().items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` ")]
        assert f"| {spec.resolution} |" in row
        assert str(spec.license).split(" (part")[0] in row
