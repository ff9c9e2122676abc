"""The UNet with a ResNet-50 encoder that TIAToolbox's published weights belong to.

Knows no weights file, no device and no slide: a torch module whose state dict has
the published names and shapes (Kaiming He et al., Deep Residual Learning, CVPR 2016,
with the stride in the 3 x 3 convolution; decoder: batch norm, ReLU, convolution).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_wsiseg.errors import ModelError
from napari_wsiseg.geometry import Region, Size

ENCODER_STRIDE = 32
_STAGE_CHANNELS = ((1024, 512), (512, 256), (256, 64), (64, 64))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4 * width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)).add_(shortcut), inplace=True)


def _layer(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))


class ResNet50(nn.Module):
    """The encoder; its classifier `fc` is in the published weights and takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, 3, 1)
        self.layer2 = _layer(256, 128, 4, 2)
        self.layer3 = _layer(512, 256, 6, 2)
        self.layer4 = _layer(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> feature maps at strides 2, 4, 8, 16 and 32."""
        features = [F.relu(self.bn1(self.conv1(x)), inplace=True)]
        x = F.max_pool2d(features[0], 3, 2, padding=1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features


class UpSample2x(nn.Module):
    """Nearest neighbour; the published weights hold its kernel of ones as a buffer."""

    unpool_mat: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unpool_mat", torch.ones(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2 H, 2 W)."""
        return F.interpolate(x, scale_factor=2, mode="nearest")


def _decoder_stage(inputs: int, outputs: int, kernels: Sequence[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for kernel in kernels:
        parts += [
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        ]
        inputs = outputs
    return nn.Sequential(*parts)


class UNet(nn.Module):
    """Class probabilities of RGB patches.

    Parameters
    ----------
    classes
        Number of output channels.
    decoder_block
        Kernel sizes of the convolutions in each of the four decoder stages.
    """

    def __init__(self, classes: int, decoder_block: Sequence[int]) -> None:
        super().__init__()
        self.decoder_block = tuple(decoder_block)
        self.backbone = ResNet50()
        self.conv1x1 = nn.Conv2d(2048, 1024, 1, bias=False)
        self.uplist = nn.ModuleList(
            _decoder_stage(inputs, outputs, decoder_block) for inputs, outputs in _STAGE_CHANNELS
        )
        self.clf = nn.Conv2d(64, classes, 1)
        self.upsample2x = UpSample2x()

    def forward(self, patches: Tensor, output: Size) -> Tensor:
        """Softmax of the centre of each patch.

        The decoder works only where the answer looks: the same pixels as the centre of
        the whole answer, for less arithmetic (docs/models.md says how much less).

        Parameters
        ----------
        patches
            (N, H, W, 3) uint8 RGB; H and W are multiples of 32.
        output
            Height and width of the answer, at most H and W.

        Returns
        -------
        (N, classes, height, width) float32 in 0..1; its pixel (0, 0) is the input's
        ((H - height) // 2, (W - width) // 2).

        Raises
        ------
        ModelError
            If H or W is no multiple of 32.
        """
        size = Size(*patches.shape[1:3])
        if size.height % ENCODER_STRIDE or size.width % ENCODER_STRIDE:
            raise ModelError(
                f"Patches of {size} do not fit the network; choose a height and width "
                f"that are multiples of {ENCODER_STRIDE}."
            )
        centre = Region(
            (size.height - output.height) // 2, (size.width - output.width) // 2, output
        )
        x = patches.permute(0, 3, 1, 2).to(self.clf.weight.dtype).div(255)
        features = self.backbone(x)
        seen = _seen_by_bilinear(centre).clipped(_shape(features[0]))
        logits = self.clf(self._decode(features, seen))
        half = torch.softmax(logits.float(), dim=1)
        whole = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
        return _cut(whole, centre, _doubled(seen))

    def _decode(self, features: list[Tensor], wanted: Region) -> Tensor:
        """The decoder's answer at stride 2, in the `wanted` region."""
        *skips, deepest = features
        needed = [self._needed(wanted, _shape(skips[0]))]
        for skip in skips[1:]:
            needed.append(self._needed(_halved(needed[-1][0]), _shape(skip)))
        at = _halved(needed[-1][0])
        x: Tensor = self.conv1x1(deepest[(..., *at.slices)])
        for stage, skip, regions in zip(self.uplist, skips[::-1], needed[::-1], strict=True):
            x = _cut(self.upsample2x(x), regions[0], _doubled(at)) + skip[(..., *regions[0].slices)]
            parts = iter(stage.children())
            for here, there in pairwise(regions):
                norm, relu, convolution = islice(parts, 3)
                x = _convolve(relu(norm(x)), cast("nn.Conv2d", convolution).weight, here, there)
            at = regions[-1]
        return x

    def _needed(self, wanted: Region, size: Size) -> list[Region]:
        """Regions of a stage's input and of each convolution's output, to answer `wanted`."""
        regions = [wanted]
        for kernel in reversed(self.decoder_block):
            regions.insert(0, _grown(regions[0], kernel // 2).clipped(size))
        return regions


def _shape(x: Tensor) -> Size:
    return Size(x.shape[-2], x.shape[-1])


def _grown(region: Region, by: int) -> Region:
    return Region.from_bounds(
        region.top - by, region.left - by, region.bottom + by, region.right + by
    )


def _halved(region: Region) -> Region:
    return Region.from_bounds(
        region.top // 2, region.left // 2, -(-region.bottom // 2), -(-region.right // 2)
    )


def _doubled(region: Region) -> Region:
    return Region.from_bounds(region.top * 2, region.left * 2, region.bottom * 2, region.right * 2)


def _seen_by_bilinear(region: Region) -> Region:
    """Pixels at half resolution that bilinear x2 (align_corners=False) mixes into `region`."""
    return Region.from_bounds(
        (region.top - 1) // 2, (region.left - 1) // 2, region.bottom // 2 + 1, region.right // 2 + 1
    )


def _cut(x: Tensor, region: Region, at: Region) -> Tensor:
    """The part of `x` in `region`, where `x` covers `at`."""
    return x[(..., *region.shifted(-at.top, -at.left).slices)]


def _convolve(x: Tensor, weight: Tensor, here: Region, there: Region) -> Tensor:
    """Convolve `x`, which covers `here`, to cover `there`; zeros where the map ends."""
    seen = _grown(there, weight.shape[-1] // 2)
    margins = (
        here.left - seen.left,
        seen.right - here.right,
        here.top - seen.top,
        seen.bottom - here.bottom,
    )
    return F.conv2d(F.pad(x, margins) if any(margins) else x, weight)
