"""Small parts that the sections are made of; knows no slide and no model.

Nothing here sets a colour but a class's own: napari's theme colours the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QAction, QColor, QFont, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QBoxLayout,
    QComboBox,
    QFormLayout,
    QFrame,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

_SPACING = 4
_LONG_WORD = 30
_FORM_LETTERS = 15
_UNLIMITED = 16_777_215  # Qt's QWIDGETSIZE_MAX


class Section(QFrame):
    """A titled part of the dock.

    Parameters
    ----------
    title
        Stands above it, and is its name for screen readers.
    """

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(title)
        self.rows = QVBoxLayout(self)
        self.rows.setContentsMargins(0, 0, 0, 2 * _SPACING)
        self.rows.setSpacing(_SPACING)
        heading = QLabel(title)
        font = QFont(heading.font())
        font.setBold(True)
        heading.setFont(font)
        self.rows.addWidget(heading)

    def row(self, *widgets: QWidget, stretch: int = 0) -> QWidget:
        """Put widgets side by side, the one with this index as wide as there is room."""
        line = Line(*widgets, stretch=stretch)
        self.rows.addWidget(line)
        return line


class Line(QWidget):
    """Widgets side by side; one below the other where they would be cut off.

    Parameters
    ----------
    stretch
        Which of them takes the room that is left; None: all are equally wide.
    """

    def __init__(self, *widgets: QWidget, stretch: int | None = 0) -> None:
        super().__init__()
        self._even = stretch is None
        self._parts = widgets
        self._layout = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(_SPACING)
        for index, widget in enumerate(widgets):
            if self._even:
                widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self._layout.addWidget(widget, 1 if self._even or index == stretch else 0)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As wide as its widest part."""
        size = super().minimumSizeHint()
        widths = [part.minimumSizeHint().width() for part in self._parts if not part.isHidden()]
        size.setWidth(min(size.width(), max(widths, default=0)))
        return size

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Choose the direction."""
        super().resizeEvent(event)
        self._direct()

    def event(self, event: Any) -> bool:
        """The same where a part came, went, or has another text or font."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._direct()
        return super().event(event)

    def _direct(self) -> None:
        widths = [part.sizeHint().width() for part in self._parts if not part.isHidden()]
        if not widths:
            return
        needed = max(widths) * len(widths) if self._even else sum(widths)
        fits = needed + _SPACING * (len(widths) - 1) <= self.width()
        wanted = QBoxLayout.Direction.LeftToRight if fits else QBoxLayout.Direction.TopToBottom
        if self._layout.direction() != wanted:
            self._layout.setDirection(wanted)


def folding(title: str, *parts: QWidget) -> QCollapsible:
    """Parts below a title that are folded away at first."""
    made = QCollapsible()
    made.setDuration(0)
    # superqt takes the heights of texts that do not wrap, and keeps them.
    made.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    made.setAccessibleName(title)
    named(made.toggleButton(), title, "Shows it, or folds it away.")
    held = made.content()

    def on_toggled(is_open: bool) -> None:
        # superqt's icons keep the colours of the theme of now; text does not.
        made.toggleButton().setIcon(QIcon())
        made.setText(f"{'▾' if is_open else '▸'}  {title}")
        if is_open:
            held.setMaximumHeight(_UNLIMITED)

    made.toggled.connect(on_toggled)
    on_toggled(is_open=False)
    for whole in (made, held):
        layout = whole.layout()
        if layout is not None:
            layout.setAlignment(Qt.AlignmentFlag(0))
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(_SPACING)
            for part in parts if whole is held else ():
                layout.addWidget(part)
    return made


def form(*rows: tuple[str, QWidget] | tuple[QWidget]) -> tuple[QWidget, QFormLayout]:
    """Controls with their labels, below them where there is no room beside them."""
    held = QWidget()
    layout = QFormLayout(held)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    for row in rows:
        layout.addRow(*row)
    for box in held.findChildren(QComboBox):
        narrow(box, letters=_FORM_LETTERS)
    return held, layout


def note(text: str = "", name: str = "") -> QLabel:
    """Text that wraps, and may be selected; hidden while it is empty (see `say`)."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    label.setAccessibleName(name)
    label.setVisible(bool(text))
    return label


def say(label: QLabel, text: str) -> None:
    """Show a text in a `note`; an empty one takes no room."""
    label.setText(text)
    # A path is one long word, which does not wrap.
    label.setToolTip(text if any(len(word) > _LONG_WORD for word in text.split()) else "")
    label.setVisible(bool(text))


def warn(label: QLabel, text: str) -> None:
    """Show a warning in a `note`: told by its sign and word, not by a colour."""
    say(label, f"⚠ {text}" if text else "")


def button(text: str, tooltip: str, clicked: Callable[[], object], name: str = "") -> QPushButton:
    """A push button; `name` for screen readers, where the text says less than it should."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.setMinimumWidth(1)
    made.setAccessibleName(name or text)
    made.setAccessibleDescription(tooltip)
    made.clicked.connect(lambda _checked=False: clicked())
    return made


def menu_button(
    text: str, tooltip: str, entries: Mapping[str, Callable[[], object]]
) -> QPushButton:
    """A button that opens a menu of these entries."""
    made = QPushButton(text)
    named(made, text, tooltip)
    menu = QMenu(made)
    for name, call in entries.items():
        action = QAction(name, menu)
        action.triggered.connect(lambda _checked=False, call=call: call())
        menu.addAction(action)
    made.setMenu(menu)
    return made


def named(widget: QWidget, name: str, tooltip: str = "") -> QWidget:
    """Give a control its name for screen readers, and its tooltip."""
    widget.setAccessibleName(name)
    widget.setToolTip(tooltip)
    widget.setAccessibleDescription(tooltip)
    return widget


class Choice(QComboBox):
    """A list to choose from, no wider than there is room, that says what was chosen.

    Parameters
    ----------
    name, tooltip
        For screen readers, and for the mouse.
    """

    chosen = Signal(object)

    def __init__(self, name: str, tooltip: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        named(self, name, tooltip)
        narrow(self)
        # A turn of the wheel that was meant to scroll the dock must not choose.
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.activated.connect(lambda index: self.chosen.emit(self.itemData(index)))

    def wheelEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Let the dock scroll."""
        event.ignore()

    def offer(
        self, entries: Sequence[tuple[str, object]], current: object, placeholder: str = ""
    ) -> None:
        """Replace the list; says nothing."""
        self.blockSignals(True)
        self.clear()
        self.setPlaceholderText(placeholder)
        for text, value in entries:
            self.addItem(text, value)
            self.setItemData(self.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
        self.choose(current)
        self.blockSignals(False)

    def choose(self, value: object) -> None:
        """Show this value as chosen; says nothing."""
        found = [i for i in range(self.count()) if _same(self.itemData(i), value)]
        self.setCurrentIndex(found[0] if found else -1)

    @property
    def value(self) -> Any:
        """What is chosen; None where nothing is."""
        return self.currentData()


def narrow(box: QComboBox, letters: int = 6) -> None:
    """Let a list be narrower than its longest entry, but show this many letters."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(letters)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


def _same(one: object, other: object) -> bool:
    # Layers compare by identity; arrays in what they hold must not be compared.
    return one is other or (isinstance(one, (str, int, type(None))) and one == other)


def swatch(color: str, size: int = 14, *, hollow: bool = False) -> QPixmap:
    """A square of a class's colour, with a rim that shows on every background."""
    picture = QPixmap(QSize(size, size))
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setPen(QColor("#888888"))
    if not hollow:
        painter.setBrush(QColor(color))
    painter.drawRect(0, 0, size - 1, size - 1)
    painter.end()
    return picture


def swatch_icon(color: str) -> QIcon:
    """The same as an icon."""
    return QIcon(swatch(color))


def clear(layout: Any) -> None:
    """Take all out of a layout."""
    while layout.count():
        item = layout.takeAt(0)
        widget = item.widget()
        if widget is not None:
            widget.hide()
            widget.deleteLater()
        elif item.layout() is not None:
            clear(item.layout())
