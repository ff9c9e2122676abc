"""A small plot: a bar a class, as long as its part of the analysed tissue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QPainter, QPalette
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from napari_wsiseg.measure import AreaTable

_BAR = 8
_GAP = 3


class AreaBar(QWidget):
    """Bars in the classes' colours; the rows above it say the same in numbers."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Areas as bars, in % of the analysed tissue")
        self._colors: list[tuple[str, str]] = []
        self._parts: dict[str, float] = {}

    def set_colors(self, colors: Sequence[tuple[str, str]]) -> None:
        """The classes, each with its colour."""
        self._colors = list(colors)
        self._parts = {}
        self.setFixedHeight(max(len(colors), 1) * (_BAR + _GAP) + _GAP)

    def show_areas(self, areas: AreaTable | None) -> None:
        """Draw these areas."""
        rows = () if areas is None else areas.classes
        self._parts = {row.name: row.fraction or 0.0 for row in rows}
        self.setToolTip(
            "\n".join(f"{name}: {100 * part:.1f} %" for name, part in self._parts.items())
        )
        self.update()

    def paintEvent(self, event: Any) -> None:  # noqa: ARG002, N802 - Qt's name
        """Draw the bars on a frame that stands for 100 %."""
        painter = QPainter(self)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        faint = QColor(ink)
        faint.setAlpha(40)
        width = self.width() - 1
        for number, (name, color) in enumerate(self._colors):
            top = _GAP + number * (_BAR + _GAP)
            painter.fillRect(QRectF(0, top, width, _BAR), faint)
            bar = QRectF(0, top, width * min(self._parts.get(name, 0.0), 1.0), _BAR)
            if bar.width() > 0:
                painter.fillRect(bar, QColor(color))
                painter.setPen(QColor("#888888"))
                painter.drawRect(bar)
        painter.end()
