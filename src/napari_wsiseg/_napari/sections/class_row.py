"""A class of a result: colour, name, whether it shows, threshold, area."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QWidget,
)

from napari_wsiseg._napari.sections.parts import Line, named, swatch
from napari_wsiseg.labels import threshold_scale

if TYPE_CHECKING:
    from napari_wsiseg.spec import ModelSpec

# Steps of a stored score: finer thresholds decide nothing else.
_STEPS = 255
_READ_OUTS = ("Part of the tissue", "Area")


class ClassRow(QWidget):
    """Signals: `threshold_moved` with class index, threshold (0..1) and whether it is final;
    `shown_toggled` with class index and state.
    """

    threshold_moved = Signal(int, float, bool)
    shown_toggled = Signal(int, bool)

    def __init__(
        self,
        index: int,
        spec: ModelSpec,
        threshold: float,
        *,
        is_shown: bool,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.class_name = spec.classes[index]
        self._index = index
        self._scale = threshold_scale(spec)
        chip = QLabel()
        chip.setPixmap(swatch(spec.class_colors[index]))
        chip.setContentsMargins(0, 3, 0, 0)
        self.shown = QCheckBox(self.class_name)
        self.shown.setChecked(is_shown)
        named(
            self.shown,
            f"Show {self.class_name}",
            f"Show {self.class_name} in its colour. Areas and exports do not change.",
        )
        # A long name is cut, and whole in the tooltip: the areas beside it are not.
        self.shown.setMinimumWidth(1)
        self.shown.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.shown.toggled.connect(lambda state: self.shown_toggled.emit(index, state))
        self.share, self.area = (_right(f"{what} of {self.class_name}") for what in _READ_OUTS)
        self._add_threshold(spec, threshold)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(4)
        layout.setVerticalSpacing(0)
        numbers = QWidget()
        line = QHBoxLayout(numbers)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.number)
        line.addWidget(self.area, 1)
        layout.addWidget(chip, 0, 0, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(Line(self.shown, self.share), 0, 1)
        layout.addWidget(Line(self.slider, numbers), 1, 1)
        layout.setColumnStretch(1, 1)

    def _add_threshold(self, spec: ModelSpec, threshold: float) -> None:
        is_stain = spec.activation == "stain"
        what = "optical density" if is_stain else "score"
        tip = f"Pixels with at least this {what} count as {self.class_name}."
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        named(self.slider, f"Threshold of {self.class_name}", tip)
        self.number = QDoubleSpinBox()
        self.number.setRange(0, self._scale)
        self.number.setDecimals(3)
        self.number.setSingleStep(0.01)
        self.number.setKeyboardTracking(False)
        self.number.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.number.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.number.setSuffix(" OD" if is_stain else "")
        self.number.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        named(self.number, f"Threshold of {self.class_name}, as a number", tip)
        self.show_threshold(threshold)
        self.slider.valueChanged.connect(self._on_slider)
        self.slider.sliderReleased.connect(lambda: self._tell(final=True))
        self.number.valueChanged.connect(self._on_number)

    def _on_slider(self, step: int) -> None:
        self._threshold = step / _STEPS
        self._show_number()
        # Moved by keys or a click beside the handle, it is let go at once.
        self._tell(final=not self.slider.isSliderDown())

    def _on_number(self, value: float) -> None:
        self._threshold = min(value / self._scale, 1.0)
        self._show_slider()
        self._tell(final=True)

    def _tell(self, *, final: bool) -> None:
        self.threshold_moved.emit(self._index, self._threshold, final)

    def show_threshold(self, threshold: float) -> None:
        """Show a threshold; says nothing."""
        self._threshold = threshold
        self._show_slider()
        self._show_number()

    def _show_slider(self) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round(self._threshold * _STEPS))
        self.slider.blockSignals(False)

    def _show_number(self) -> None:
        self.number.blockSignals(True)
        self.number.setValue(self._threshold * self._scale)
        self.number.blockSignals(False)

    def set_adjustable(self, adjustable: bool) -> None:
        """Whether the threshold decides anything."""
        self.slider.setEnabled(adjustable)
        self.number.setEnabled(adjustable)

    def show_area(self, share: str, area: str) -> None:
        """Show its part of the tissue and its area in words."""
        self.share.setText(share)
        self.area.setText(area)


def _right(name: str) -> QLabel:
    label = QLabel("-")
    label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    label.setAccessibleName(name)
    return label
