"""Two runs at one result: only the first that lives may write."""

from __future__ import annotations

import shutil
from pathlib import Path

from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.store.lock import LOCKS
from napari_wsiseg.store.owner import Owner
from torture.runs import Run
from torture.trials import OUTPUT, Bench, LostError, Tally, check

KIND = "second writer"


def second_writer(bench: Bench, folder: Path) -> Tally:
    """The second is refused while the first lives, though that rests; a dead one is followed."""
    tally = bench.tallies.setdefault(KIND, Tally())
    tally.tried += 1
    folder = folder / "two"
    folder.mkdir()
    try:
        _two(bench, folder / OUTPUT)
    except LostError as lost:
        tally.lost.append(f"{KIND}: {lost}")
    shutil.rmtree(folder)
    return tally


def _two(bench: Bench, output: Path) -> None:
    slide = bench.undisturbed.slide
    first = Run("hold", slide, output)
    first.until_row()
    said = Run("segment", slide, output).end()
    _refused(said.error, f"is being written by process {first.process.pid} on ")
    with ProbabilityMap.open(output) as result:
        check(result.status == "running", f"the first run reads as {result.status}")
    first.process.kill()
    first.end()
    bench.look(output, first.said.rows)
    other = Owner(1, 1.0, "far-away")
    (output / LOCKS).mkdir(exist_ok=True)
    (output / LOCKS / other.name).touch()
    said = Run("segment", slide, output).end()
    file = output / LOCKS / other.name
    _refused(said.error, f"process 1 on far-away; wait for it, or remove {file} if it no longer")
    file.unlink()
    said = Run("segment", slide, output).end()
    check(said.error is None, f"the lock of a dead process was not taken over: {said.error}")
    bench.equal(output)
    check(not (output / LOCKS).exists(), "a lock is left")


def _refused(error: tuple[str, str] | None, words: str) -> None:
    check(error is not None, "a second run was let in")
    kind, sentence = error or ("", "")
    check(kind == "StoreError" and words in sentence, f"it is refused otherwise: {sentence}")
