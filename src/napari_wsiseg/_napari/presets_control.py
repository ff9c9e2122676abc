"""Thresholds as presets: saved, loaded, and the model's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_wsiseg._napari.results_control import ResultsControl
from napari_wsiseg._napari.sections.result import ResultSection
from napari_wsiseg._napari.slide_layer import tell
from napari_wsiseg.labels import MODELS_OWN, load_preset, save_preset

_FILES = "Presets (*.json)"


class PresetsControl(QObject):
    """Saves and loads the thresholds of the current result."""

    def __init__(self, section: ResultSection, results: ResultsControl, parent: QWidget) -> None:
        super().__init__(parent)
        self._results, self._dialogs = results, parent
        section.preset_save_asked.connect(self._save)
        section.preset_load_asked.connect(self._load)
        section.thresholds_reset_asked.connect(lambda: results.set_rule(MODELS_OWN))

    def _save(self) -> None:
        layers = self._results.current
        if layers is None:
            return
        name = f"{layers.pm.spec.name}-thresholds.json"
        path, _ = QFileDialog.getSaveFileName(self._dialogs, "Save thresholds", name, _FILES)
        if path:
            _attempt(lambda: save_preset(layers.rule, layers.pm.spec, Path(path)))

    def _load(self) -> None:
        layers = self._results.current
        if layers is None:
            return
        path, _ = QFileDialog.getOpenFileName(self._dialogs, "Load thresholds", "", _FILES)
        if path:
            _attempt(lambda: self._results.set_rule(load_preset(Path(path), layers.pm.spec)))


def _attempt(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:  # noqa: BLE001 - told, whatever it is
        tell(error)
