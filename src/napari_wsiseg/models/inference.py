"""Asking a segmenter, whoever made it: arrays in, checked arrays out.

Knows no network: torch appears only to carry the pixels over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import InferenceError, ModelError, WsisegError, reason
from napari_wsiseg.geometry import Size
from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.spec import ModelSpec

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-3
"""How far beyond 0..1 an answer may lie, to be cut off."""


# On the CPU torch raises a plain RuntimeError from its allocator, with other words on Windows;
# the last two are what C++ says, and onnxruntime, in errors of their own.
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "failed to allocate memory",
)


class OutOfMemory(InferenceError):  # noqa: N818 - says what happened
    """A batch did not fit the device; a smaller one may."""


def predict(segmenter: Segmenter, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities of a batch of patches, as an array of our own.

    Parameters
    ----------
    segmenter
        Any `Segmenter`.
    pixels
        (N, H, W, 3) uint8 RGB.

    Returns
    -------
    (N, C, h, w) float32, C-contiguous, as the model gave it: see `check_shape`.

    Raises
    ------
    OutOfMemory
        If the batch does not fit the memory of the device.
    InferenceError
        If the model fails in any other way; its own error is the cause.
    ModelError
        If it answers with something other than a tensor.
    """
    import torch

    owned = np.require(pixels, requirements=["C", "W"])
    with FailuresTold(segmenter.spec.name, pixels.shape):
        host = answer(segmenter, torch.from_numpy(owned)).to("cpu", torch.float32).contiguous()
        return cast("NDArray[np.float32]", host.numpy())


def answer(segmenter: Segmenter, patches: torch.Tensor) -> torch.Tensor:
    """What a segmenter makes of patches, wherever it left it.

    Raises
    ------
    ModelError
        If it is something other than a tensor.
    """
    import torch

    with torch.no_grad():
        given = segmenter.predict(patches)
    if not isinstance(given, torch.Tensor):
        raise ModelError(
            f"Model {segmenter.spec.name!r} answered with a {type(given).__name__}; "
            "it should return a torch tensor."
        )
    return given.detach()


class FailuresTold:
    """Turns whatever a model raises within into an error of ours.

    No generator: from Python 3.12 on, one that raises another error keeps the first alive, and
    with it the frames that hold the memory of a batch which did not fit.

    Parameters
    ----------
    name
        The model's.
    shape
        The batch's.

    Raises
    ------
    OutOfMemory
        If the batch does not fit the memory of the device.
    InferenceError
        If the model fails in any other way; its own error is the cause.
    """

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self._name = name
        self._shape = shape

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # What a brought model raises is anyone's guess.
        if isinstance(error, Exception) and not isinstance(error, WsisegError):
            raise _failure(self._name, self._shape, error) from error


def _failure(name: str, shape: tuple[int, ...], error: Exception) -> InferenceError:
    import torch

    count, height, width = shape[:3]
    batch = (
        f"{count} patches of {Size(height, width)}"
        if count > 1
        else f"a patch of {Size(height, width)}"
    )
    text = str(error).strip()
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        sign in text.lower() for sign in _NO_MEMORY
    ):
        return OutOfMemory(
            f"Model {name!r} ran out of memory on {batch}; "
            "choose a smaller batch_size or patch_input_shape."
        )
    said = f": {reason(error)}" if text else ""
    return InferenceError(f"Model {name!r} failed on {batch} ({type(error).__name__}{said}).")


def check_shape(spec: ModelSpec, shape: tuple[int, ...], count: int, output: Size) -> None:
    """Hold the shape of an answer against its spec.

    Parameters
    ----------
    spec
        What was promised.
    shape
        What came.
    count
        Patches that were asked about.
    output
        Height and width that each answer should have.

    Raises
    ------
    ModelError
        If the shape or the number of classes is another; says what came and what was expected.
    """
    expected = (count, len(spec.classes), output.height, output.width)
    if len(shape) == 4 and shape[1] != expected[1]:
        raise ModelError(
            f"Model {spec.name!r} answered with {shape[1]} classes; "
            f"its spec names {expected[1]}: {', '.join(spec.classes)}."
        )
    if shape != expected:
        raise ModelError(
            f"Model {spec.name!r} answered with the shape {shape}; "
            f"expected (patches, classes, height, width), here {expected}."
        )


def check_range(spec: ModelSpec, low: float, high: float) -> None:
    """Hold the least and the greatest value of an answer against 0..1, within 1e-3.

    Raises
    ------
    ModelError
        If they lie outside.
    """
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ModelError(
            f"Model {spec.name!r} answered with values from {low:.4g} to {high:.4g}; expected "
            f"0 to 1 with its activation ({spec.activation}) applied."
        )


def with_shapes(segmenter: Segmenter, patch_input: Size, patch_output: Size) -> Segmenter:
    """The segmenter for patches of these shapes.

    The networks of this package cut whatever margin is asked for. One that was brought
    keeps its own margin, and takes other sizes only where its spec has a `shift_period`.

    Raises
    ------
    ModelError
        If the model cannot work with these shapes.
    """
    spec = segmenter.spec
    reshaped = getattr(segmenter, "reshaped", None)
    if callable(reshaped):
        return cast("Segmenter", reshaped(patch_input, patch_output))
    own_input, own_output = Size(*spec.patch_input_shape), Size(*spec.patch_output_shape)
    same_margin = (
        patch_input.height - patch_output.height == own_input.height - own_output.height
        and patch_input.width - patch_output.width == own_input.width - own_output.width
    )
    if (patch_input, patch_output) != (own_input, own_output) and not (
        same_margin and spec.shift_period
    ):
        raise ModelError(
            f"Model {spec.name!r} works on patches of {own_input} and answers {own_output}, "
            f"not {patch_input} and {patch_output}; "
            "leave patch_input_shape and patch_output_shape out."
        )
    return segmenter


def identity(segmenter: Segmenter) -> dict[str, Any]:
    """What of a model changes its numbers, as plain data to compare runs by.

    A segmenter that was brought says what it wants of `weights_sha256`, `precision`,
    `backend` and `parameters`; its class's name stands for its code.
    """
    spec, kind = segmenter.spec, type(segmenter)
    parameters = getattr(segmenter, "parameters", None)
    return {
        "name": spec.name,
        "classes": list(spec.classes),
        "activation": spec.activation,
        "background": spec.background,
        "weights_sha256": getattr(segmenter, "weights_sha256", None),
        "precision": getattr(segmenter, "precision", None),
        "backend": getattr(segmenter, "backend", f"{kind.__module__}.{kind.__qualname__}"),
        "parameters": dict(parameters) if isinstance(parameters, Mapping) else {},
    }
