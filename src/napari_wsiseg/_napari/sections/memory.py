"""The memory threshold, and how the machine's memory stands."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QPainter, QPalette
from qtpy.QtWidgets import QLabel, QSizePolicy, QSlider, QWidget

from napari_wsiseg._napari.sections.parts import Line, Section, named, note
from napari_wsiseg.memory import MachineMemory

_GB = 1e9


class MemorySection(Section):
    """Says `threshold_chosen` with percent of the free memory."""

    threshold_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("5  Memory threshold", parent)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(5, 95)
        self.slider.setSingleStep(5)
        self.slider.setPageStep(10)
        named(
            self.slider,
            "Memory threshold, percent of the free memory",
            "How much of the free memory a run may take before it works from disk.",
        )
        self.percent = QLabel()
        self.percent.setMinimumWidth(self.percent.fontMetrics().horizontalAdvance("100 %"))
        self.slider.valueChanged.connect(self._on_value)
        self.rows.addWidget(Line(self.slider, self.percent))
        self.words = note(name="What the memory threshold means")
        self.words.show()
        self.bar = MemoryBar()
        self.rows.addWidget(self.bar)
        self.rows.addWidget(self.words)
        self._memory = MachineMemory(0, 0)
        self._own = 0
        self._from_disk = False

    def show_threshold(self, percent: int) -> None:
        """Show the threshold; says nothing."""
        self.slider.blockSignals(True)
        self.slider.setValue(percent)
        self.slider.blockSignals(False)
        self._tell()

    def show_memory(self, memory: MachineMemory, own: int, *, from_disk: bool) -> None:
        """Show how memory stands.

        Parameters
        ----------
        memory
            The machine's.
        own
            Bytes that this program holds.
        from_disk
            Whether the run works from disk.
        """
        self._memory, self._own, self._from_disk = memory, own, from_disk
        self.bar.show_memory(memory, own)
        self._tell()

    def _on_value(self, percent: int) -> None:
        self._tell()
        self.threshold_chosen.emit(percent)

    def _tell(self) -> None:
        percent, free = self.slider.value(), self._memory.available / _GB
        self.percent.setText(f"{percent} %")
        text = (
            f"Use up to {percent} % of the free memory ({free * percent / 100:.1f} of "
            f"{free:.1f} GB), then work from disk: slower, same result."
        )
        if self._from_disk:
            text = f"Working from disk now: slower, same result. {text}"
        self.words.setText(text)


class MemoryBar(QLabel):
    """What others hold, what we hold, what is free: told in words as well."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setWordWrap(True)
        self.setContentsMargins(0, 2, 0, 2)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self._parts = (0.0, 0.0)

    def show_memory(self, memory: MachineMemory, own: int) -> None:
        """Show these bytes."""
        if memory.total <= 0:
            return
        used = memory.total - memory.available
        others = max(used - own, 0)
        self._parts = (others / memory.total, min(own, used) / memory.total)
        text = (
            f"others {others / _GB:.1f} · napari {own / _GB:.1f} · "
            f"free {memory.available / _GB:.1f} GB"
        )
        self.setText(text)
        self.setAccessibleName(f"Memory: {text}")
        self.setToolTip(f"Memory of this machine: {text} of {memory.total / _GB:.1f} GB")
        self.update()

    def paintEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Draw the bar in the theme's colours, below the words."""
        painter = QPainter(self)
        palette = self.palette()
        ink = palette.color(QPalette.ColorRole.WindowText)
        box = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        others, own = (part * box.width() for part in self._parts)
        faint, strong = ink.lighter(100), palette.color(QPalette.ColorRole.Highlight)
        faint.setAlpha(50)
        strong.setAlpha(140)
        painter.fillRect(QRectF(box.left(), box.top(), others, box.height()), faint)
        painter.fillRect(QRectF(box.left() + others, box.top(), own, box.height()), strong)
        painter.setPen(ink)
        painter.drawRect(box)
        painter.end()
        super().paintEvent(event)
