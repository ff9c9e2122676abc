"""Processes that do the same thing at the same moment, round after round."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from napari_wsiseg.errors import WsisegError

Act = Callable[[Path, str], AbstractContextManager[object]]
"""What one does to a place, under the name that it was given; left when all have done theirs."""

# A round takes milliseconds; one that takes this long hangs.
_HANGS = 120

_processes = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")


def race(places: Sequence[Path], **acts: Act) -> list[dict[str, str | None]]:
    """Let each of `acts` loose on one place after the other, all at the same moment.

    Returns
    -------
    For each place what each act was refused with, or None where it came to its end.
    """
    barrier = _processes.Barrier(len(acts))
    if sys.platform != "win32":
        _processes.set_forkserver_preload(["store.races", "store.helpers"])
    racers = {}
    for name, act in acts.items():
        ours, theirs = _processes.Pipe(duplex=False)
        process = _processes.Process(target=_run, args=(act, name, places, barrier, theirs))
        process.start()
        theirs.close()
        racers[name] = process, ours
    said: dict[str, list[str | None]] = {}
    for name, (process, ours) in racers.items():
        assert ours.poll(_HANGS), f"{name} hangs"
        said[name] = ours.recv()
        process.join(_HANGS)
        assert process.exitcode == 0
    return [{name: said[name][i] for name in said} for i in range(len(places))]


def _run(act: Act, name: str, places: Sequence[Path], barrier: Barrier, told: Connection) -> None:
    said: list[str | None] = []
    for place in places:
        barrier.wait(_HANGS)
        with ExitStack() as held:
            said.append(_error(partial(_enter, held, act, place, name)))
            barrier.wait(_HANGS)
            said[-1] = said[-1] or _error(held.close)
        # What the others leave is left when the next round begins.
        barrier.wait(_HANGS)
    told.send(said)


def _enter(held: ExitStack, act: Act, place: Path, name: str) -> None:
    held.enter_context(act(place, name))


def _error(do: Callable[[], object]) -> str | None:
    """What is raised: of ours the sentence, of others the type too."""
    try:
        do()
    except WsisegError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the test shows it
        return f"{type(error).__name__}: {error}"
    return None
