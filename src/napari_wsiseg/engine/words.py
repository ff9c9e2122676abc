"""What a run is going to do, in words."""

from __future__ import annotations

from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.words import about, in_bytes, in_mpp, several


def plan_words(plan: RunPlan) -> str:
    """Like "0.5 µm/px -> 2216 x 2961 px, 35 patches, about 1 min, 20 MB on disk".

    Without a scale, the resolution stands first as it was asked for. Of a result that is gone
    on with, what is left counts.
    """
    scale = str(plan.resolution) if plan.map_mpp is None else in_mpp(plan.map_mpp)
    size = f"{scale} -> {plan.size.width} x {plan.size.height} px"
    left, in_all = plan.patches, plan.patches_in_all
    if not left and in_all:
        return f"{size}, done before: nothing is left to compute"
    parts = [
        size,
        several(left, "patch") if left == in_all else f"{left} of {several(in_all, 'patch')} left",
        *([] if plan.seconds is None else [about(plan.seconds)]),
        f"{in_bytes(plan.disk_bytes)} on disk",
        f"{in_bytes(plan.memory_bytes)} of memory",
        *(["works from disk"] if plan.spills else []),
    ]
    return ", ".join(parts)


def stain_words(plan: RunPlan) -> str:
    """Like "Measured by (red, green, blue): glass 246, 243, 243; this slide"; empty if by none."""
    stains = plan.stains
    if stains is None:
        return ""
    parts = [f"glass {', '.join(f'{level:.4g}' for level in stains.background)}"]
    if len(plan.spec.classes) == 2:  # with one, darkness is measured, and no stain
        vectors = zip(plan.spec.classes, (stains.first, stains.second), strict=True)
        parts += [f"{name} {', '.join(f'{od:.2f}' for od in rgb)}" for name, rgb in vectors]
    return f"Measured by (red, green, blue): {'; '.join(parts)}; {stains.source}"
