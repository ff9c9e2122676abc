"""`export RESULT...`: one result after the other; a bad one does not stop the rest."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_wsiseg.cli.decisions import Thresholds
from napari_wsiseg.cli.results import find_results
from napari_wsiseg.cli.terminal import console, fail, out, say, sentence
from napari_wsiseg.errors import ExportError, WsisegError
from napari_wsiseg.export import export_path, export_steps
from napari_wsiseg.export.formats import format_named
from napari_wsiseg.labels import Cleanup
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.words import several

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from napari_wsiseg.export import Step


@dataclass(frozen=True)
class ExportSettings:
    """What holds for all results of a command.

    Parameters
    ----------
    format
        The format's name.
    thresholds, cleanup
        What makes a label.
    options
        The other options of `export_steps`.
    output
        The file; a folder where there are several results; None: beside each.
    verbose
        Whether errors come with their tracebacks.
    """

    format: str
    thresholds: Thresholds
    cleanup: Cleanup
    options: Mapping[str, Any]
    output: Path | None
    verbose: bool = False


def export_results(arguments: Sequence[str], settings: ExportSettings) -> int:
    """Export results; the exit status.

    Raises
    ------
    JobError, ExportError
        If there is no such result or format, or one file is to hold several results.
    """
    format_named(settings.format)
    results = find_results(arguments)
    if settings.output is not None and len(results) > 1 and not settings.output.is_dir():
        raise ExportError(
            f"{settings.output} cannot hold the exports of {len(results)} results; "
            "give a folder that is there."
        )
    failed: list[tuple[Path, Exception]] = []
    for result in results:
        try:
            _export(result, settings)
        except BrokenPipeError:
            raise
        # Libraries fail in ways that nobody lists; the other results are not to blame.
        except Exception as error:  # noqa: BLE001
            failed.append((result, error))
            fail(error, verbose=settings.verbose)
    if len(failed) < len(results):
        out(RESEARCH_USE)
    if failed and len(results) > 1:
        say(f"{len(failed)} of {several(len(results), 'result')} failed:")
        for path, why in failed:
            say(f"  {path}: {sentence(why)}")
    if not failed:
        return 0
    foreseen = all(isinstance(why, WsisegError | OSError) for _, why in failed)
    return 2 if foreseen and len(failed) == len(results) else 1


def _export(result: Path, settings: ExportSettings) -> None:
    with ProbabilityMap.open(result) as pm:
        path = settings.output
        if path is not None and path.is_dir() and not format_named(settings.format).is_folder:
            path /= export_path(pm, None, settings.format).name
        elif path is not None and path.is_dir() and not (path / "zarr.json").exists():
            path /= result.name
        target = export_path(pm, path, settings.format)
        rule = settings.thresholds.rule_for(pm.spec)
        steps = export_steps(
            pm, target, settings.format, rule, settings.cleanup, **settings.options
        )
        with _shown() as bar, closing(steps):
            for step in steps:
                _show(step, bar)
    out(f"{settings.format}: {target}")


def _show(step: Step, bar: RichProgress | None) -> None:
    if step.remark:
        say(f"  {step.remark}")
    if bar is not None:
        bar.update(bar.task_ids[0], description=f"  {step.stage}", completed=step.part)


@contextmanager
def _shown() -> Iterator[RichProgress | None]:
    """A bar on a terminal; a pipe is told what was written, and no more."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bar:
        bar.add_task("", total=1.0)
        yield bar
