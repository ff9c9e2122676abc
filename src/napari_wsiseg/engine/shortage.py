"""What to do where the memory of a model's device ends at one patch.

A run that has begun keeps its patches: its map is made of them.
"""

from __future__ import annotations

from napari_wsiseg.engine.plan import bytes_per_pixel
from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.geometry import Size
from napari_wsiseg.memory import machine_memory
from napari_wsiseg.models import Segmenter
from napari_wsiseg.spec import ModelSpec


def what_fits(plan: RunPlan, segmenter: Segmenter) -> str:
    """The patches that would fit, by the memory that is free now, and how to ask for them."""
    area = min(
        _room(plan.gpus) // bytes_per_pixel(segmenter, plan.spec),
        # Whatever seems to be free: what was tried did not fit.
        plan.grid.patch_input.area // 2,
    )
    smaller = smaller_patch(plan.spec, plan.grid.patch_input, plan.grid.patch_output, area)
    if smaller is None:
        return "Close other programs, or use another device, and run it on."
    given, answer = smaller
    return (
        f"Patches of {given} would fit: begin a new result with "
        f"patch_input_shape=({given.height}, {given.width}) and "
        f"patch_output_shape=({answer.height}, {answer.width}) (--patch-input "
        f"{given.height},{given.width} --patch-output {answer.height},{answer.width}), or close "
        "other programs and run it on."
    )


def smaller_patch(
    spec: ModelSpec, patch_input: Size, patch_output: Size, area: int
) -> tuple[Size, Size] | None:
    """A patch with the same margin, its output halved until the input is small enough.

    Parameters
    ----------
    spec
        Of the model.
    patch_input, patch_output
        What is too large.
    area
        Input pixels that it may have.

    Returns
    -------
    Input and output; None where the model takes no other patches, or none is small enough.
    """
    period = spec.shift_period
    if period is None:
        return None
    margin = Size(patch_input.height - patch_output.height, patch_input.width - patch_output.width)
    height, width = patch_output.height, patch_output.width
    while max(height, width) > period:
        # The longer side first: of all patches of an area, a square has the least margin.
        if height >= width:
            height = max(height // 2 // period, 1) * period
        else:
            width = max(width // 2 // period, 1) * period
        patch = Size(height + margin.height, width + margin.width)
        if patch.area <= area:
            return patch, Size(height, width)
    return None


def _room(gpus: tuple[str, ...]) -> int:
    if not gpus:
        return machine_memory().available
    from napari_wsiseg.models.gpu import free_memory

    return free_memory(gpus)
