"""A bounded run of the fuzzer; NAPARI_WSISEG_TORTURE=whole: minutes, and other files each time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from hostile.mutations import spoil_folder
from hostile.targets import TARGETS

FUZZ = Path(__file__).with_name("fuzz.py")
WHOLE = os.environ.get("NAPARI_WSISEG_TORTURE") == "whole"


# To start takes longer than to read forty of the small ones, so those share a process.
ALONE = ("tiff", "zarr", "result")
TOGETHER = {
    "slides": ("openslide", "vendors", "mrxs", "dicom", "picture"),
    "models": ("weights", "onnx", "script"),
    "texts": ("mask", "job", "spec", "stains", "preset", "geojson"),
}
GROUPS = {**{name: (name,) for name in ALONE}, **TOGETHER}


def test_every_reader_is_in_a_group():
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(TARGETS)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does")
def test_spoiled_files_are_opened_or_refused_in_a_sentence(group, tmp_path):
    names = [name for name in GROUPS[group] if not TARGETS[name].missing]
    seed = int.from_bytes(os.urandom(4)) if WHOLE else 6
    seconds = len(names) * (120 if WHOLE else 30)
    limits = ["--seconds", str(seconds), *([] if WHOLE else ["--cases", "40"])]
    targets = [word for name in names for word in ("--target", name)]
    told = subprocess.run(
        [sys.executable, FUZZ, *targets, "--seed", str(seed), "--keep", tmp_path, *limits],
        capture_output=True, text=True, check=False, timeout=10 * seconds,
    )  # fmt: skip
    assert told.returncode == 0, f"seed {seed}\n{told.stdout}\n{told.stderr[-4000:]}"


def test_spoiling_a_folder_changes_nothing_outside(tmp_path):
    """A link that one change makes is nothing that the next writes through."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"a file of the user's")
    for seed in range(400):
        folder = tmp_path / "folder"
        (folder / "0").mkdir(parents=True)
        (folder / "zarr.json").write_text('{"a": [1, 2]}')
        spoil_folder(folder, outside, Random(seed))
        assert outside.read_bytes() == b"a file of the user's", seed
        shutil.rmtree(folder)
