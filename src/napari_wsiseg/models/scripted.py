"""TorchScript files: loaded only where the user trusts them, for loading them runs code."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Self

import torch
import yaml
from torch import Tensor

from napari_wsiseg.errors import ModelError, reason
from napari_wsiseg.geometry import Size
from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.models.networks import TorchSegmenter
from napari_wsiseg.models.weights import sha256
from napari_wsiseg.spec import ModelSpec


class _Scripted:
    """Feeds a scripted module as its kind expects it, and cuts the centre."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self._module = module

    def to(self, device: torch.device) -> Self:
        """Itself, moved."""
        self._module.to(device)
        return self

    def __call__(self, patches: Tensor, output: Size) -> Tensor:
        answer: Tensor = self._module(patches.permute(0, 3, 1, 2).float().div(255))
        top = (answer.shape[-2] - output.height) // 2
        left = (answer.shape[-1] - output.width) // 2
        if top < 0 or left < 0:
            raise ModelError(
                f"The model answers {Size(*answer.shape[-2:])} for patches of "
                f"{Size(*patches.shape[1:3])}; its spec promises {output}."
            )
        return answer[..., top : top + output.height, left : left + output.width]


def load_scripted(path: Path, device: torch.device, *, trust: bool) -> Segmenter:
    """A segmenter from a TorchScript file and the spec beside it.

    The module takes (N, 3, H, W) float32 RGB in 0..1 and returns (N, C, h, w) in 0..1,
    its activation applied. `<stem>.yaml` holds the fields of `ModelSpec`.

    Raises
    ------
    ModelError
        Without `trust`, or if either file is missing or unreadable.
    """
    if not path.is_file():
        raise ModelError(f"There is no model file {path}; check the path.")
    digest = sha256(path)
    if not trust:
        raise ModelError(
            f"Loading {path} (sha256 {digest}) runs code from it; "
            "if you trust where it comes from, say so with trust=True (--trust)."
        )
    spec = _spec_beside(path)
    try:
        with warnings.catch_warnings():
            # torch would rather have us write other files; these are there to be read.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(  # type: ignore[no-untyped-call] # torch leaves it untyped
                path, map_location=device
            ).eval()
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read as TorchScript ({reason(error)}); save it with torch.jit.save, "
            "or give a state dict with weights=PATH beside a model's name."
        ) from error
    return TorchSegmenter(spec, _Scripted(module), device, "exact", weights_sha256=digest)


def _spec_beside(path: Path) -> ModelSpec:
    beside = path.with_suffix(".yaml")
    try:
        values: Any = yaml.safe_load(beside.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(
            f"{path} needs its spec in {beside.name} beside it, a field of ModelSpec a line "
            f"({reason(error)})."
        ) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ModelError(f"{beside} holds no spec; write one 'field: value' a line.")
    return ModelSpec(**{"name": path.stem, **values})
