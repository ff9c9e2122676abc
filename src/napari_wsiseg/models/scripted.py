"""TorchScript files: loaded only where the user trusts them, for loading them runs code."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from napari_wsiseg.errors import ModelError, reason
from napari_wsiseg.geometry import Size
from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.models.files import centre, check_there, planes, spec_beside
from napari_wsiseg.models.networks import TorchSegmenter
from napari_wsiseg.models.weights import sha256


class _Scripted:
    """Feeds a scripted module as its kind expects it, and cuts the centre."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self._module = module

    def to(self, device: torch.device) -> Self:
        """Itself, moved."""
        self._module.to(device)
        return self

    def __call__(self, patches: Tensor, output: Size) -> Tensor:
        return centre(self._module(planes(patches)), patches, output)


def load_scripted(path: Path, device: torch.device, *, trust: bool) -> Segmenter:
    """A segmenter from a TorchScript file and the spec beside it.

    The module takes (N, 3, H, W) float32 RGB in 0..1 and returns (N, C, h, w) in 0..1,
    its activation applied. `<stem>.yaml` holds the fields of `ModelSpec`.

    Raises
    ------
    ModelError
        Without `trust`, or if either file is missing or unreadable.
    """
    check_there(path)
    digest = sha256(path)
    if not trust:
        raise ModelError(
            f"Loading {path} (sha256 {digest}) runs code from it; "
            "if you trust where it comes from, say so with trust=True (--trust)."
        )
    spec = spec_beside(path)
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
