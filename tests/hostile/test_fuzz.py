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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does")
def test_spoiled_files_are_opened_or_refused_in_a_sentence(target, tmp_path):
    seed = int.from_bytes(os.urandom(4)) if WHOLE else 6
    limits = ["--seconds", "120"] if WHOLE else ["--seconds", "30", "--cases", "40"]
    told = subprocess.run(
        [sys.executable, FUZZ, "--target", target, "--seed", str(seed), "--keep", tmp_path,
         *limits],
        capture_output=True, text=True, check=False, timeout=600,
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
