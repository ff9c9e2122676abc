"""What a run comes to, how far it is and how it ended, in the dock's words. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsiseg.words import clock, in_resolution, several

if TYPE_CHECKING:
    from napari_wsiseg._napari.runs import RunEnd
    from napari_wsiseg.engine import Progress, RunPlan
    from napari_wsiseg.geometry import Resolution
    from napari_wsiseg.slides import SlideInfo
    from napari_wsiseg.spec import ModelSpec
    from napari_wsiseg.store import ProbabilityMap


@dataclass(frozen=True)
class Foretold:
    """What a run comes to, and what to beware of."""

    text: str
    warning: str


def foretold_words(plan: RunPlan, spec: ModelSpec) -> Foretold:
    """Like "0.5 µm/px -> 2216 x 2961 px, 35 patches, about 1 min, 20 MB on disk, ...", and the
    plan's warnings.
    """
    from napari_wsiseg.engine.words import plan_words

    text = plan_words(plan)
    if plan.resolution != spec.resolution:
        text += f"\n{spec.name} is made for {in_resolution(spec.resolution)}."
    # What is to be known of the tissue stands where the tissue is chosen.
    known = () if plan.tissue is None else plan.tissue.warnings
    return Foretold(text, " ".join(w for w in plan.warnings if w not in known))


def unreachable_words(wanted: Resolution, info: SlideInfo) -> str:
    """Why a slide without a scale cannot be read at a resolution; empty where it can."""
    is_relative = wanted.unit in ("level", "baseline")
    by_objective = wanted.unit == "power" and info.objective_power is not None
    if info.mpp is not None or is_relative or by_objective:
        return ""
    return (
        f"The slide does not say its µm per pixel, so {in_resolution(wanted)} cannot be reached: "
        "give it in section 1, or offer levels under Advanced and choose one here."
    )


def progress_words(step: Progress, *, from_disk: bool) -> str:
    """Like "Row 3 of 12 · 210 of 900 patches · 31 patches/s · 0:22 left"."""
    parts = [
        f"Row {step.row} of {step.rows}",
        f"{step.patches_done} of {several(step.patches_total, 'patch')}",
    ]
    if step.elapsed > 0 and step.patches_done:
        parts.append(f"{step.patches_done / step.elapsed:.3g} patches/s")
    if step.eta is not None and step.kind != "done":
        parts.append(f"{clock(step.eta)} left")
    if from_disk:
        parts.append("working from disk")
    return " · ".join(parts)


def ended_words(end: RunEnd) -> str:
    """How the run ended, and what can be done now."""
    from napari_wsiseg.store import left_out_words

    if end.status == "failed" and end.error is not None:
        kept = "" if end.result is None else " Finished rows are kept; Segment goes on from there."
        return f"⚠ Failed: {end.error}{kept}"
    if end.result is None:
        return "Cancelled before the first patch: nothing was written."
    where = "" if end.result.path is None else f" {end.result.path}"
    if end.status == "cancelled":
        return f"Cancelled; finished rows are kept, and Segment goes on from there.{where}"
    lacks = left_out_words(end.result)
    return f"Done.{where}" if not lacks else f"Done, but ⚠ {lacks}{where}"


def result_title(name: str, pm: ProbabilityMap) -> str:
    """Like "CMU-1 · he-stain (cancelled, 2 patches left out)"; a result that is whole has no notes.

    Raises
    ------
    StoreError
        If the result is gone or damaged.
    """
    status, failed = pm.status, len(pm.failed_patches)
    notes: list[str] = [] if status == "complete" else [status]
    if failed:
        notes.append(f"{several(failed, 'patch')} left out")
    return f"{name} ({', '.join(notes)})" if notes else name
