"""An export as the window sees it: steps that may be stopped, and an end. No Qt."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_wsiseg._napari.runs import told
from napari_wsiseg.errors import ExportError, WsisegError

if TYPE_CHECKING:
    from napari_wsiseg._napari.switch import Switch
    from napari_wsiseg.export import Step
    from napari_wsiseg.labels import Cleanup, DecisionRule
    from napari_wsiseg.store import ProbabilityMap

_OUT_OF_MEMORY = (
    "There was not enough memory for the export; close other programs, and export again: nothing "
    "half-written is left."
)


@dataclass(frozen=True)
class ExportOrder:
    """What is to be written.

    Parameters
    ----------
    pm, rule, cleanup
        Of the result, as the window shows it.
    format
        As `ws.export` takes it.
    path
        Where to; None: inside the result.
    options
        The rest that `ws.export` takes.
    """

    pm: ProbabilityMap
    rule: DecisionRule
    cleanup: Cleanup
    format: str
    path: Path | None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportEnd:
    """How an export ended.

    Parameters
    ----------
    path
        What was written; None where that is nothing.
    remarks
        What the user should know.
    error
        Why it failed; None where it did not, or was stopped.
    """

    path: Path | None
    remarks: tuple[str, ...] = ()
    error: WsisegError | None = None


def export_run(order: ExportOrder, switch: Switch) -> Generator[Step, None, ExportEnd]:
    """Write it; every error, whatever its type, is part of the answer."""
    from napari_wsiseg.export import export_path, export_steps

    remarks: list[str] = []
    try:
        target = export_path(order.pm, order.path, order.format)
        steps = export_steps(
            order.pm, target, order.format, order.rule, order.cleanup, **order.options
        )
        with closing(steps):
            for step in steps:
                if step.remark:
                    remarks.append(step.remark)
                yield step
                if step.stage != "done" and not switch.passes():
                    return ExportEnd(None)
        return ExportEnd(target, tuple(remarks))
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - see above
        return ExportEnd(None, (), told(error, ExportError, _OUT_OF_MEMORY))
