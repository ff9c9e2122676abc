"""ONNX files, computed by ONNX Runtime on the processor: data, no code that must be trusted."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsiseg.errors import ModelError, reason
from napari_wsiseg.geometry import Size
from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.models.files import centre, check_there, planes, spec_beside
from napari_wsiseg.models.networks import TorchSegmenter
from napari_wsiseg.models.runtimes import onnxruntime
from napari_wsiseg.spec import ModelSpec

_Float = type[np.floating[Any]]

_NUMBERS: dict[str, _Float] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_SILENT = 4
_RGB = 3


def load_onnx(path: Path) -> Segmenter:
    """A segmenter from an ONNX file and the spec beside it.

    The network has one input, (N, 3, H, W) RGB in 0..1, float32 or float16, and one output,
    (N, C, h, w) in 0..1, its activation applied. N, H and W may be fixed.
    `<stem>.yaml` holds the fields of `ModelSpec`.

    Raises
    ------
    ModelError
        If either file is missing, unreadable, or does not fit the other, or if ONNX Runtime is
        not installed.
    """
    check_there(path)
    spec = spec_beside(path)
    content = path.read_bytes()
    session = _session(path, content)
    batch, number = _checked_input(path, session, spec)
    return TorchSegmenter(
        spec,
        _OnnxNetwork(session, batch, number),
        torch.device("cpu"),
        "exact",
        backend="onnxruntime",
        weights_sha256=hashlib.sha256(content).hexdigest(),
    )


class _OnnxNetwork:
    """Feeds a session as many patches at once as its file allows, and cuts the centre."""

    def __init__(self, session: Any, batch: int | None, number: _Float) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self._batch = batch
        self._number = number

    def to(self, device: torch.device) -> Self:
        """Itself: it computes on the processor alone."""
        del device
        return self

    def __call__(self, patches: Tensor, output: Size) -> Tensor:
        pixels = planes(patches).contiguous().numpy().astype(self._number, copy=False)
        step = self._batch or len(pixels)
        answers = [self._run(pixels[i : i + step], step) for i in range(0, len(pixels), step)]
        return centre(torch.from_numpy(np.concatenate(answers)).float(), patches, output)

    def _run(self, pixels: NDArray[np.floating[Any]], count: int) -> NDArray[np.floating[Any]]:
        """The answer to at most `count` patches, asked as `count`."""
        missing = np.zeros((count - len(pixels), *pixels.shape[1:]), pixels.dtype)
        (answer,) = self._session.run(None, {self._input: np.concatenate([pixels, missing])})
        return np.asarray(answer)[: len(pixels)]


def _session(path: Path, content: bytes) -> Any:
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _SILENT  # it raises what it would print
    options.intra_op_num_threads = torch.get_num_threads()
    # Weights in files of their own would be no part of the digest: below a file, none is found.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path)
    )
    try:
        # Else it tries twice, and prints that it does.
        return runtime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read as ONNX ({reason(error)}); save it as one file that holds its "
            "weights too: onnx.save(onnx.load(PATH), PATH)."
        ) from error


def _checked_input(path: Path, session: Any, spec: ModelSpec) -> tuple[int | None, _Float]:
    """The number of patches that a call is fixed to, or None, and the numbers it takes."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if (len(inputs), len(outputs)) != (1, 1):
        raise ModelError(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; export the network with "
            "one of each: patches, and class probabilities."
        )
    shape, kind = inputs[0].shape, inputs[0].type
    number = _NUMBERS.get(kind)
    if number is None or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != _RGB):
        raise ModelError(
            f"{path} takes {kind} of the shape {shape}; it should take RGB patches in 0..1, "
            "(patches, 3, height, width), in float32 or float16."
        )
    batch, _, *sides = (side if isinstance(side, int) else None for side in shape)
    fixed = [(side, own) for side, own in zip(sides, spec.patch_input_shape, strict=True) if side]
    if any(side != own for side, own in fixed):
        raise ModelError(
            f"{path} takes patches of the shape {tuple(shape[2:])} only, and its spec says "
            f"patch_input_shape {spec.patch_input_shape}; give the file's in the spec."
        )
    if fixed and spec.shift_period is not None:
        raise ModelError(
            f"{path} takes patches of the shape {tuple(shape[2:])} only, and its spec says "
            f"shift_period {spec.shift_period}, which lets patches grow; leave that out, or export "
            "the network with dynamic height and width."
        )
    return batch, number
