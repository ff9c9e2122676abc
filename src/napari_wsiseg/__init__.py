"""Segment whole slide images, and watch the map grow.

The public names, imported when they are first used: `import napari_wsiseg` loads no
torch, no Zarr and no Qt.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from napari_wsiseg._version import __version__

if TYPE_CHECKING:
    from napari_wsiseg.config import SegmentationJob as SegmentationJob
    from napari_wsiseg.config import TissueOptions as TissueOptions
    from napari_wsiseg.engine import plan as plan
    from napari_wsiseg.engine import run as run
    from napari_wsiseg.engine import segment as segment
    from napari_wsiseg.engine import segment_patches as segment_patches
    from napari_wsiseg.errors import ExportError as ExportError
    from napari_wsiseg.errors import InferenceError as InferenceError
    from napari_wsiseg.errors import JobError as JobError
    from napari_wsiseg.errors import ModelError as ModelError
    from napari_wsiseg.errors import SlideError as SlideError
    from napari_wsiseg.errors import StoreError as StoreError
    from napari_wsiseg.errors import WsisegError as WsisegError
    from napari_wsiseg.export import export as export
    from napari_wsiseg.export import export_steps as export_steps
    from napari_wsiseg.geometry import Region as Region
    from napari_wsiseg.geometry import Resolution as Resolution
    from napari_wsiseg.geometry import Size as Size
    from napari_wsiseg.labels import Cleanup as Cleanup
    from napari_wsiseg.labels import DecisionRule as DecisionRule
    from napari_wsiseg.labels import correct as correct
    from napari_wsiseg.labels import correct_steps as correct_steps
    from napari_wsiseg.labels import corrections as corrections
    from napari_wsiseg.labels import discard_corrections as discard_corrections
    from napari_wsiseg.labels import has_corrections as has_corrections
    from napari_wsiseg.labels import label_pyramid as label_pyramid
    from napari_wsiseg.labels import labels_to_correct as labels_to_correct
    from napari_wsiseg.labels import load_preset as load_preset
    from napari_wsiseg.labels import save_preset as save_preset
    from napari_wsiseg.measure import measure as measure
    from napari_wsiseg.models import Segmenter as Segmenter
    from napari_wsiseg.models import load_model as load_model
    from napari_wsiseg.models import models as models
    from napari_wsiseg.slides import open_slide as open_slide
    from napari_wsiseg.spec import ModelSpec as ModelSpec
    from napari_wsiseg.store import ProbabilityMap as ProbabilityMap

_MODULES = {
    "config": ("SegmentationJob", "TissueOptions"),
    "engine": ("plan", "run", "segment", "segment_patches"),
    "errors": (
        "ExportError",
        "InferenceError",
        "JobError",
        "ModelError",
        "SlideError",
        "StoreError",
        "WsisegError",
    ),
    "export": ("export", "export_steps"),
    "geometry": ("Region", "Resolution", "Size"),
    "labels": (
        "Cleanup",
        "DecisionRule",
        "correct",
        "correct_steps",
        "corrections",
        "discard_corrections",
        "has_corrections",
        "label_pyramid",
        "labels_to_correct",
        "load_preset",
        "save_preset",
    ),
    "measure": ("measure",),
    "models": ("Segmenter", "load_model", "models"),
    "slides": ("open_slide",),
    "spec": ("ModelSpec",),
    "store": ("ProbabilityMap",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are strings


class _FunctionModule(ModuleType):
    """A module that shares its name with its main function, and is called as it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return vars(self)[self.__name__.rpartition(".")[2]](*args, **kwargs)


class _Package(ModuleType):
    """Lets `models`, `measure` and `export` be a function and a module under one name.

    Python binds every imported submodule to its package, in any order that users
    import in, so the module has to be callable whichever way it came.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if _HOMES.get(name) == name and type(value) is ModuleType:
            value.__class__ = _FunctionModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    return module if _HOMES[name] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
