"""Feeds spoiled files to every reader: `python tests/hostile/fuzz.py --seconds 60 --seed 1`.

Prints a table: of each reader how many files were tried, how many it opened, how many it refused in
a sentence, and what it did worse. Exit status 1 where there is any of the last. A hang, a crash
or a breach of the memory limit ends the process: the case that did it stays in the folder that
`--keep` names, and a parent that watches (`tests/hostile/test_fuzz.py`) sees the status.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import napari_wsiseg as ws  # noqa: E402 - found by the line above
from hostile.targets import TARGETS, Target  # noqa: E402

PATIENCE_S = 20
ROOM = 4 * 2**30
_OUTSIDE = b"a file of the user's" * 100
_FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")
# Of each event the arguments that are names, and those that are the folders these are told from.
_WRITES: dict[str, tuple[tuple[int, int], ...]] = {
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, 1),),
    "os.chmod": ((0, 2),),
}


class HangError(BaseException):
    """A case took longer than anything may."""


class Watch:
    """Notes what is done that no reader may do: programs run, files written outside."""

    def __init__(self, allowed: Path) -> None:
        self.allowed = allowed.resolve()
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event in _FORBIDDEN:
            self.seen.append(f"{event} {args!r:.100}")
        elif event == "open" and isinstance(args[0], (str, bytes)):
            flags = args[2] if isinstance(args[2], int) else 0
            if flags & (os.O_WRONLY | os.O_RDWR):
                self._check(event, args[0])
        for name, folder in _WRITES.get(event, ()):
            self._check(event, args[name], args[folder] if folder < len(args) else -1)

    def _check(self, event: str, name: object, folder: object = -1) -> None:
        if not isinstance(name, (str, bytes)):
            return  # a file that is open
        is_within = isinstance(folder, int) and folder >= 0
        base = Path(f"/proc/self/fd/{folder}").readlink() if is_within else Path.cwd()
        place = Path(os.path.abspath(base / os.fsdecode(name)))  # noqa: PTH100 - links are not followed
        real = place.parent.resolve() / place.name
        if not real.is_relative_to(self.allowed) and place.parts[:2] not in (
            ("/", "dev"),
            ("/", "proc"),
        ):
            self.seen.append(f"{event} {place}")


def main(arguments: list[str]) -> int:
    """Fuzz for a while; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60, help="for all readers together")
    parser.add_argument("--cases", type=int, default=10**9, help="of each reader, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--keep", type=Path, help="where cases that went wrong are kept")
    asked = parser.parse_args(arguments)
    names = asked.target or [name for name, target in TARGETS.items() if not target.missing]
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, held + ROOM))
    signal.signal(signal.SIGALRM, _hang)
    faulthandler.enable()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "temporary")
        Path(tempfile.tempdir).mkdir()
        watch = Watch(folder)
        print(f"{'reader':10} {'tried':>7} {'opened':>7} {'refused':>8} {'worse':>6}")
        for number, target in enumerate(names):
            draw = Random(f"{asked.seed} {target}")
            until = time.monotonic() + asked.seconds / len(names)
            counts = _fuzz(TARGETS[target], folder / str(number), draw, until, asked, watch)
            failed += counts["worse"]
            print(
                f"{target:10} {counts.total():7} {counts['opened']:7} {counts['refused']:8} "
                f"{counts['worse']:6}", flush=True,
            )  # fmt: skip
    return 1 if failed else 0


def _fuzz(
    target: Target,
    folder: Path,
    draw: Random,
    until: float,
    asked: argparse.Namespace,
    watch: Watch,
) -> Counter[str]:
    counts: Counter[str] = Counter()
    sound = folder / "sound"
    sound.mkdir(parents=True)
    target.seeds(sound)
    seeds = sorted(sound.iterdir())
    outside = folder / "outside"
    outside.write_bytes(_OUTSIDE)
    for seed in seeds:
        _read(target, seed, folder, watch)  # what is sound opens
    while counts.total() < asked.cases and time.monotonic() < until:
        seed = draw.choice(seeds)
        case = folder / "case"
        case.mkdir()
        path = case / seed.name
        target.spoiled(seed, path, outside, draw)
        if asked.keep:
            _kept(case, asked.keep / "last")
        try:
            _read(target, path, folder, watch)
        except ws.WsisegError as error:
            good = str(error).endswith((".", "?")) and "\n" not in str(error)
            counts["refused" if good else "worse"] += 1
            if not good:
                _tell(f"no sentence: {str(error)!r:.200}", case, asked.keep, counts)
        except (Exception, HangError) as error:  # noqa: BLE001 - what a reader may not do
            counts["worse"] += 1
            _tell("".join(traceback.format_exception(error)[-6:]), case, asked.keep, counts)
        else:
            counts["opened"] += 1
        if watch.seen:
            counts["worse"] += 1
            _tell(f"did what it may not: {watch.seen}", case, asked.keep, counts)
            watch.seen.clear()
        if outside.read_bytes() != _OUTSIDE:
            counts["worse"] += 1
            _tell("wrote through a link", case, asked.keep, counts)
            outside.write_bytes(_OUTSIDE)
        shutil.rmtree(case, ignore_errors=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(folder / "out")
    return counts


def _read(target: Target, path: Path, folder: Path, watch: Watch) -> None:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    signal.alarm(PATIENCE_S)
    # Where nothing else ends it: says where, and ends the process.
    faulthandler.dump_traceback_later(2 * PATIENCE_S, exit=True)
    watch.on = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path, out)
    finally:
        watch.on = False
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


def _tell(what: str, case: Path, keep: Path | None, counts: Counter[str]) -> None:
    print(f"--- {case}\n{what}", file=sys.stderr, flush=True)
    if keep:
        _kept(case, keep / f"{case.parent.name}-{counts.total()}")


def _kept(case: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(case, place, symlinks=True)


def _hang(*_: object) -> None:
    raise HangError(f"after {PATIENCE_S} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
