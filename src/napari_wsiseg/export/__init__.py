"""Exports: what a result looks like to other programs and to people."""

from napari_wsiseg.export.formats import FORMATS
from napari_wsiseg.export.request import Step
from napari_wsiseg.export.steps import export, export_path, export_steps
from napari_wsiseg.regions import QUPATH_CLASSES

__all__ = ["FORMATS", "QUPATH_CLASSES", "Step", "export", "export_path", "export_steps"]
