"""What a run is put through, and whether all that was finished lived on.

A trial disturbs one run, looks at what stands there, lets the same run go on, and
compares the end with that of an undisturbed run, byte for byte.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_wsiseg.faults import POINTS, Point
from napari_wsiseg.store import ProbabilityMap
from torture.runs import NEVER, Run, Said, Work

OUTPUT = "a.ome.zarr"


class LostError(AssertionError):
    """Something that was finished is gone, changed, or cannot be gone on with."""


@dataclass(frozen=True)
class Trial:
    """One disturbance.

    Parameters
    ----------
    kind
        The row of the table that it counts in.
    work
        What is disturbed.
    faults
        One after the other, a process each, as in `faults.VARIABLE`; then comes a run
        without.
    after
        In place of a fault: the part of the undisturbed run's time after which it is
        killed from outside.
    """

    kind: str
    work: Work = "segment"
    faults: tuple[str, ...] = ()
    after: float | None = None


@dataclass
class Tally:
    """A row of the table: how many trials of a kind, and what was lost in which.

    Parameters
    ----------
    tried
        Trials.
    lost
        A sentence for each that did not live on.
    killed_at
        How often a kill met each write point.
    """

    tried: int = 0
    lost: list[str] = field(default_factory=list)
    killed_at: dict[Point, int] = field(default_factory=dict)


def check(holds: object, sentence: str) -> None:
    """Raise LostError where something does not hold."""
    if not holds:
        raise LostError(sentence)


def contents(result: Path) -> dict[str, bytes]:
    """All that a result holds, but what tells of its making: when it was, in how many goes."""
    files = {p.relative_to(result).as_posix(): p for p in result.rglob("*") if p.is_file()}
    found = {
        name: path.read_bytes()
        for name, path in files.items()
        if name not in {"zarr.json", "state.json"} and not name.startswith("journal/")
    }
    root = json.loads(files["zarr.json"].read_bytes())
    del root["attributes"]["napari_wsiseg"]["provenance"]
    found["zarr.json"] = json.dumps(root, sort_keys=True).encode()
    return found


class Undisturbed:
    """The run that others are compared with.

    Parameters
    ----------
    folder
        Where it lies.
    slide
        The slide's file.

    Attributes
    ----------
    said
        What each kind of work says of itself, with the write points it passes.
    seconds
        How long each takes.
    """

    def __init__(self, folder: Path, slide: Path) -> None:
        self.slide, self.output = slide, folder / OUTPUT
        folder.mkdir()
        self.said: dict[Work, Said] = {}
        self.seconds: dict[Work, float] = {}
        self._time("segment", self.output)
        self._time("export", self.output)
        self._time("spill", folder / "spilled.ome.zarr")
        self.contents = contents(self.output)
        check(
            contents(folder / "spilled.ome.zarr") == self.contents
            or _but_job(contents(folder / "spilled.ome.zarr")) == _but_job(self.contents),
            "a run that works from disk ends otherwise",
        )
        self.export = (folder / "a.geojson").read_bytes()
        with ProbabilityMap.open(self.output) as result:
            self.coverage = np.asarray(result.coverage[0])
            self.values = np.asarray(result.levels[0])

    def _time(self, work: Work, output: Path) -> None:
        run = Run(work, self.slide, output)
        run.until_begun()
        start = time.perf_counter()
        self.said[work] = run.end()
        self.seconds[work] = time.perf_counter() - start
        check(run.said.ended, f"an undisturbed {work} died")
        check(run.said.error is None, f"an undisturbed {work} failed: {run.said.error}")

    def count(self, point: str, work: Work = "segment") -> int:
        """How often it passes a write point."""
        return self.said[work].passed[point]


class Bench:
    """Puts runs through trials, and keeps the tally.

    Parameters
    ----------
    folder
        For the results.
    slide
        The slide's file.
    """

    def __init__(self, folder: Path, slide: Path) -> None:
        self._folder, self._slide = folder, slide
        self.undisturbed = Undisturbed(folder / "undisturbed", slide)
        self.tallies: dict[str, Tally] = {}

    def run(self, trial: Trial, where: Path | None = None) -> None:
        """Try, and note what was lost."""
        tally = self.tallies.setdefault(trial.kind, Tally())
        folder = where or self._folder / "trial"
        folder.mkdir(exist_ok=True)
        try:
            self._disturb(trial, folder / OUTPUT, tally)
            self._goes_on(trial, folder / OUTPUT)
        except LostError as lost:
            tally.lost.append(f"{trial}: {lost}")
        tally.tried += 1
        if where is None:
            shutil.rmtree(folder)

    def _disturb(self, trial: Trial, output: Path, tally: Tally) -> None:
        if trial.work == "export":
            shutil.copytree(self.undisturbed.output, output)
        for fault in trial.faults or (NEVER,):
            run = Run(trial.work, self._slide, output, fault)
            if trial.after is not None:
                run.until_begun()
                run.kill_after(trial.after * self.undisturbed.seconds[trial.work])
            said = run.end()
            point = run.killed_at
            if point is not None:
                tally.killed_at[point] = tally.killed_at.get(point, 0) + 1
            if said.ended:
                _stopped_in_order(said, fault)
            self.look(output, said.rows)

    def look(self, output: Path, rows: int) -> None:
        """Reopened it shows whole chunks only, and at least the rows that were announced."""
        if not output.exists():
            check(rows == 0, f"{rows} rows were announced, and there is no result")
            return
        with ProbabilityMap.open(output) as result:
            finished = result.finished
            check(result.status != "running", "a dead run reads as running")
            kept = int(finished.all(1).sum())
            check(kept >= rows, f"{rows} rows were announced, {kept} are there")
            covered = np.asarray(result.coverage[0])
            values = np.asarray(result.levels[0])
            grid = result.grid
        true, undisturbed = self.undisturbed.coverage, self.undisturbed.values
        check(not (covered & ~true).any(), "pixels are covered that ought not to be")
        check(
            (values[:, covered] == undisturbed[:, covered]).all(),
            "covered pixels have other values",
        )
        for row, column in np.argwhere(finished).tolist():
            inside = grid.chunk_region(row, column).slices
            check((covered[inside] == true[inside]).all(), f"chunk {row}, {column} is not whole")

    def _goes_on(self, trial: Trial, output: Path) -> None:
        """The same run, undisturbed, ends as if nothing had happened."""
        run = Run(trial.work, self._slide, output)
        said = run.end()
        check(said.ended, "the run that goes on died")
        check(said.error is None, f"the run that goes on failed: {said.error}")
        if trial.work == "export":
            made = output.with_name("a.geojson").read_bytes()
            check(made == self.undisturbed.export, "the export differs")
        self.equal(output)

    def equal(self, output: Path) -> None:
        """It is the undisturbed result, and nothing lies beside it."""
        with ProbabilityMap.open(output) as result:
            check(result.status == "complete", f"it ends {result.status}")
            check(result.finished.all(), "chunks are missing")
        left = [p.name for p in output.parent.iterdir() if p.name not in {OUTPUT, "a.geojson"}]
        check(not left, f"{left} is left")
        mine, theirs = _but_job(contents(output)), _but_job(self.undisturbed.contents)
        differs = sorted(n for n in {*mine, *theirs} if mine.get(n) != theirs.get(n))
        check(not differs, f"{differs} differ")


def _stopped_in_order(said: Said, fault: str) -> None:
    """Whoever lives on after a fault says so in one sentence, and leaves no thread."""
    check(not said.threads, f"threads stay: {said.threads}")
    what = fault.rpartition(":")[2]
    if what != "kill":
        check(said.error is not None, "the disk refused, and nobody heard of it")
    if said.error is not None:
        kind, sentence = said.error
        check(kind in {"StoreError", "ExportError"}, f"{kind} in place of a sentence: {sentence}")
        check("\n" not in sentence, f"more than a sentence: {sentence}")
        if what != "kill":
            cause = os.strerror(getattr(errno, what))
            check(cause in sentence, f"the cause ({cause}) is not told: {sentence}")


def _but_job(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what was asked for: how much memory changes no bit."""
    root = json.loads(files["zarr.json"])
    root["attributes"]["napari_wsiseg"].pop("job", None)
    return {**files, "zarr.json": json.dumps(root, sort_keys=True).encode()}


def drawn(undisturbed: Undisturbed, moments: int, seed: int) -> Iterator[Trial]:
    """Kills spread over the whole run: half by write points, half by time, one in each stretch.

    Every third run that goes on is killed too.
    """
    rng = np.random.default_rng(seed)
    by_points, total = moments // 2, undisturbed.count("any")
    for part in range(by_points):
        count = 1 + int((part + rng.random()) / by_points * total)
        again = (f"any:{int(rng.integers(1, total))}:kill",) if part % 3 == 0 else ()
        yield Trial("kill at a drawn write", faults=(f"any:{count}:kill", *again))
    by_time = moments - by_points
    for part in range(by_time):
        yield Trial("kill at a drawn time", after=(part + rng.random()) / by_time)


_WORKS: dict[Point, Work] = {"spill": "spill", "export": "export"}


def named(undisturbed: Undisturbed, what: str, places: int) -> Iterator[Trial]:
    """A fault at each write point, at so many passings spread over those of a run.

    Parameters
    ----------
    undisturbed
        Says how often each point is passed.
    what
        "kill" or an errno's name.
    places
        How many: the middle of each of so many stretches.
    """
    for point in POINTS:
        work = _WORKS.get(point, "segment")
        total = undisturbed.count(point, work)
        counts = np.unique(np.ceil((np.arange(places) + 0.5) / places * total).astype(int))
        check(total, f"no run passes the write point {point!r}")
        for count in counts:
            yield Trial(f"{what} at {point}", work, (f"{point}:{count}:{what}",))
