"""`plan`: a job meets a slide and a model; everything left open is settled, once.

Nothing is written and nothing is predicted but a timing patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine.batches import chosen_batch, device_of, gpus_at_hand
from napari_wsiseg.engine.budget import Costs, budget_of
from napari_wsiseg.engine.fields import (
    CallCost,
    FieldSearch,
    Timing,
    is_quick,
    largest_patch,
    margins,
    time_model,
    widest_sensible,
)
from napari_wsiseg.engine.inputs import (
    Inputs,
    ModelSource,
    SlideSource,
    TissueSource,
    opened,
)
from napari_wsiseg.engine.regions import chunks_meeting
from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Size, Unit, size_at
from napari_wsiseg.grid import Mask, PatchGrid, TissueTable
from napari_wsiseg.loading import block_size
from napari_wsiseg.models import Segmenter, settle_stains, with_shapes, with_stains
from napari_wsiseg.slides.base import SlideInfo
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.tissue import TissueMask, tissue_for

# Reading, merging and storing. `benchmarks/memory.py` shows 2e-8 on a quiet server, its model
# included; a guess above that, for slower machines and disks.
_SECONDS_PER_PIXEL = 5e-8


def plan(
    job: SegmentationJob,
    slide: SlideSource | None = None,
    model: ModelSource | None = None,
    tissue: TissueSource | None = None,
) -> RunPlan:
    """Say what a run would do: size, patches, memory, disk, time. Writes nothing.

    Parameters
    ----------
    job
        What to run.
    slide
        An open slide, or what `open_slide` takes, in place of the job's.
    model
        A model, or a name, in place of the job's. Without an object no time is foretold, and
        shapes left open are those for a processor.
    tissue
        A mask (h, w) bool over the whole slide, or a `TissueMask`, in place of the job's.

    Returns
    -------
    RunPlan

    Raises
    ------
    JobError, SlideError, ModelError
        If the job cannot be done.
    StoreError
        If what lies at the output is no result of ours, or cannot be read.
    """
    with opened(job, slide, model, tissue, load=False) as inputs:
        return resolve(inputs, foretell=True)


def resolve(inputs: Inputs, *, foretell: bool) -> RunPlan:
    """Settle everything that the job leaves open; what a result to be resumed had stands.

    Parameters
    ----------
    inputs
        The job, and what it meets.
    foretell
        Whether to time the model for a forecast too, not for its shapes alone.
    """
    job, info, spec = inputs.job, inputs.slide.info, inputs.spec
    resolution = job.resolution or spec.resolution
    downsample = info.downsample(resolution)
    gpus, room = gpus_at_hand(inputs.segmenter)
    costs = _costs(inputs, downsample, len(gpus))
    budget = budget_of(job)
    frozen = _frozen_mask(inputs)
    mask = _mask(inputs) if frozen is None else None
    stains = settle_stains(
        job,
        inputs.segmenter,
        inputs.slide,
        None if mask is None else mask.mask,
        before=None if inputs.prior is None else inputs.prior.info.identity.get("model"),
    )
    timing = _timing(inputs, foretell=foretell)
    grid = _searched_grid(
        inputs, downsample, mask, timing, lambda grid: _fits(costs, grid, budget, room)
    )
    if frozen is not None and frozen.grid.shape == grid.shape:
        grid = replace(grid, keep=frozen.grid.keep)
    wanted = chunks_meeting(grid, downsample, job.region)
    finished = _finished(inputs.prior, grid)
    left = wanted & ~finished
    if costs.gpu(grid, left, 1) > room:
        gpus, costs = (), replace(costs, gpus=0)
    batch_size = chosen_batch(inputs, costs, grid, left, budget, gpus, room)
    return RunPlan(
        job=job,
        info=info,
        spec=spec,
        resolution=resolution,
        downsample=downsample,
        grid=grid,
        wanted=wanted,
        finished=finished,
        batch_size=batch_size,
        gpus=gpus,
        tissue=mask,
        tissue_sha256=_tissue_digest(mask, frozen),
        budget=budget,
        need=costs.need(grid, left, batch_size),
        disk_bytes=costs.disk(grid, left),
        seconds=None if timing is None else _seconds(timing.now, grid, left),
        stains=stains,
        warnings=_warnings(job, info, downsample, mask, batch_size),
    )


def fitted_model(segmenter: Segmenter, plan: RunPlan) -> Segmenter:
    """The model as a run uses it: with the plan's stains and patch shapes."""
    stained = with_stains(segmenter, plan.stains)
    return with_shapes(stained, plan.grid.patch_input, plan.grid.patch_output)


def _costs(inputs: Inputs, downsample: YX, gpus: int) -> Costs:
    """What a pixel takes, wherever it is held."""
    info, spec = inputs.slide.info, inputs.spec
    canvas = size_at(info.size, downsample)
    return Costs(
        len(spec.classes),
        inputs.job.dtype,
        bytes_per_pixel(inputs.segmenter, spec),
        block_size(info, downsample, canvas),
        gpus,
    )


def _timing(inputs: Inputs, *, foretell: bool) -> Timing | None:
    """How long the model takes, where it is loaded and somebody asks."""
    if inputs.segmenter is None:
        return None
    is_open = inputs.prior is None and _given_shapes(inputs.job) is None
    if not foretell:
        if not is_open or inputs.spec.shift_period is None:
            return None
        if is_quick(inputs.segmenter, device_of(inputs.segmenter)):
            return None
    return time_model(inputs.segmenter)


def _seconds(call: CallCost, grid: PatchGrid, chunks: Mask) -> float:
    """How long a run over these chunks takes, about."""
    patch = call.seconds(grid.patch_input, grid.patch_output)
    rest = _SECONDS_PER_PIXEL * grid.patch_output.area
    return len(grid.patches_for(chunks)) * (patch + rest)


def _finished(prior: ProbabilityMap | None, grid: PatchGrid) -> Mask:
    """(chunk rows, chunk columns) bool: what a result to go on with has."""
    if prior is not None and prior.finished.shape == grid.chunk_shape:
        return prior.finished
    return np.zeros(grid.chunk_shape, bool)


def _mask(inputs: Inputs) -> TissueMask | None:
    """The mask that was given, or the job's; None: all is analysed."""
    setting = inputs.job.tissue if inputs.tissue is None else inputs.tissue
    return tissue_for(inputs.slide, setting)


def _frozen_mask(inputs: Inputs) -> ProbabilityMap | None:
    """The result whose mask stands: a found mask is settled once, whatever finds it later."""
    job, prior = inputs.job, inputs.prior
    if prior is None or inputs.tissue is not None or isinstance(job.tissue, Path):
        return None
    settings = ("tissue", "min_mask_ratio")
    now = job.model_dump(mode="json", include=set(settings))
    return prior if all(prior.job.get(name) == now[name] for name in settings) else None


def _tissue_digest(mask: TissueMask | None, frozen: ProbabilityMap | None) -> str | None:
    if frozen is None:
        return None if mask is None else mask.sha256
    digest = frozen.info.identity.get("tissue")
    return digest if isinstance(digest, str) else None


def bytes_per_pixel(segmenter: Segmenter | None, spec: ModelSpec) -> int:
    """What the model says it takes for itself; else float copies of what goes in and out."""
    stated = getattr(segmenter, "bytes_per_pixel", None)
    return stated if isinstance(stated, int) else 4 * (3 + 2 * len(spec.classes))


def _fits(costs: Costs, grid: PatchGrid, budget: int, room: int) -> bool:
    need = costs.need(grid, np.ones(grid.chunk_shape, bool), 1)
    return need.total <= budget and need.gpu <= room


def _given_shapes(job: SegmentationJob) -> tuple[tuple[int, int] | None, ...] | None:
    shapes = (job.patch_input_shape, job.patch_output_shape, job.stride_shape)
    return None if shapes == (None, None, None) else shapes


def _searched_grid(
    inputs: Inputs,
    downsample: YX,
    mask: TissueMask | None,
    timing: Timing | None,
    fits: Callable[[PatchGrid], bool],
) -> PatchGrid:
    """The grid of the run, with the patches that the mask keeps."""
    job, info, spec = inputs.job, inputs.slide.info, inputs.spec
    search = FieldSearch(
        size_at(info.size, downsample),
        None if mask is None else TissueTable(mask.mask),
        job.min_mask_ratio,
        _save_scale(job, info, downsample),
        largest_patch(spec, device_of(inputs.segmenter), None if timing is None else timing.alone),
        fits,
    )
    return _grid(job, spec, search, inputs.prior)


def _grid(
    job: SegmentationJob, spec: ModelSpec, search: FieldSearch, prior: ProbabilityMap | None
) -> PatchGrid:
    """The job's shapes as given; else the resumed result's; else a wider field or the model's."""
    if _given_shapes(job) is None:
        # Another model's shapes may be none for this one; that it is another is said later.
        if (
            prior is not None
            and prior.spec.name == spec.name
            and (prior.grid.canvas == search.canvas)
        ):
            before = prior.grid
            return search.grid(before.patch_input, before.patch_output, before.stride)
        if spec.shift_period is not None:
            return widest_sensible(spec, search)
    margin = margins(spec)
    output = job.patch_output_shape
    if output is None and job.patch_input_shape is not None:
        height, width = job.patch_input_shape
        output = (height - margin.height, width - margin.width)
        if min(output) < 1:
            raise JobError(
                f"patch_input_shape {Size(height, width)} is no larger than the margin of "
                f"{spec.name}, {margin}; choose a larger one, or name patch_output_shape too."
            )
    output = output or spec.patch_output_shape
    patch = job.patch_input_shape or (output[0] + margin.height, output[1] + margin.width)
    stride = job.stride_shape
    if stride is None:
        own = spec.stride_shape or spec.patch_output_shape
        stride = (min(own[0], output[0]), min(own[1], output[1]))
    return search.grid(Size(*patch), Size(*output), Size(*stride))


def _save_scale(job: SegmentationJob, info: SlideInfo, downsample: YX) -> int:
    """Canvas pixels per stored pixel: a whole number, the same along both axes."""
    if job.save_resolution is None:
        return 1
    target = info.downsample(job.save_resolution)
    factor = target.y / downsample.y
    scale = round(factor)
    even = abs(target.x / downsample.x - factor) < 1e-3 * factor
    if scale >= 1 and even and abs(factor - scale) < 1e-3 * scale:
        return scale
    least = max(int(factor), 1)
    names = [_save_name(job.save_resolution.unit, info, downsample, n) for n in (least, least + 1)]
    raise JobError(
        f"save_resolution '{job.save_resolution}' is {factor:.4g} times coarser than the run's; "
        f"it must be a whole number of times: the nearest are {' and '.join(names)}."
    )


def _save_name(unit: Unit, info: SlideInfo, downsample: YX, factor: int) -> str:
    """A resolution that many times coarser than the run's, in a unit that keeps to it."""
    # Where a slide's pixels are no squares, a run's are, in µm or in level-0 pixels.
    square = abs(downsample.x / downsample.y - 1) < 1e-3
    if info.mpp is not None and (unit == "mpp" or not square):
        in_um = YX(info.mpp.y * downsample.y, info.mpp.x * downsample.x)
        if abs(in_um.x / in_um.y - 1) < 1e-3:
            return f"'{in_um.y * factor:.6g} mpp'"
    return f"'baseline {1 / (downsample.y * factor):.6g}'"


def _warnings(
    job: SegmentationJob,
    info: SlideInfo,
    downsample: YX,
    tissue: TissueMask | None,
    batch_size: int,
) -> tuple[str, ...]:
    warnings = list(tissue.warnings) if tissue is not None else []
    factor = 1 / min(downsample)
    if factor > 1.05:
        warnings.append(
            f"The run enlarges the slide {factor:.1f} times; the added pixels hold no more detail."
        )
    if info.scale_warning is not None:
        warnings.append(info.scale_warning)
    if job.batch_size is not None and batch_size < job.batch_size:
        warnings.append(
            f"batch_size {job.batch_size} does not fit the memory budget; {batch_size} is used."
        )
    return tuple(warnings)
