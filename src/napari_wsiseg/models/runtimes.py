"""What may compute in torch's place: imported where it is asked for, its statistics off."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from napari_wsiseg.errors import ModelError, reason

_TELEMETRY = "openvino_telemetry"


def is_installed(runtime: str) -> bool:
    """Whether a runtime is there to be imported; does not import it."""
    return find_spec(runtime) is not None


def openvino() -> ModuleType:
    """OpenVINO, which sends usage statistics from its import on if it finds its package for that.

    Raises
    ------
    ModelError
        If it is not installed, or cannot be imported.
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        return _imported("openvino", "OpenVINO", "openvino")
    hidden: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment] # None: not there
    hidden[_TELEMETRY] = None
    try:
        return _imported("openvino", "OpenVINO", "openvino")
    finally:
        del hidden[_TELEMETRY]


def onnxruntime() -> ModuleType:
    """ONNX Runtime, whose builds for Windows tell their maker about sessions unless told not to.

    Raises
    ------
    ModelError
        If it is not installed, or cannot be imported.
    """
    runtime = _imported("onnxruntime", "ONNX Runtime", "onnx")
    with suppress(AttributeError):
        runtime.disable_telemetry_events()
    return runtime


def _imported(module: str, name: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        told = "is not installed" if not is_installed(module) else f"fails ({reason(error)})"
        raise ModelError(
            f"{name} {told}; install it with: pip install 'napari-wsiseg[{extra}]'."
        ) from error
