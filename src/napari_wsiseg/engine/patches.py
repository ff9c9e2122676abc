"""Patch mode: a model over images that are patches already, without a slide or a map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.engine.inference import Predictor
from napari_wsiseg.engine.inputs import ModelSource
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import DecisionRule, decide
from napari_wsiseg.messages import PatchBatch
from napari_wsiseg.models import HostReplica, Segmenter, load_model, with_shapes
from napari_wsiseg.slides import open_slide
from napari_wsiseg.spec import ModelSpec

_BATCH_PIXELS = 4 * 2**20

Images = NDArray[np.uint8] | Sequence[NDArray[np.uint8] | Path | str]


@dataclass(frozen=True)
class PatchResult:
    """Answers to single patches.

    Parameters
    ----------
    probabilities
        (n, classes, height, width) float32 in 0..1, centred on the patches.
    labels
        (n, height, width) uint8: 0 = none, class i -> i + 1, by the model's own thresholds.
    given
        The label maps that were passed in, cut to the same centre, or None.
    failed
        Why a patch has no answer, by its number; its probabilities and labels are 0.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.uint8]
    given: NDArray[np.generic] | None
    failed: Mapping[int, str] = field(default_factory=dict)


def segment_patches(
    images: Images, model: ModelSource, labels: NDArray[np.generic] | None = None
) -> PatchResult:
    """Segment images that are patches already, at the model's resolution.

    Parameters
    ----------
    images
        (n, height, width, 3) uint8 RGB, or as many arrays or image files of one size.
        The size is the model's `patch_input_shape`; where it has a `shift_period` any
        multiple of it above the margin, and for the stain models any size at all.
    model
        A model, or its name or file.
    labels
        (n, height, width) label maps of the same patches, to be compared with.

    Raises
    ------
    JobError
        If the images differ in size, or are no larger than the model's margin.
    ModelError, InferenceError
        If the model does not take the size, answers in a wrong shape, or fails.
    """
    segmenter = load_model(model)
    patches = [_pixels(image) for image in images]
    if not patches:
        raise JobError("There are no patches; give at least one image.")
    size = Size(*patches[0].shape[:2])
    for number, patch in enumerate(patches):
        if patch.shape != patches[0].shape:
            raise JobError(
                f"Patch {number} is {Size(*patch.shape[:2])}, the first one {size}; "
                "give patches of one size."
            )
    output = _output_size(segmenter.spec, size)
    given = None if labels is None else _centre(np.asarray(labels), len(patches), size, output)
    probabilities, failed = _answers(with_shapes(segmenter, size, output), patches, output)
    maps = [_labels(segmenter.spec, values) for values in probabilities]
    for number in failed:
        maps[number][...] = 0
    return PatchResult(probabilities, np.stack(maps), given, failed)


def _answers(
    segmenter: Segmenter, patches: Sequence[NDArray[np.uint8]], output: Size
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """(n, classes, height, width) probabilities, and why some are missing."""
    step = min(max(1, _BATCH_PIXELS // (patches[0].size // 3)), len(patches))
    predictor = Predictor([HostReplica(segmenter)], output, step)
    shape = (len(patches), len(segmenter.spec.classes), output.height, output.width)
    probabilities = np.zeros(shape, np.float32)
    failed = {}
    for prediction in predictor(_batches(patches, step)):
        for number, values in zip(prediction.indices[:, 0], prediction.values, strict=True):
            probabilities[number] = values
        for patch in prediction.failed:
            failed[patch.row] = patch.reason
            probabilities[patch.row] = 0
    return probabilities, failed


def _batches(patches: Sequence[NDArray[np.uint8]], step: int) -> Iterator[PatchBatch]:
    for start in range(0, len(patches), step):
        pixels = np.stack(patches[start : start + step])
        numbers = np.arange(start, start + len(pixels))
        # Patches stand in one column: what is a grid row there is the patch's number here.
        yield PatchBatch(np.stack([numbers, np.zeros_like(numbers)], axis=1), pixels)


def _pixels(image: NDArray[np.uint8] | Path | str) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        with open_slide(image) as slide:
            return slide.read_at(Region(0, 0, slide.info.size), YX(1, 1))
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise JobError(
            f"A patch is an array {pixels.shape} of {pixels.dtype}; "
            "give (height, width, 3) of uint8."
        )
    return pixels


def _output_size(spec: ModelSpec, size: Size) -> Size:
    (height, width), (out_height, out_width) = spec.patch_input_shape, spec.patch_output_shape
    margin = Size(height - out_height, width - out_width)
    output = Size(size.height - margin.height, size.width - margin.width)
    period = spec.shift_period or 1
    if min(output.height, output.width) < 1 or size.height % period or size.width % period:
        multiple = "a size" if period == 1 else f"a multiple of {period} px"
        raise JobError(
            f"The patches are {size}; model {spec.name!r} takes {multiple} above {margin}."
        )
    return output


def _labels(spec: ModelSpec, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return decide(values, np.ones(values.shape[1:], bool), None, spec, DecisionRule())


def _centre(
    labels: NDArray[np.generic], count: int, size: Size, output: Size
) -> NDArray[np.generic]:
    if labels.shape != (count, size.height, size.width):
        raise JobError(
            f"The labels are an array {labels.shape}; give one map a patch: "
            f"({count}, {size.height}, {size.width})."
        )
    top, left = (size.height - output.height) // 2, (size.width - output.width) // 2
    return labels[:, top : top + output.height, left : left + output.width]
