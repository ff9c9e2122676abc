"""The zoo's UNets with made-up weights, and pictures to ask them about."""

from __future__ import annotations

from functools import cache

import torch

import napari_wsiseg as ws
from models.plain_unet import State, weights
from napari_wsiseg.models.unet import UNet

BCSS = "fcn_resnet50_unet-bcss"
KERNELS = {
    "fcn-tissue_mask": (3,),
    BCSS: (3, 3),
    "unet_tissue_mask_tsef": (3, 3),
}


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = UNet(len(ws.models()[name].classes), KERNELS[name])
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@cache
def state_of(name: str) -> State:
    return weights(shapes_of(name), seed=3, norms=True)


def bare_network(name: str) -> UNet:
    """With those weights, for no device and no precision yet."""
    with torch.device("meta"):
        network = UNet(len(ws.models()[name].classes), KERNELS[name])
    network.load_state_dict(state_of(name), assign=True)
    return network


def noise(height: int, width: int, count: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, height // 16, width // 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
