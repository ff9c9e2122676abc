"""Devices and number types: "auto" resolved once, to what this machine has."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch

from napari_wsiseg.errors import ModelError, reason
from napari_wsiseg.models.runtimes import is_installed, openvino

Precision = Literal["exact", "fp32", "bf16", "fp16"]
"""What a network computes in.

"exact": float32, within 2e-5 of the published network's order of operations, which it is in
torch; "fp32": float32 with the encoder's batch norms folded into its convolutions; "bf16",
"fp16": so, with 16-bit convolutions.
"""

Backend = Literal["torch", "openvino"]
"""What computes the networks of this package."""

_X86_64 = {"x86_64", "amd64"}


@dataclass(frozen=True)
class Machine:
    """What this machine computes with.

    Parameters
    ----------
    devices
        "auto", then what `resolve_device` takes here.
    words
        What "auto" stands for: "CPU with bf16", or the GPU's name.
    """

    devices: tuple[str, ...]
    words: str


def describe_machine() -> Machine:
    """Look at the devices, and let the one that "auto" takes compute once.

    Raises
    ------
    ModelError
        If it does not compute.
    """
    devices = _devices()
    first = torch.device(devices[0])
    try:
        torch.ones(8, 8, device=first).matmul(torch.ones(8, 8, device=first)).sum().item()
    except RuntimeError as error:
        raise ModelError(
            f"The device {devices[0]!r} does not compute ({reason(error)}); choose another."
        ) from error
    name = torch.cuda.get_device_name(0) if first.type == "cuda" else first.type.upper()
    words = f"{name} with bf16" if has_bf16(first) else name
    several = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if "cuda" in devices else []
    return Machine(("auto", *devices, *(several if len(several) > 1 else [])), words)


def resolve_device(device: str) -> torch.device:
    """A device of this machine; "auto" is the first of cuda, mps and cpu.

    Raises
    ------
    ModelError
        If this machine has no such device.
    """
    here = _devices()
    if device == "auto":
        return torch.device(here[0])
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(
            f"{device!r} is no device; choose one of auto, {', '.join(here)}."
        ) from error
    if device not in here and chosen.type not in here:
        raise ModelError(
            f"The device {device!r} is not on this machine; choose one of auto, {', '.join(here)}."
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"The device {device!r} is not on this machine; "
            f"it has {torch.cuda.device_count()} GPUs."
        )
    return chosen


def _devices() -> list[str]:
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """What to compute in; "auto" is bf16 where the hardware has it, else fp32.

    Raises
    ------
    ModelError
        If the name is unknown, or the device cannot compute in it.
    """
    if precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    if precision not in get_args(Precision):
        raise ModelError(
            f"{precision!r} is no precision; choose auto, {', '.join(get_args(Precision))}."
        )
    if precision == "bf16" and not has_bf16(device):
        raise ModelError(
            f"The device {str(device)!r} does not compute in bf16; choose precision auto or exact."
        )
    if precision == "fp16" and device.type == "cpu":
        raise ModelError("Only a GPU computes in fp16; choose precision auto or exact.")
    return cast("Precision", precision)


def resolve_backend(backend: str, device: torch.device) -> Backend:
    """What computes a network; "auto" is OpenVINO where it is installed and known to be faster.

    That is on x86-64 processors.

    Raises
    ------
    ModelError
        If the name is unknown, or OpenVINO cannot compute on the device.
    """
    if backend == "auto":
        faster = platform.machine().lower() in _X86_64 and is_installed("openvino")
        return "openvino" if device.type == "cpu" and faster else "torch"
    if backend not in get_args(Backend):
        raise ModelError(f"{backend!r} is no backend; choose auto, {', '.join(get_args(Backend))}.")
    if backend == "openvino" and device.type != "cpu":
        raise ModelError(
            f"Only on the CPU does OpenVINO compute here, not on {str(device)!r}; choose device "
            "cpu, or backend auto."
        )
    if backend == "openvino":
        openvino()  # says so where it is missing, before weights are fetched
    return cast("Backend", backend)


def has_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 arithmetic of its own, not emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call] # torch leaves it untyped
        return False
    # Older torch cannot tell; its processors without the instructions would crawl.
    ask = getattr(torch.cpu, "get_capabilities", None)
    capabilities = ask() if ask is not None else {}
    return any(capabilities.get(name) is True for name in ("avx512_bf16", "amx_bf16"))
