"""The zoo's UNets in OpenVINO, on the processor."""

from __future__ import annotations

import threading
from typing import Any, Self

import torch
from torch import Tensor

from napari_wsiseg.geometry import Size
from napari_wsiseg.models.hardware import Precision
from napari_wsiseg.models.openvino_graph import graph_of, shorten_sums
from napari_wsiseg.models.runtimes import openvino
from napari_wsiseg.models.unet import UNet

HINTS: dict[Precision, str] = {"exact": "f32", "fp32": "f32", "bf16": "bf16"}
"""What OpenVINO calls the precisions that it computes in."""

EXACT_SUM = 576
"""Products that `exact` adds up at once: of 64 channels, 3 x 3 each.

With sums as long as they come a UNet on real patches lies up to 1.4e-5 from float64, as torch's
does; so 7.5e-6, for a tenth more of the processor's time.
"""


class OpenVinoNetwork:
    """A UNet compiled for the shape that it was asked last; for many threads, one at a time.

    A run asks for one shape. A shape takes about a second to compile, and its buffers much memory.

    Parameters
    ----------
    network
        With its weights, in float32 on the CPU.
    precision
        "exact", "fp32" or "bf16".
    """

    def __init__(self, network: UNet, precision: Precision) -> None:
        self._network = network.eval().requires_grad_(requires_grad=False).float()
        self._precision: Precision = precision
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
                "INFERENCE_PRECISION_HINT": HINTS[self._precision],
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            }
            graph = graph_of(self._network, shape, output)
            if self._precision == "exact":
                shorten_sums(graph, EXACT_SUM)
            compiled = self._core.compile_model(graph, "CPU", config)
            self._request = compiled.create_infer_request()
            self._key = (shape, output, threads)
        return self._request
