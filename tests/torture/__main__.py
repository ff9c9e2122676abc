"""All of it, as a table: `./scripts/torture`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from napari_wsiseg.faults import Point
from torture.disks import SCENES, on_a_small_disk, reason_against
from torture.interrupts import interrupted
from torture.runs import preload, slide_at
from torture.trials import Bench, Tally, drawn, named
from torture.writers import second_writer

MOMENTS = 50
PLACES = 5
ERRORS = ("ENOSPC", "EDQUOT", "EROFS", "EIO")
WITHIN: tuple[Point, ...] = ("levels", "journal")
"""Writes that a kill must have met, or nothing was shown."""


def main() -> int:
    """Torture, print, and say by the exit status whether anything was lost."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="draws other moments")
    parser.add_argument("--moments", type=int, default=MOMENTS, help="kills over the whole run")
    arguments = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        folder = Path(name)
        bench = Bench(folder, slide_at(folder))
        reasons = _try_all(bench, folder, arguments.moments, arguments.seed)
    lines = [*table(bench.tallies), *reasons, *lost(bench.tallies)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if lost(bench.tallies) else 0


def _try_all(bench: Bench, folder: Path, moments: int, seed: int) -> list[str]:
    """Run every trial; why some were not."""
    undisturbed = bench.undisturbed
    trials = [
        *drawn(undisturbed, moments, seed),
        *chain.from_iterable(named(undisturbed, what, PLACES) for what in ("kill", *ERRORS)),
    ]
    for number, trial in enumerate(trials, 1):
        sys.stderr.write(f"\r{number} of {len(trials)}: {trial.kind:<40}")
        bench.run(trial)
    sys.stderr.write("\n")
    second_writer(bench, folder)
    if sys.platform != "win32":
        interrupted(bench, folder, moments, seed)
    if reason := reason_against():
        return [f"Left out: {', '.join(SCENES)}: {reason}."]
    for kind in SCENES:
        on_a_small_disk(bench, folder, kind)
    return []


def table(tallies: dict[str, Tally]) -> Iterator[str]:
    """Markdown: faults tried, survived, lost."""
    yield from ("| Fault | Tried | Survived | Lost |", "| --- | ---: | ---: | ---: |")
    for kind, tally in tallies.items():
        yield f"| {kind} | {tally.tried} | {tally.tried - len(tally.lost)} | {len(tally.lost)} |"
    tried = sum(tally.tried for tally in tallies.values())
    failed = sum(len(tally.lost) for tally in tallies.values())
    yield f"| **all** | {tried} | {tried - failed} | {failed} |"


def lost(tallies: dict[str, Tally]) -> list[str]:
    """What was lost, and whether the kills met what they ought to."""
    sentences = [f"LOST {sentence}" for tally in tallies.values() for sentence in tally.lost]
    met = {point for tally in tallies.values() for point in tally.killed_at}
    missed = [point for point in WITHIN if point not in met]
    if missed:
        sentences.append(f"NOTHING SHOWN: no kill fell inside the writes {', '.join(missed)}.")
    return sentences


if __name__ == "__main__":
    sys.exit(main())
