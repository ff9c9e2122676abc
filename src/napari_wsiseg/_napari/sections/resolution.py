"""The resolution: the model's own or another, and what it comes to on this slide."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QWidget

from napari_wsiseg._napari.panel import UNITS
from napari_wsiseg._napari.sections.parts import Choice, Section, named, note, say, warn

_MODELS_OWN, _MPP, _POWER, _LEVEL, _SCALE = UNITS
_USUAL = {_MPP: "0.5", _POWER: "20", _LEVEL: "0", _SCALE: "1"}


class ResolutionSection(Section):
    """Says `changed` with what was typed and its unit."""

    changed = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("3  Resolution", parent)
        self.unit = Choice(
            "Resolution",
            "How finely the slide is read. Models answer best at the resolution they were "
            "trained at.",
        )
        self._offer(advanced=False)
        self.number = QLineEdit()
        named(self.number, "Number for the resolution")
        self.number.setMaximumWidth(90)
        self.number.hide()
        self.unit.chosen.connect(self._on_unit)
        self.number.editingFinished.connect(self._tell)
        self.row(self.unit, self.number)
        self.meaning = note(name="What the run comes to")
        self.warning = note(name="Warning about the run")
        self.rows.addWidget(self.meaning)
        self.rows.addWidget(self.warning)

    def _offer(self, *, advanced: bool) -> None:
        names = [_MODELS_OWN, _MPP, _POWER, *([_LEVEL, _SCALE] if advanced else [])]
        current = self.unit.value if self.unit.value in names else _MODELS_OWN
        self.unit.offer([(name, name) for name in names], current)

    def set_advanced(self, advanced: bool) -> None:
        """Whether levels and scales are offered too."""
        before = self.unit.value
        self._offer(advanced=advanced)
        if self.unit.value != before:
            self._on_unit(self.unit.value)

    def _on_unit(self, unit: str) -> None:
        self.number.setVisible(unit != _MODELS_OWN)
        self.number.setText(_USUAL.get(unit, ""))
        self._tell()

    def _tell(self) -> None:
        self.changed.emit(self.number.text(), self.unit.value)

    def show_meaning(self, text: str, warning: str = "") -> None:
        """Tell what the run comes to, and what to beware of."""
        say(self.meaning, text)
        warn(self.warning, warning)
