"""Weights that two implementations can make alike without sharing a file.

Every tensor is drawn from a generator seeded with the CRC-32 of its state-dict key (plus
`seed`), so that a ResNet-50 UNet built anywhere gets the same numbers. Convolutions:
He-normal; batch norm: identity, with the last norm of every bottleneck (`bn3`) and of the
projection shortcut damped, so that activations stay in range; `clf` scaled for varied
softmax outputs.
"""

from __future__ import annotations

import zlib

import numpy as np

CLF_GAIN = 2.8


def deterministic_state_dict(
    shapes: dict[str, tuple[int, ...]], seed: int = 0
) -> dict[str, np.ndarray]:
    """Return {key: array} for a state dict with these {key: shape}."""
    return {key: _draw(key, tuple(shape), seed) for key, shape in shapes.items()}


def _draw(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng([zlib.crc32(key.encode()), seed])
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("unpool_mat"):
        return np.ones(shape, np.float32)
    if key.endswith("running_mean"):
        return np.zeros(shape, np.float32)
    if key.endswith("running_var"):
        return np.ones(shape, np.float32)
    if len(shape) == 4:
        fan_in = shape[1] * shape[2] * shape[3]
        gain = CLF_GAIN if key.startswith("clf.") else np.sqrt(2.0)
        return (rng.standard_normal(shape) * gain / np.sqrt(fan_in)).astype(np.float32)
    if len(shape) == 2:
        return (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)
    if key.endswith("weight"):
        damped = "bn3" in key or "downsample.1" in key
        return np.full(shape, 0.3 if damped else 1.0, np.float32)
    return (
        np.zeros(shape, np.float32)
        if not key.startswith("clf.")
        else (rng.standard_normal(shape) * 0.2).astype(np.float32)
    )
