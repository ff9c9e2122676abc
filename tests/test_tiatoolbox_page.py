"""The page "Coming from TIAToolbox" leaves nothing out and promises nothing that is not there.

The names are transcribed from TIAToolbox 2.1.3: `models/engine/semantic_segmentor.py`,
`patch_predictor.py`, `engine_abc.py` and `io_config.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import napari_wsiseg as ws

PAGE = Path(__file__).resolve().parents[1] / "docs" / "coming-from-tiatoolbox.md"

THEIRS = {
    "The constructor": ("model", "batch_size", "num_workers", "weights", "device", "verbose"),
    "`run`": (
        "images",
        "masks",
        "input_resolutions",
        "patch_input_shape",
        "ioconfig",
        "patch_mode",
        "save_dir",
        "overwrite",
        "output_type",
    ),
    # SemanticSegmentorRunParams, with those it inherits, but for what stands in the constructor.
    "Its keyword options": (
        "auto_get_mask",
        "class_dict",
        "labels",
        "memory_threshold",
        "output_file",
        "return_labels",
        "scale_factor",
        "stride_shape",
        "wsireader_kwargs",
        "return_probabilities",
        "patch_output_shape",
        "output_resolutions",
    ),
    "`ioconfig`": (
        "input_resolutions",
        "patch_input_shape",
        "stride_shape",
        "output_resolutions",
        "ignore_index",
        "patch_output_shape",
        "save_resolution",
        "tile_shape",
        "margin",
    ),
    "Outputs": (
        '"probabilities"',
        '"predictions"',
        '"coordinates"',
        '"labels"',
        'output_type="dict"',
        'output_type="zarr"',
        'output_type="annotationstore"',
        'output_type="qupath"',
    ),
}
OLD_NAMES = ("num_loader_workers", "num_post_proc_workers")  # 2.0's
READER_OPTIONS = ("meta", "mpp", "power", "storage_options")  # of wsireader_kwargs


@dataclass(frozen=True)
class Row:
    """A row of one of the page's tables."""

    section: str
    theirs: str
    ours: str
    remark: str


def read_rows() -> list[Row]:
    rows, section = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("| `"):
            theirs, ours, remark = (cell.strip() for cell in line.strip("|").split("|"))
            rows.append(Row(section, theirs, ours, remark))
    return rows


ROWS = read_rows()


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("section", THEIRS)
def test_every_parameter_has_a_row(section: str) -> None:
    names = [code(row.theirs)[0] for row in ROWS if row.section == section]
    assert names == list(THEIRS[section])


@pytest.mark.parametrize("name", [*OLD_NAMES, *READER_OPTIONS])
def test_old_and_nested_names_are_told(name: str) -> None:
    assert any(name in code(row.theirs + row.remark) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section}: {row.theirs}")
def test_a_row_names_an_equivalent_or_says_why_not(row: Row) -> None:
    assert row.remark
    assert code(row.ours) or re.match(r"not offered, because \w+", row.ours)


@cache
def segment_options() -> set[str]:
    answer = subprocess.run(
        [sys.executable, "-m", "napari_wsiseg", "segment", "--help"],
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(re.findall(r"--[a-z][a-z-]+", answer.stdout))


def exists(name: str) -> bool:
    """Whether `ws.x`, `Class.x` or `--x` is something that a user can write."""
    if name.startswith("--"):
        return name in segment_options()
    owner, _, member = name.partition(".")
    if owner == "ws":
        return hasattr(ws, member)
    holder = getattr(ws, owner)
    fields = getattr(holder, "model_fields", None) or getattr(holder, "__dataclass_fields__", {})
    return member in fields or hasattr(holder, member)


OURS = sorted({name for row in ROWS for name in code(row.ours)})


@pytest.mark.parametrize("name", OURS)
def test_an_equivalent_exists(name: str) -> None:
    assert exists(name)


def test_names_in_the_remarks_exist() -> None:
    ours = re.compile(r"ws\.\w+|(?:SegmentationJob|ProbabilityMap|ModelSpec)\.\w+|--[a-z][a-z-]+")
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in set(ours.findall(text)) if not exists(name)] == []
