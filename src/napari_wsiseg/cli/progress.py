"""Shows a run's progress on stderr: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from napari_wsiseg.cli.terminal import console, say, warn
from napari_wsiseg.words import clock, in_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from napari_wsiseg.cli.interrupt import Interrupt
    from napari_wsiseg.engine import Progress

SECONDS_BETWEEN_LINES = 5.0


class Shown(Protocol):
    """What shows one step after the other."""

    def show(self, step: Progress) -> None:
        """Show a step."""


@contextmanager
def shown_progress(interrupt: Interrupt) -> Iterator[Shown]:
    """What fits the stream: a terminal gets a bar, all else lines."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    with _rich_progress(interrupt) as progress:
        yield Bar(progress)


def rows(step: Progress) -> str:
    """Like "row 3/6"."""
    return f"row {step.row}/{step.rows}"


def pace(step: Progress) -> str:
    """Like "18/35 patches, 4.5/s, 0:12 left, 0.4 GB"."""
    parts = [f"{step.patches_done}/{step.patches_total} patches"]
    if step.patches_done and step.elapsed > 0:
        parts.append(f"{step.patches_done / step.elapsed:.3g}/s")
    if step.eta is not None:
        parts.append(f"{clock(step.eta)} left")
    return ", ".join([*parts, in_bytes(step.memory)])


class Lines:
    """Every row a line, and batches at most every few seconds."""

    def __init__(self) -> None:
        self._last = 0.0

    def show(self, step: Progress) -> None:
        """Print a line where the step is worth one."""
        due = step.elapsed - self._last >= SECONDS_BETWEEN_LINES
        if step.kind == "row" or (step.kind == "batch" and due):
            self._last = step.elapsed
            say(f"  {rows(step)}: {pace(step)}")


class Bar:
    """A bar that fills patch by patch."""

    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def show(self, step: Progress) -> None:
        """Move the bar."""
        if step.patches_total == 0:
            return
        if self._task is None:
            self._task = self._progress.add_task("", total=step.patches_total, pace="")
        self._progress.update(
            self._task, description=rows(step), completed=step.patches_done, pace=pace(step)
        )


def tell(step: Progress, told: set[str]) -> None:
    """Print a step's message, once."""
    if step.message is not None and step.message not in told:
        told.add(step.message)
        if step.kind == "warning":
            warn(step.message)
        else:
            say(f"  {step.message}")


def _rich_progress(interrupt: Interrupt) -> RichProgress:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Pace(ProgressColumn):
        """Says at once that a stop was asked for, though the batch still runs."""

        def render(self, task: Task) -> Text:
            stopping = "stopping after this batch ..."
            return Text(stopping if interrupt.asked else task.fields["pace"])

    narrow = Column(no_wrap=True)
    return Progress(
        TextColumn("  {task.description}", markup=False, table_column=narrow),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        Pace(table_column=narrow),
        console=console(stderr=True),
        expand=True,
    )
