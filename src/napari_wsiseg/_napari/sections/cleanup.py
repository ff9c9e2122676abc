"""The clean-up: what is too small to be believed, in µm."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QVBoxLayout, QWidget

from napari_wsiseg._napari.sections.parts import button, folding, form, named, note
from napari_wsiseg.labels import Cleanup


class CleanupBox(QWidget):
    """Says `chosen` with a `Cleanup`, when the button is clicked: it takes the whole map."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.smallest = _number("Smallest object, µm²", "Smaller objects lose their class.")
        self.hole = _number("Largest hole to fill, µm²", "Holes up to this take the class around.")
        self.smooth = _number("Smoothing, µm", "Radius within which the most frequent class wins.")
        controls = (self.smallest, self.hole, self.smooth)
        held, _ = form(*((control.accessibleName(), control) for control in controls))
        self.apply = button(
            "Apply to areas and exports",
            "Areas and exports are then those of the cleaned classes.",
            self._tell,
        )
        hint = note("The picture keeps showing the classes before the clean-up.")
        self.fold = folding("Clean-up", held, self.apply, hint)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self.fold)

    def _tell(self) -> None:
        self.chosen.emit(
            Cleanup(
                min_object_um2=self.smallest.value(),
                fill_hole_um2=self.hole.value(),
                smooth_um=self.smooth.value(),
            )
        )

    def show_cleanup(self, cleanup: Cleanup) -> None:
        """Show what is applied."""
        self.smallest.setValue(cleanup.min_object_um2)
        self.hole.setValue(cleanup.fill_hole_um2)
        self.smooth.setValue(cleanup.smooth_um)


def _number(name: str, tooltip: str) -> QDoubleSpinBox:
    made = QDoubleSpinBox()
    made.setRange(0, 10_000_000)
    made.setDecimals(1)
    named(made, name, tooltip)
    return made
