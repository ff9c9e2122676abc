"""Runs in processes of their own: under a control group's limit, and twenty one after the other.

`NAPARI_WSISEG_TORTURE=whole` runs the large slide too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from control_groups import memory_group, run_in
from engine.engine_cases import picture

pytestmark = pytest.mark.slow

TILE = 256
WHOLE = os.environ.get("NAPARI_WSISEG_TORTURE") == "whole"


def write_slide(path: Path, side: int, seed: int = 0) -> Path:
    """A slide of a few tiles that come again and again: quick to write, of any size."""
    shades = picture(TILE // 8, TILE // 8 * 5, seed).repeat(8, 0).repeat(8, 1)
    tiles = [
        imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), level=80)
        for tile in np.split(shades, 5, axis=1)
    ]
    across = -(-side // TILE)
    tifffile.imwrite(
        path, (tiles[n % 5] for n in range(across * across)), shape=(side, side, 3),
        dtype=np.uint8, tile=(TILE, TILE), photometric="ycbcr", compression="jpeg",
    )  # fmt: skip
    return path


def chunks(result: Path) -> dict[str, bytes]:
    """All arrays of a result, as they lie on the disk."""
    places = [result / "0", result / "coverage"]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return {str(path.relative_to(result)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("side", "limit"),
    [
        (4000, 10**9),
        pytest.param(
            16000, 2 * 10**9, marks=pytest.mark.skipif(not WHOLE, reason="minutes: torture only")
        ),
    ],
)
def test_under_a_memory_limit_a_slide_is_segmented_as_ever(
    tmp_path: Path, side: int, limit: int
) -> None:
    """The batch asked for would take more than the group has: the kernel would end the run."""
    slide = write_slide(tmp_path / "a.tif", side)

    def command(folder: str, batch: int) -> list[str]:
        return [
            sys.executable, "-m", "napari_wsiseg", "segment", str(slide), "--model", "he-stain",
            "--tissue", "none", "--resolution", "baseline 1", "--memory-threshold", "50",
            "--patch-input", "512", "--patch-output", "512", "--batch-size", str(batch),
            "--output", str(tmp_path / folder), "--json",
        ]  # fmt: skip

    with memory_group(limit) as group:
        ended = run_in(group, command("limited", 256))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["status"] == "complete"
    assert "does not fit the memory budget" in ended.stderr
    assert run_in(None, command("free", 4)).returncode == 0
    limited, free = (chunks(tmp_path / name / "a.ome.zarr") for name in ("limited", "free"))
    assert limited.keys() == free.keys()
    assert all(limited[name] == free[name] for name in free)


_TWENTY = """
import gc, json, sys, threading
from pathlib import Path
import psutil
import napari_wsiseg as ws
from napari_wsiseg import memory

process, held = psutil.Process(), []
for slide in sorted(Path(sys.argv[1]).glob("*.tif")):
    job = ws.SegmentationJob(
        slide=slide, model="he-stain", tissue="none", resolution="baseline 1",
        output=slide.with_suffix(".ome.zarr"),
    )
    with ws.run(job) as result:
        assert result.status == "complete"
    gc.collect()
    memory._heap().return_freed_pages()
    files = len(process.open_files())
    ours = [thread.name for thread in threading.enumerate() if thread.name.startswith("wsiseg")]
    held.append((memory.own_memory(), len(ours), files))
print(json.dumps(held))
"""


def test_twenty_slides_take_no_more_memory_than_five(tmp_path: Path) -> None:
    """A tile cache, a map or a model that stayed would be 3 MB or more a slide."""
    for number in range(20):
        write_slide(tmp_path / f"{number:02}.tif", 1024, number)
    ended = run_in(None, [sys.executable, "-c", _TWENTY, str(tmp_path)])
    assert ended.returncode == 0, ended.stderr
    held = json.loads(ended.stdout)
    memory, threads, files = zip(*held, strict=True)
    assert len(held) == 20
    # What the libraries set up on their first slides is no leak.
    assert memory[-1] - memory[4] < 15 * 10**6, [value // 10**6 for value in memory]
    assert set(threads) == {0}
    assert files[-1] == files[4]
