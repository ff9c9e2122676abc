"""Small file systems of our own, which fill up, turn read-only and go away. For root on Linux."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.runs import Run
from torture.trials import OUTPUT, Bench, Tally, check

_SIZE = 64 * 2**20


def reason_against() -> str | None:
    """Why no file system can be mounted here; None where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux mounts file systems"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        check=False,
    )
    return None if tried.returncode == 0 else "this container may not mount file systems"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs at `folder`, gone afterwards."""
    folder.mkdir()
    _call("mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder)
    try:
        yield folder
    finally:
        _call("umount", "-l", folder)
        folder.rmdir()


def fills_up(bench: Bench, disk: Path) -> None:
    """Others leave less and less room; each run stops in order; with room it ends equal."""
    output = disk / OUTPUT
    filler = disk / "others"
    stopped = 0
    for room in (0, 2**18, 2**20, 2 * 2**20, 3 * 2**20):
        run = Run("segment", bench.undisturbed.slide, output)
        if room:
            # That there is enough at the start is checked; others fill the disk meanwhile.
            run.until_begun()
        _leave(disk, filler, room)
        said = run.end()
        check(said.ended, "a run on a full disk died")
        check(not said.threads, f"threads stay: {said.threads}")
        if said.error is not None:
            kind, sentence = said.error
            check(kind == "StoreError", f"{kind} in place of a sentence: {sentence}")
            stopped += 1
        filler.unlink(missing_ok=True)
        bench.look(output, said.rows)
    check(stopped > 1, "nothing was shown: no run met a disk that filled up under it")
    _ends_equal(bench, output)


def turns_read_only(bench: Bench, disk: Path) -> None:
    """Nothing new is begun there, and nothing gone on with, until it can be written to again."""
    output = disk / OUTPUT
    for begun in (False, True):
        if begun:
            Run("segment", bench.undisturbed.slide, output, "levels:60:kill").end()
        _call("mount", "-o", "remount,ro", disk)
        try:
            said = Run("segment", bench.undisturbed.slide, output).end()
        finally:
            _call("mount", "-o", "remount,rw", disk)
        check(said.error is not None, "a run on a read-only disk ended well")
        kind, sentence = said.error or ("", "")
        check(kind == "StoreError", f"{kind} in place of a sentence: {sentence}")
        check("Read-only file system" in sentence, f"the cause is not told: {sentence}")
        bench.look(output, 0)
    _ends_equal(bench, output)


def goes_away(bench: Bench, disk: Path) -> None:
    """Unmounted under a run, which stops; nothing is written where the disk was."""
    output, kept = disk / OUTPUT, disk.with_name("kept")
    kept.mkdir()
    _call("mount", "--bind", disk, kept)
    try:
        run = Run("segment", bench.undisturbed.slide, output)
        run.until_row()
        _call("umount", "-l", disk)
        try:
            said = run.end()
            check(said.ended, "a run whose disk went away died")
            left = [path.name for path in disk.iterdir()]
            check(not left, f"{left} was made where the disk was")
            if said.error is not None:
                check(said.error[0] == "StoreError", f"no sentence: {said.error}")
        finally:
            _call("mount", "--bind", kept, disk)
        bench.look(output, said.rows)
        _ends_equal(bench, output)
    finally:
        _call("umount", "-l", kept)
        kept.rmdir()


SCENES = {
    "disk that fills up (tmpfs)": fills_up,
    "disk that turns read-only (tmpfs)": turns_read_only,
    "disk that is unmounted (tmpfs)": goes_away,
}


def on_a_small_disk(bench: Bench, folder: Path, kind: str) -> Tally:
    """Play one of the scenes."""
    tally = bench.tallies.setdefault(kind, Tally())
    tally.tried += 1
    try:
        with small_disk(folder / "disk") as disk:
            SCENES[kind](bench, disk)
    except AssertionError as lost:
        tally.lost.append(f"{kind}: {lost}")
    return tally


def _ends_equal(bench: Bench, output: Path) -> None:
    said = Run("segment", bench.undisturbed.slide, output).end()
    check(said.error is None, f"the run that goes on failed: {said.error}")
    bench.equal(output)


def _leave(disk: Path, filler: Path, room: int) -> None:
    """Fill the disk until so many bytes are left."""
    with filler.open("wb") as file:
        status = os.statvfs(disk)
        free = status.f_bavail * status.f_frsize - room
        if free > 0:
            os.posix_fallocate(file.fileno(), 0, free)


def _call(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)
