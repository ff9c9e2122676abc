"""Where on the slide: the tissue, all of it, the view, shapes, or regions of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QWidget

from napari_wsiseg._napari.panel import PLACES, Where
from napari_wsiseg._napari.sections.parts import Choice, Section, button, named, note, say


class WhereSection(Section):
    """Says what the user asks for.

    Signals: `where_chosen` with a `Where`; `shapes_chosen` with a Shapes layer; `file_asked`;
    `outline_toggled` with whether the tissue's outline shows; `find_asked`.
    """

    where_chosen = Signal(object)
    shapes_chosen = Signal(object)
    file_asked = Signal()
    outline_toggled = Signal(bool)
    find_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("4  Where", parent)
        self.where = Choice(
            "Where",
            "What part of the slide is analysed. The current view takes seconds: try a model "
            "there, then another; what was done is not done again.",
        )
        self.where.offer([(text, where) for where, text in PLACES.items()], "tissue")
        self.where.chosen.connect(self.where_chosen)
        self.rows.addWidget(self.where)
        self.shapes = Choice("Shapes layer", "Its rectangles, ellipses and polygons.")
        self.shapes.chosen.connect(self.shapes_chosen)
        self.shapes.hide()
        self.rows.addWidget(self.shapes)
        self.file = button(
            "Choose GeoJSON ...",
            "Regions drawn in QuPath, exported as GeoJSON.",
            self.file_asked.emit,
        )
        self.file.hide()
        self.rows.addWidget(self.file)
        self.outline = QCheckBox("Show the tissue's outline")
        named(
            self.outline,
            "Show the tissue's outline",
            "What counts as tissue. To correct it, choose its layer and paint or erase.",
        )
        self.outline.setChecked(True)
        self.outline.toggled.connect(self.outline_toggled)
        self.find_again = button(
            "Find again", "Find the tissue anew; what was painted is lost.", self.find_asked.emit
        )
        self.row(self.outline, self.find_again)
        self.regions = note(name="Regions that are analysed")
        self.about = note(name="About the tissue")
        self.rows.addWidget(self.regions)
        self.rows.addWidget(self.about)

    def show_where(self, where: Where) -> None:
        """Show what is chosen."""
        self.where.choose(where)
        self.shapes.setVisible(where == "shapes")
        self.file.setVisible(where == "file")
        for part in (self.outline, self.find_again):
            part.setVisible(where != "whole")

    def show_outline(self, *, shown: bool) -> None:
        """Show whether the outline is there; says nothing."""
        self.outline.blockSignals(True)
        self.outline.setChecked(shown)
        self.outline.blockSignals(False)

    def show_shapes(self, layers: Sequence[tuple[str, object]], current: object) -> None:
        """Offer these layers."""
        self.shapes.offer(layers, current, "Add a Shapes layer and draw")

    def show_file(self, path: Path | None) -> None:
        """Name the file that regions come from."""
        self.file.setText("Choose GeoJSON ..." if path is None else path.name)

    def show_regions(self, text: str) -> None:
        """Tell of the regions."""
        say(self.regions, text)

    def show_about(self, text: str) -> None:
        """Tell of the tissue."""
        say(self.about, text)
