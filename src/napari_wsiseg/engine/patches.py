"""Patch mode: a model over images that are patches already, without a slide or a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import DecisionRule, decide
from napari_wsiseg.models import Segmenter, check, load_model, predict
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
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.uint8]
    given: NDArray[np.generic] | None


def segment_patches(
    images: Images, model: Segmenter | str, labels: NDArray[np.generic] | None = None
) -> PatchResult:
    """Segment images that are patches already, at the model's resolution.

    Parameters
    ----------
    images
        (n, height, width, 3) uint8 RGB, or as many arrays or image files of one size.
        The size is the model's `patch_input_shape`, or, where the model has a
        `shift_period`, any multiple of it above the margin.
    model
        A model, or its name.
    labels
        (n, height, width) label maps of the same patches, to be compared with.

    Raises
    ------
    JobError
        If the images differ in size or are of a size that the model does not take.
    ModelError, InferenceError
        If the model answers in a wrong shape, or fails.
    """
    segmenter = load_model(model) if isinstance(model, str) else model
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
    step = max(1, _BATCH_PIXELS // size.area)
    answers = []
    for start in range(0, len(patches), step):
        answer = predict(segmenter, np.stack(patches[start : start + step]))
        check(segmenter.spec, answer, len(answer), output)
        answers.append(np.clip(answer, 0, 1))
    probabilities = np.concatenate(answers)
    return PatchResult(
        probabilities,
        np.stack([_labels(segmenter.spec, values) for values in probabilities]),
        None if labels is None else _centre(np.asarray(labels), len(patches), size, output),
    )


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
    output = Size(size.height - height + out_height, size.width - width + out_width)
    period = spec.shift_period
    if period is None:
        fits = size == Size(height, width)
        rule = f"{width} x {height} px"
    else:
        fits = min(output.height, output.width) > 0
        fits = fits and size.height % period == 0 and size.width % period == 0
        rule = f"a multiple of {period} px above {width - out_width} x {height - out_height} px"
    if not fits:
        raise JobError(f"The patches are {size}; model {spec.name!r} takes {rule}.")
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
