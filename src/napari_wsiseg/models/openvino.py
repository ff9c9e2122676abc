"""The zoo's UNets in OpenVINO, on the processor."""

from __future__ import annotations

import threading
from typing import Any, Self

import torch
from torch import Tensor

from napari_wsiseg.geometry import Size
from napari_wsiseg.models.hardware import Precision
from napari_wsiseg.models.openvino_graph import graph_of
from napari_wsiseg.models.runtimes import openvino
from napari_wsiseg.models.unet import UNet

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
"""What OpenVINO calls the precisions that it computes in."""


class OpenVinoNetwork:
    """A UNet compiled for the shape that it was asked last; for many threads, one at a time.

    A run asks for one shape. A shape takes about a second to compile, and its buffers much memory.

    Parameters
    ----------
    network
        With its weights, in float32 on the CPU.
    precision
        "fp32" or "bf16".
    """

    def __init__(self, network: UNet, precision: Precision) -> None:
        self._network = network.eval().requires_grad_(requires_grad=False).float()
        self._hint = HINTS[precision]
        self._core = openvino().Core()
        self._lock = threading.Lock()
        self._key: tuple[object, ...] | None = None
        self._request: Any = None

    def to(self, device: torch.device) -> Self:
        """Itself: it computes on the processor alone."""
        del device
        return self

    def __call__(self, patches: Tensor, output: Size) -> Tensor:
        """As `UNet.forward`."""
        with self._lock:
            request = self._compiled(tuple(patches.shape), output)
            (answer,) = request.infer([patches.contiguous().numpy()], share_inputs=True).values()
            return torch.from_numpy(answer)

    def _compiled(self, shape: tuple[int, ...], output: Size) -> Any:
        threads = torch.get_num_threads()
        if self._key != (shape, output, threads):
            self._key = self._request = None  # two at once may be too much
            config = {
                "INFERENCE_PRECISION_HINT": self._hint,
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            }
            graph = graph_of(self._network, shape, output)
            compiled = self._core.compile_model(graph, "CPU", config)
            self._request = compiled.create_infer_request()
            self._key = (shape, output, threads)
        return self._request
