"""Runs of the engine in processes of their own, to be killed, starved of disk and run again."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from engine.engine_cases import PositionModel
from napari_wsiseg import faults
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.demo import write_slide
from napari_wsiseg.engine import plan, segment
from napari_wsiseg.errors import WsisegError
from napari_wsiseg.export import export
from napari_wsiseg.geometry import Size
from napari_wsiseg.store import ProbabilityMap

ROOT = Path(__file__).resolve().parents[2]
REAL_SLIDE = ROOT.parent / "shared" / "data" / "CMU-1-Small-Region.svs"

Work = Literal["segment", "spill", "hold", "export"]
"""A run, one that works from disk, one that rests at its first row, an export of a result."""

NEVER = "any:1000000000:kill"
"""Counts what is passed."""

# A run takes a second; one that takes this long hangs.
_HANGS = 600

# Windows has no forks; elsewhere a server that has loaded everything makes a run in milliseconds.
processes = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")


@dataclass
class Said:
    """What a process said of itself before it ended.

    Parameters
    ----------
    rows
        Finished rows of chunks that it announced.
    ended
        Whether it came to its end, good or bad.
    error
        The error's type and sentence; None where there was none.
    passed
        How often it passed each write point; known at its end.
    threads
        Threads of ours that it left.
    """

    rows: int = 0
    ended: bool = False
    error: tuple[str, str] | None = None
    passed: dict[str, int] = field(default_factory=dict)
    threads: list[str] = field(default_factory=list)


class Run:
    """A process that segments, or exports, and may die of it.

    Parameters
    ----------
    work
        What it does.
    slide
        The slide's file.
    output
        The result.
    fault
        As in `faults.VARIABLE`.
    """

    def __init__(self, work: Work, slide: Path, output: Path, fault: str = NEVER) -> None:
        self._ours, theirs = processes.Pipe(duplex=False)
        self.process: BaseProcess = processes.Process(
            target=_work, args=(work, slide, output, fault, theirs)
        )
        self.process.start()
        theirs.close()
        self.said = Said()

    def until_begun(self) -> None:
        """Wait until it has loaded what it needs."""
        self._hear(_HANGS)

    def until_row(self) -> None:
        """Wait until it announces a row."""
        while not self.said.rows and self._hear(_HANGS):
            pass

    def kill_after(self, seconds: float) -> None:
        """SIGKILL from outside, unless it has ended by then."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()

    def end(self) -> Said:
        """Wait for its end; one that hangs is killed, and has not `ended`."""
        while self._hear(_HANGS):
            pass
        self.process.join(_HANGS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._ours.close()
        return self.said

    @property
    def killed_at(self) -> faults.Point | None:
        """The write point at which it was killed."""
        status = self.process.exitcode
        return None if status is None else faults.killed_at(status)

    def _hear(self, seconds: float) -> bool:
        """Take one message; False where none comes any more."""
        try:
            if not self._ours.poll(seconds):
                return False
            message = self._ours.recv()
        except (EOFError, OSError):
            return False
        if isinstance(message, int):
            self.said.rows = message
        elif isinstance(message, Said):
            self.said = message
        return True


def model() -> PositionModel:
    """Patches overlap, and no two places in one answer alike: any offset shows."""
    return PositionModel(Size(320, 320), Size(256, 256), Size(216, 216))


def job_of(work: Work, slide: Path, output: Path) -> SegmentationJob:
    """What is run."""
    job = SegmentationJob(slide=slide, output=output, tissue="none", batch_size=4)
    if work == "spill":
        least = plan(job, model=model()).need.resident
        job = job.model_copy(update={"memory_limit": least + 2**20})
    return job


def slide_at(folder: Path) -> Path:
    """The real slide where it is at hand, else one that is made."""
    if REAL_SLIDE.exists():
        return REAL_SLIDE
    path = folder / "made.tiff"
    if not path.exists():
        write_slide(path)
    return path


def _work(work: Work, slide: Path, output: Path, fault: str, told: Connection) -> None:
    """In the process: do it, and tell."""
    import torch

    torch.set_num_threads(1)
    job = None if work == "export" else job_of(work, slide, output)
    armed, said = faults.arm(fault), Said()
    told.send("begun")
    try:
        if job is None:
            with ProbabilityMap.open(output) as result:
                export(result, output.with_name("a.geojson"), "geojson", overwrite=True)
        else:
            for step in segment(job, model=model()):
                if step.kind == "row":
                    said.rows = step.row
                    told.send(step.row)
                    if work == "hold":
                        threading.Event().wait()
    except (WsisegError, OSError) as error:
        said.error = (type(error).__name__, str(error))
    said.ended, said.passed = True, armed.passed
    said.threads = [t.name for t in threading.enumerate() if t.name.startswith("wsiseg")]
    told.send(said)
    told.close()
    # What torch and Zarr do when an interpreter ends is not what is tried.
    sys.stdout.flush()
    os._exit(0)


def preload() -> None:
    """Let later runs begin at once."""
    if sys.platform != "win32":
        processes.set_forkserver_preload(["torture.runs", "torch", "zarr", "shapely"])
