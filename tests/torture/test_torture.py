"""A part of `./scripts/torture`, in processes that die of it: nothing finished is ever lost."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from napari_wsiseg import faults
from torture.__main__ import lost, table
from torture.disks import SCENES, on_a_small_disk, reason_against
from torture.interrupts import interrupted
from torture.runs import preload, slide_at
from torture.trials import Bench, Tally, drawn, named
from torture.writers import second_writer

pytestmark = pytest.mark.slow

MOMENTS = 12

many_runs = pytest.mark.skipif(
    sys.platform == "win32", reason="without forks every run loads all libraries anew"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    preload()
    folder = tmp_path_factory.mktemp("torture")
    return Bench(folder, slide_at(folder))


@many_runs
def test_killed_anywhere_a_run_goes_on_and_ends_equal(bench: Bench) -> None:
    trials = [*drawn(bench.undisturbed, MOMENTS, seed=1), *named(bench.undisturbed, "kill", 1)]
    for trial in trials:
        bench.run(trial)
    assert not lost(bench.tallies)
    met = set(chain.from_iterable(tally.killed_at for tally in bench.tallies.values()))
    assert met == set(faults.POINTS)


@many_runs
def test_a_disk_that_refuses_stops_a_run_in_order_and_it_goes_on(bench: Bench) -> None:
    for trial in named(bench.undisturbed, "ENOSPC", 1):
        bench.run(trial)
    assert not [tally.lost for tally in bench.tallies.values() if tally.lost]


@pytest.mark.skipif(sys.platform == "win32", reason="no thread there can be sent a signal")
def test_interrupted_anywhere_a_run_goes_on_in_the_same_process(
    bench: Bench, tmp_path: Path
) -> None:
    interrupted(bench, tmp_path, 2, seed=2)
    assert not [tally.lost for tally in bench.tallies.values() if tally.lost]


def test_a_second_run_is_refused_while_the_first_lives(bench: Bench, tmp_path: Path) -> None:
    assert not second_writer(bench, tmp_path).lost


@pytest.mark.parametrize("kind", SCENES)
def test_a_small_disk(bench: Bench, tmp_path: Path, kind: str) -> None:
    if reason := reason_against():
        pytest.skip(reason)
    assert not on_a_small_disk(bench, tmp_path, kind).lost


def test_what_is_lost_shows_and_what_was_not_met_too() -> None:
    tallies = {"kill": Tally(3, ["why"], {"levels": 1}), "disk": Tally(1)}
    assert list(table(tallies))[2:] == [
        "| kill | 3 | 2 | 1 |",
        "| disk | 1 | 1 | 0 |",
        "| **all** | 4 | 3 | 1 |",
    ]
    assert lost(tallies) == [
        "LOST why",
        "NOTHING SHOWN: no kill fell inside the writes journal.",
    ]


@pytest.mark.parametrize(
    ("fault", "status"), [(None, 0), ("state:2:kill", 64 + faults.POINTS.index("state"))]
)
def test_the_environment_asks_for_a_fault(fault: str | None, status: int) -> None:
    code = "from napari_wsiseg import faults\nfor _ in range(2): faults.passing('state')"
    asked = {} if fault is None else {faults.VARIABLE: fault}
    source = Path(faults.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(source)} | asked, check=False
    )
    assert ended.returncode == status


@pytest.mark.parametrize("text", ["", "pixels", "nowhere:1:kill", "state:x:kill", "state:1:ENONE"])
def test_a_fault_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises((ValueError, AttributeError)):
        faults.Fault(text)
