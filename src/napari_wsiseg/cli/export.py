"""`export RESULT...`: one result after the other; a bad one does not stop the rest."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_wsiseg.cli.decisions import Thresholds
from napari_wsiseg.cli.interrupt import Interrupt
from napari_wsiseg.cli.results import find_results, status_after
from napari_wsiseg.cli.terminal import console, fail, out, say
from napari_wsiseg.errors import ExportError
from napari_wsiseg.export import FORMATS, export_path, export_steps
from napari_wsiseg.export.formats import ExportFormat, format_named
from napari_wsiseg.labels import Cleanup
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.store import ProbabilityMap

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from napari_wsiseg.export import Step


_FLAGS = {
    "per": "--per",
    "object_type": "--object-type",
    "simplify_um": "--simplify",
    "content": "--content",
    "not_analysed": "--not-analysed",
    "slide": "--slide",
    "size": "--size",
}
"""What the options of single formats are called here."""


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
    _check_options(format_named(settings.format), settings.options)
    results = find_results(arguments)
    if settings.output is not None and len(results) > 1 and not settings.output.is_dir():
        raise ExportError(
            f"{settings.output} cannot hold the exports of {len(results)} results; "
            "give a folder that is there."
        )
    failed: list[tuple[Path, Exception]] = []
    with Interrupt():
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
    return status_after(failed, len(results))


def _check_options(chosen: ExportFormat, options: Mapping[str, Any]) -> None:
    """Raise ExportError, in this command's words, if an option is not the format's."""
    for name, flag in _FLAGS.items():
        if name in options and name not in chosen.options:
            takers = [other.name for other in FORMATS.values() if name in other.options]
            raise ExportError(f"{flag} is not for {chosen.name}, but for {' and '.join(takers)}.")
    if "slide" in chosen.options and "slide" not in options:
        raise ExportError(f"A {chosen.name} shows the slide; say where it is with --slide FILE.")


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
