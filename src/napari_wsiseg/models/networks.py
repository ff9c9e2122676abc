"""`TorchSegmenter`: a torch module with a spec, a device and a precision."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_wsiseg.errors import ModelError
from napari_wsiseg.geometry import Size
from napari_wsiseg.models.hardware import Precision
from napari_wsiseg.models.unet import Bottleneck, UNet
from napari_wsiseg.spec import ModelSpec

_SIXTEEN_BITS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class CentreNetwork(Protocol):
    """Answers for the centre of its input: (N, H, W, 3) uint8 -> (N, C, height, width)."""

    def __call__(self, patches: Tensor, output: Size) -> Tensor:
        """The answer, of the height and width asked for."""

    def to(self, device: torch.device) -> Self:
        """Itself, moved."""


class TorchSegmenter:
    """A network of this package, ready to predict.

    Parameters
    ----------
    spec
        What it answers; the margin of its shapes is what `predict` cuts off.
    network
        Already on `device` and in `precision`.
    device
        Where it computes.
    precision
        In what it computes.
    backend
        What computes: torch, or what takes torch's tensors in its place.
    weights_sha256
        Digest of the weights file, or None where there is none.
    parameters
        Further numbers that change the answer, as plain data.
    bytes_per_pixel
        Memory that a call takes for itself, per input pixel; None: unknown.
    """

    def __init__(
        self,
        spec: ModelSpec,
        network: CentreNetwork,
        device: torch.device,
        precision: Precision,
        *,
        backend: str = "torch",
        weights_sha256: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        bytes_per_pixel: int | None = None,
    ) -> None:
        self.spec = spec
        self.bytes_per_pixel = bytes_per_pixel
        self.network = network
        self.device = str(device)
        self.precision = precision
        self.backend = backend
        self.weights_sha256 = weights_sha256
        self.parameters = dict(parameters or {})

    def predict(self, patches: Tensor) -> Tensor:
        """Class probabilities of the centre of each patch.

        Parameters
        ----------
        patches
            (N, H, W, 3) uint8 RGB, on `device` or on the CPU.

        Returns
        -------
        (N, C, h, w) float32 on `device`; h and w are H and W less the spec's margin.

        Raises
        ------
        ModelError
            If the patches are not larger than the margin, or do not fit the network.
        """
        (in_height, in_width) = self.spec.patch_input_shape
        (out_height, out_width) = self.spec.patch_output_shape
        height = patches.shape[1] - (in_height - out_height)
        width = patches.shape[2] - (in_width - out_width)
        if height < 1 or width < 1:
            raise ModelError(
                f"Patches of {Size(*patches.shape[1:3])} are no larger than the margin of "
                f"{self.spec.name}; choose a patch_input_shape above "
                f"({in_height - out_height}, {in_width - out_width})."
            )
        # Convolutions may use TF32 by default: too coarse for what is called float32.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.network(patches.to(self.device), Size(height, width))

    def on(self, device: torch.device) -> Self:
        """A copy of the network on another device."""
        other = copy.copy(self)
        other.network = copy.deepcopy(self.network).to(device)
        other.device = str(device)
        return other

    def reshaped(self, patch_input: Size, patch_output: Size) -> Self:
        """The same network with other patch shapes, and so another margin."""
        other = copy.copy(self)
        other.spec = dataclasses.replace(
            self.spec,
            patch_input_shape=(patch_input.height, patch_input.width),
            patch_output_shape=(patch_output.height, patch_output.width),
        )
        return other


def prepare(network: UNet, device: torch.device, precision: Precision) -> UNet:
    """Move a network with its weights to a device and a precision, in place."""
    network.eval().requires_grad_(requires_grad=False).float()
    if precision != "exact":
        _fold_encoder(network)
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch forgot it
    if precision in _SIXTEEN_BITS:
        # Batch norms stay float32: they hold the scale of what 16 bits round.
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.to(_SIXTEEN_BITS[precision])
    return network


def _fold_encoder(network: UNet) -> None:
    """Fold each batch norm that follows a convolution into it; the decoder's come before."""
    encoder = network.backbone
    for block in (encoder, *(m for m in encoder.modules() if isinstance(m, Bottleneck))):
        for index in range(1, 4):
            _fold(block, f"conv{index}", f"bn{index}")
        if isinstance(block, Bottleneck) and block.downsample is not None:
            _fold(block.downsample, "0", "1")


def _fold(parent: nn.Module, convolution: str, norm: str) -> None:
    parts = dict(parent.named_children())
    conv, bn = parts.get(convolution), parts.get(norm)
    if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
        setattr(parent, convolution, fuse_conv_bn_eval(conv, bn))
        setattr(parent, norm, nn.Identity())
