"""The UNet once more, from its description alone: a state dict and plain arithmetic.

Whole maps, no module, no crop before the end: what the package's network must equal.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.deterministic_weights import deterministic_state_dict

State = dict[str, Tensor]
BLOCKS = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}


def published_shapes(shared_data: Path, name: str) -> dict[str, tuple[int, ...]]:
    text = (shared_data / "unet_state_dict_keys.json").read_text(encoding="utf-8")
    return {key: tuple(shape) for key, shape in json.loads(text)[name].items()}


def weights(shapes: dict[str, tuple[int, ...]], seed: int = 0, *, norms: bool = False) -> State:
    """Deterministic weights; with `norms`, batch norms that do something."""
    state = {
        key: torch.from_numpy(np.array(value))
        for key, value in deterministic_state_dict(shapes, seed).items()
    }
    generator = torch.Generator().manual_seed(seed)
    for key in [key for key in state if norms and key.endswith("running_mean")]:
        stem = key.removesuffix("running_mean")
        draw = torch.rand(4, *state[key].shape, generator=generator)
        state[key] = (draw[0] - 0.5) * 0.4
        state[stem + "running_var"] = 0.5 + draw[1]
        state[stem + "weight"] = state[stem + "weight"] * (0.8 + 0.4 * draw[2])
        state[stem + "bias"] = (draw[3] - 0.5) * 0.2
    return state


def _norm(state: State, key: str, x: Tensor) -> Tensor:
    scale = state[f"{key}.weight"] / torch.sqrt(state[f"{key}.running_var"] + 1e-5)
    shift = state[f"{key}.bias"] - state[f"{key}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def _bottleneck(state: State, key: str, x: Tensor, stride: int) -> Tensor:
    shortcut = x
    if f"{key}.downsample.0.weight" in state:
        shortcut = F.conv2d(x, state[f"{key}.downsample.0.weight"], stride=stride)
        shortcut = _norm(state, f"{key}.downsample.1", shortcut)
    x = _norm(state, f"{key}.bn1", F.conv2d(x, state[f"{key}.conv1.weight"])).relu()
    x = F.conv2d(x, state[f"{key}.conv2.weight"], stride=stride, padding=1)
    x = _norm(state, f"{key}.bn2", x).relu()
    x = _norm(state, f"{key}.bn3", F.conv2d(x, state[f"{key}.conv3.weight"]))
    return (x + shortcut).relu()


def _double(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def _bilinear_double(x: Tensor, axis: int) -> Tensor:
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), x.narrow(axis, -1, 1)], axis)
    pairs = torch.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
    return pairs.flatten(axis, axis + 1)


@torch.inference_mode()
def plain_unet(state: State, patches: Tensor, kernels: tuple[int, ...]) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, C, H, W): nothing cut off."""
    x = patches.permute(0, 3, 1, 2).float() / 255
    x = F.conv2d(x, state["backbone.conv1.weight"], stride=2, padding=3)
    maps = [_norm(state, "backbone.bn1", x).relu()]
    x = F.max_pool2d(maps[0], 3, 2, 1)
    for layer, blocks in BLOCKS.items():
        for block in range(blocks):
            stride = 2 if block == 0 and layer != "layer1" else 1
            x = _bottleneck(state, f"backbone.{layer}.{block}", x, stride)
        maps.append(x)
    x = F.conv2d(maps.pop(), state["conv1x1.weight"])
    for stage in range(4):
        x = _double(x) + maps.pop()
        for index, kernel in enumerate(kernels):
            x = _norm(state, f"uplist.{stage}.{3 * index}", x).relu()
            key = f"uplist.{stage}.{3 * index + 2}.weight"
            x = F.conv2d(x, state[key], padding=kernel // 2)
    x = torch.softmax(F.conv2d(x, state["clf.weight"], state["clf.bias"]), 1)
    return _bilinear_double(_bilinear_double(x, 2), 3)


def centre(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]
