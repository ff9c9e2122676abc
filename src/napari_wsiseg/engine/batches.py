"""How many patches a call takes, and on which GPUs."""

from __future__ import annotations

from napari_wsiseg.engine.budget import Costs, fitting_batch
from napari_wsiseg.engine.inputs import Inputs
from napari_wsiseg.grid import Mask, PatchGrid
from napari_wsiseg.models import Segmenter, with_shapes

# A processor gains nothing from large batches, and loses its caches; a GPU needs them.
_PIXELS = {"cpu": 2**19, "gpu": 2**23}
_LARGEST = 16
# Where a GPU is asked which batch keeps it busy, up to this.
_TRIED_PIXELS = 2**24
_LARGEST_TRIED = 256
# The rest is for what fragments, and for other programs.
_GPU_SHARE = 0.9


def device_of(segmenter: Segmenter | None) -> str:
    """Where a model computes; on the processor, unless it says otherwise."""
    return str(getattr(segmenter, "device", "cpu"))


def gpus_at_hand(segmenter: Segmenter | None) -> tuple[tuple[str, ...], int]:
    """Where a run may compute and merge, and the bytes that it may take on each."""
    if segmenter is None:
        return (), 0
    from napari_wsiseg.models.gpu import free_memory, gpus_of

    gpus = gpus_of(segmenter)
    return gpus, int(_GPU_SHARE * free_memory(gpus)) if gpus else 0


def chosen_batch(
    inputs: Inputs,
    costs: Costs,
    grid: PatchGrid,
    chunks: Mask,
    budget: int,
    gpus: tuple[str, ...],
    room: int,
) -> int:
    """Patches a call: the job's, or by the kind of device; on a GPU by trial.

    Parameters
    ----------
    inputs
        The job, the model, and the result to go on with: on a GPU its batch stands.
    costs, grid, chunks
        Of the run.
    budget
        Bytes that the run may take on the host.
    gpus, room
        As `gpus_at_hand` says; no GPU: the host merges.
    """
    most = fitting_batch(costs, grid, inputs.job.batch_size or _usual(inputs, grid, gpus), budget)
    if not gpus or inputs.job.batch_size is not None:
        return most
    while most > 1 and costs.gpu(grid, chunks, most) > room:
        most //= 2
    before = None if inputs.prior is None else inputs.prior.provenance.get("batch_size")
    if isinstance(before, int) and before <= most:
        return before
    assert inputs.segmenter is not None  # noqa: S101 - it said where it computes
    from napari_wsiseg.models.gpu import best_batch

    model = with_shapes(inputs.segmenter, grid.patch_input, grid.patch_output)
    return best_batch(model, gpus[0], grid.patch_input, most)


def _usual(inputs: Inputs, grid: PatchGrid, gpus: tuple[str, ...]) -> int:
    """By the kind of device; where it is tried out, the most to try."""
    if gpus:
        return max(1, min(_LARGEST_TRIED, _TRIED_PIXELS // grid.patch_input.area))
    kind = "cpu" if device_of(inputs.segmenter) == "cpu" else "gpu"
    return max(1, min(_LARGEST, _PIXELS[kind] // grid.patch_input.area))
