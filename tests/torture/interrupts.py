"""Ctrl-C at drawn moments of a run, in a process that lives on, as a notebook does.

No row that the writer had is lost, nothing stays, and the same process goes on with the run.
"""

from __future__ import annotations

import gc
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Literal

import numpy as np
import zarr

from napari_wsiseg.engine import plan, segment, stages
from napari_wsiseg.models.gpu import GpuPlace
from napari_wsiseg.store import MapWriter, ProbabilityMap, lock
from torture.runs import job_of, model, processes
from torture.trials import OUTPUT, Bench, Tally

By = Literal["time", "call"]
Merging = Literal["aside", "in the caller's thread"]

# A run takes a second; one that takes this long hangs.
_HANGS, _SOON = 120.0, 5.0


@dataclass(frozen=True)
class Strike:
    """One Ctrl-C.

    Parameters
    ----------
    by
        What the moment counts: seconds of the run, or calls that the caller's thread makes; at
        either place Python may raise KeyboardInterrupt.
    moment
        When.
    merging
        Where answers are merged, and rows handed over: beside the caller, or, as with a GPU, in
        the caller's own thread.
    """

    by: By
    moment: float
    merging: Merging


@dataclass
class Outcome:
    """What became of a run.

    Parameters
    ----------
    seconds, calls
        What it took until it ended or was struck.
    lost
        A sentence for each thing that is not as it should be.
    """

    seconds: float = 0.0
    calls: int = 0
    lost: list[str] = field(default_factory=list)


def interrupted(bench: Bench, folder: Path, count: int, seed: int) -> None:
    """Strike so many runs of each kind, spread over their course, and note what was lost."""
    rng = np.random.default_rng(seed)
    slide = bench.undisturbed.slide
    for merging in ("aside", "in the caller's thread"):
        whole = _outcome(Strike("call", np.inf, merging), slide, folder / "whole" / OUTPUT)
        shutil.rmtree(folder / "whole")
        for by, total in (("time", whole.seconds), ("call", whole.calls)):
            tally = bench.tallies.setdefault(f"Ctrl-C at a drawn {by}", Tally())
            for part in range(count):
                strike = Strike(by, (part + rng.random()) / count * total, merging)
                output = folder / "struck" / OUTPUT
                outcome = _outcome(strike, slide, output)
                tally.tried += 1
                lost = outcome.lost or _differences(bench, output)
                if lost:
                    tally.lost.append(f"{strike}: {'; '.join(lost)}")
                shutil.rmtree(output.parent, ignore_errors=True)


def _differences(bench: Bench, output: Path) -> list[str]:
    try:
        bench.equal(output)
    except AssertionError as lost:
        return [str(lost)]
    return []


def _outcome(strike: Strike, slide: Path, output: Path) -> Outcome:
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=_work, args=(strike, slide, output, theirs))
    process.start()
    theirs.close()
    try:
        outcome: Outcome = ours.recv() if ours.poll(_HANGS) else Outcome(lost=["it hangs"])
    except EOFError:
        outcome = Outcome(lost=["it died"])
    process.join(_HANGS)
    if process.is_alive():
        outcome.lost.append("its process does not end")
        process.kill()
        process.join()
    return outcome


def _work(strike: Strike, slide: Path, output: Path, told: Connection) -> None:
    """In the process: run, be struck, look, go on, and tell."""
    import torch

    torch.set_num_threads(1)
    job = job_of("segment", slide, output)
    # Modules that are loaded late are not what is tried; nor is Zarr, which never answers again
    # where it is interrupted just as it begins its own thread.
    plan(job, model=model())
    zarr.create_group(zarr.storage.MemoryStore())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if strike.merging != "aside":
        stages.place_for = _gpus_way  # type: ignore[assignment]
    begun = _noted_writers()
    outcome, rows = Outcome(), 0
    start = time.perf_counter()
    try:
        with _struck(strike, outcome), closing(segment(job, model=model())) as steps:
            for step in steps:
                rows = max(rows, step.row)
    except KeyboardInterrupt:
        outcome.seconds = time.perf_counter() - start
        outcome.lost += _left()
        if output.exists():
            outcome.lost += _rows_lost(output, begun, rows)
    else:
        outcome.seconds = time.perf_counter() - start
    # What the interrupted run still holds would hide what it never let go of.
    begun.clear()
    gc.collect()
    with closing(segment(job, model=model())) as steps:
        for _ in steps:
            pass
    outcome.lost += _left()
    told.send(outcome)
    told.close()


def _gpus_way(segmenter: object, _gpus: object, _workspace: object, *rest: object) -> GpuPlace:
    return GpuPlace(segmenter, ["cpu"], *rest)  # type: ignore[arg-type]


def _noted_writers() -> list[MapWriter]:
    """Those that have begun."""
    begun: list[MapWriter] = []
    begin = MapWriter.begin

    def noted(writer: MapWriter, chunks: np.ndarray) -> None:
        begin(writer, chunks)
        begun.append(writer)

    MapWriter.begin = noted  # type: ignore[method-assign]
    return begun


@contextmanager
def _struck(strike: Strike, outcome: Outcome) -> Iterator[None]:
    """Ctrl-C comes once while this is entered, unless it is over before."""
    if strike.by == "call":
        sys.setprofile(_counting(strike.moment, outcome))
        try:
            yield
        finally:
            sys.setprofile(None)
        return
    over, main = threading.Event(), threading.main_thread().ident
    assert main is not None

    def wait() -> None:
        if not over.wait(strike.moment):
            signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _counting(moment: float, outcome: Outcome) -> Callable[[FrameType, str, object], None]:
    """Python looks for signals where a function begins and where one of C's has ended."""

    def profile(_frame: FrameType, event: str, _function: object) -> None:
        if event in {"call", "c_return"}:
            outcome.calls += 1
            if outcome.calls >= moment:
                sys.setprofile(None)
                raise KeyboardInterrupt

    return profile


def _left() -> list[str]:
    """What a run left in its process."""
    ours = [t for t in threading.enumerate() if t.name.startswith("wsiseg")]
    # One that was interrupted before it was up ends by itself.
    for thread in ours:
        thread.join(_SOON)
    threads = [thread.name for thread in ours if thread.is_alive()]
    lost = [f"threads stay: {threads}"] if threads else []
    return lost + [f"locks stay: {list(lock._held)}"] * bool(lock._held)


def _rows_lost(output: Path, begun: list[MapWriter], announced: int) -> list[str]:
    with ProbabilityMap.open(output) as result:
        status, finished = result.status, result.finished.all(1)
    lost = [f"it reads as {status}"] if status == "running" else []
    if finished.sum() < announced:
        lost.append(f"{announced} rows were announced, {finished.sum()} are there")
    for writer in begun:
        complete = [row for row in range(len(finished)) if writer._is_complete(row)]
        if not finished[complete].all():
            lost.append(f"of the rows {complete}, whose pixels had come, some are not there")
    return lost
