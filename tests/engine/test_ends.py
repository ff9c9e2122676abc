"""A process that ends, or a child of it that does, in the middle of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.store.lock import LOCKS

_BEGIN = """
import os, sys
from functools import partial
from pathlib import Path
from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import fields, segment
from napari_wsiseg.export import export_steps
from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid

fields.PatchGrid = partial(PatchGrid, chunk=16)
model = PositionModel(Size(12, 44), Size(8, 40), Size(6, 40))
output = None if sys.argv[1] == "memory" else Path(sys.argv[1])
job = SegmentationJob(output=output, tissue="none", batch_size=2)
begin = lambda: segment(job, slide_of(picture(96, 40)), model)
steps = begin()
"""

_SOON = 120


def told(output: Path | str, code: str) -> str:
    """What a process prints that runs this, and ends well."""
    tests, source = Path(__file__).parents[1], Path(sys.modules["napari_wsiseg"].__file__ or "")
    ended = subprocess.run(
        [sys.executable, "-c", _BEGIN + code, str(output)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(source.parents[1]), str(tests)])},
        capture_output=True,
        text=True,
        timeout=_SOON,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@pytest.mark.parametrize("kind", ["warning", "batch", "row"])
def test_a_run_that_is_forgotten_does_not_keep_a_process(tmp_path: Path, kind: str) -> None:
    """Nobody closes it: the interpreter ends with its threads at rest, or at work."""
    output = tmp_path / "a.ome.zarr"
    kept = f"""
for step in steps:
    if step.kind == {kind!r}:
        break
"""
    told(output, kept if kind != "warning" else "next(steps)")
    with ProbabilityMap.open(output) as stopped:
        assert stopped.status == "cancelled"
        assert stopped.finished.any() or kind != "row"
    told(output, "*_, last = steps; assert last.result.status == 'complete'")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")
def test_a_forked_child_that_ends_leaves_the_run_to_its_parent(tmp_path: Path) -> None:
    """It ends its copies of the run and of an export too, as any Python does."""
    output = tmp_path / "a.ome.zarr"
    code = """
while (step := next(steps)).kind != "row":
    pass
exporting = export_steps(step.result, output.with_name("a.csv"), "csv")
next(exporting)
if not os.fork():
    steps.close()
    exporting.close()
    sys.exit()
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert len(list((output / "lock").iterdir())) == 1
assert step.result.status == "running"
list(exporting)
*_, last = steps
assert last.result.status == "complete"
print(sorted(path.name for path in output.parent.iterdir()))
"""
    assert told(output, code) == "['a.csv', 'a.ome.zarr']\n"
    assert not (output / LOCKS).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")
def test_nor_does_it_take_a_map_that_was_moved_to_disk() -> None:
    code = """
*_, last = steps
last.result.move_to_temporary()
if not os.fork():
    sys.exit()
os.wait()
print(int(last.result.coverage[0].compute().all()))
"""
    assert told("memory", code) == "1\n"
