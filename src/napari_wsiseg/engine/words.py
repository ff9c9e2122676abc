"""What a run is going to do, in words."""

from __future__ import annotations

from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.words import about, in_bytes, in_mpp, several


def plan_words(plan: RunPlan) -> str:
    """Like "0.5 µm/px -> 2216 x 2961 px, 35 patches, about 1 min, 20 MB on disk".

    Without a scale, the resolution stands first as it was asked for.
    """
    scale = str(plan.resolution) if plan.map_mpp is None else in_mpp(plan.map_mpp)
    parts = [
        f"{scale} -> {plan.size.width} x {plan.size.height} px",
        several(plan.patches, "patch"),
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
