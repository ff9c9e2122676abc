"""Finds results in folders and patterns, and sums up what became of them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_wsiseg.cli.terminal import say, sentence
from napari_wsiseg.documents import from_home
from napari_wsiseg.errors import JobError, WsisegError
from napari_wsiseg.store import is_result
from napari_wsiseg.words import several


def find_results(arguments: Iterable[str]) -> list[Path]:
    """Results, folders of results and patterns -> results, in the order given, each once.

    A path that is named and is no result, and holds none, is taken as it is: what is wrong
    with it is said when it is opened, and stops no other.

    Raises
    ------
    JobError
        If a pattern stands for nothing.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = from_home(Path(argument))
        if path.is_dir() and not is_result(path):
            results = [member for member in sorted(path.iterdir()) if is_result(member)] or [path]
        elif path.exists() or not glob.has_magic(argument):
            results = [path]
        else:
            # Not `Path.glob`: a pattern may start anywhere, also at a root.
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207
            results = [Path(name) for name in sorted(names) if is_result(Path(name))]
        if not results:
            raise JobError(f"There is no result that {argument} stands for; check the pattern.")
        found.update(dict.fromkeys(results))
    return list(found)


def status_after(failed: Sequence[tuple[Path, Exception]], results: int) -> int:
    """The exit status, after a list of what failed of that many results.

    0 nothing failed, 1 some did or for a reason that nobody foresaw, 2 all did.
    """
    if failed and results > 1:
        say(f"{len(failed)} of {several(results, 'result')} failed:")
        for path, why in failed:
            say(f"  {path}: {sentence(why)}")
    if not failed:
        return 0
    foreseen = all(isinstance(why, WsisegError | OSError) for _, why in failed)
    return 2 if foreseen and len(failed) == results else 1
