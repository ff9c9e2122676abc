"""A result: a row a class with colour, threshold and area; and how it is shown."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_wsiseg._napari.area_words import extent_words, share_words, summary_words
from napari_wsiseg._napari.sections.area_bar import AreaBar
from napari_wsiseg._napari.sections.class_row import ClassRow
from napari_wsiseg._napari.sections.cleanup import CleanupBox
from napari_wsiseg._napari.sections.parts import (
    Choice,
    Line,
    Section,
    button,
    clear,
    menu_button,
    named,
    note,
    say,
)

if TYPE_CHECKING:
    from napari_wsiseg.labels import DecisionRule
    from napari_wsiseg.measure import AreaTable
    from napari_wsiseg.spec import ModelSpec


class ResultSection(Section):
    """Shows a result.

    Signals: `threshold_moved` with class index, threshold and whether it is final;
    `shown_toggled` with class index and state; `heatmap_chosen` with a class index or None;
    `opacity_moved` with percent; `cleanup_chosen` with a `Cleanup`; the others with what
    their names say.
    """

    open_asked = Signal()
    result_chosen = Signal(object)
    beside_toggled = Signal(bool)
    corrected_toggled = Signal(bool)
    threshold_moved = Signal(int, float, bool)
    shown_toggled = Signal(int, bool)
    heatmap_chosen = Signal(object)
    outline_toggled = Signal(bool)
    opacity_moved = Signal(int)
    measured_in_chosen = Signal(object)
    preset_save_asked = Signal()
    preset_load_asked = Signal()
    thresholds_reset_asked = Signal()
    copy_asked = Signal()
    csv_asked = Signal()
    cleanup_chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("8  Result", parent)
        self._add_results()
        self.body = QWidget()
        self._rows = QVBoxLayout(self.body)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(4)
        self.rows.addWidget(self.body)
        self._add_corrected()
        self._add_measured_in()
        self._add_classes()
        self._add_display()
        self.cleanup = CleanupBox()
        self.cleanup.chosen.connect(self.cleanup_chosen)
        self._rows.addWidget(self.cleanup)
        self._add_actions()
        self.show_nothing()

    def _add_results(self) -> None:
        self.results = Choice("Result", "Results keep their own thresholds and layers.")
        self.results.chosen.connect(self.result_chosen)
        self.open = button(
            "Open result ...", "Open an earlier result (a folder .ome.zarr).", self.open_asked.emit
        )  # fmt: skip
        self.rows.addWidget(self.results)
        self.beside = QCheckBox("Side by side")
        named(
            self.beside,
            "Side by side",
            "Show all results of this slide beside each other, moved and zoomed as one.",
        )
        self.beside.toggled.connect(self.beside_toggled)
        self.row(self.open, self.beside)

    def _add_corrected(self) -> None:
        self.corrected = QCheckBox("As corrected by hand")
        named(
            self.corrected,
            "As corrected by hand",
            "Show, measure and export the classes as they were corrected; thresholds rest then.",
        )
        self.corrected.toggled.connect(self.corrected_toggled)
        self._rows.addWidget(self.corrected)

    def _add_classes(self) -> None:
        self.classes: dict[int, ClassRow] = {}
        self._class_rows = QVBoxLayout()
        self._class_rows.setSpacing(2)
        self._rows.addLayout(self._class_rows)
        self.plot = AreaBar()
        self._rows.addWidget(self.plot)
        self.summary = note(name="Tissue in all")
        self._rows.addWidget(self.summary)
        self.readout = note(name="Stains in words")
        self._rows.addWidget(self.readout)
        self.under_cursor = note("Under cursor: -", name="Scores under the cursor")
        self._rows.addWidget(self.under_cursor)

    def _add_measured_in(self) -> None:
        self.measured_in = Choice(
            "Measured in", "Areas in the whole tissue, in your shapes, or in imported annotations."
        )
        self.measured_in.chosen.connect(self.measured_in_chosen)
        line = QHBoxLayout()
        line.addWidget(QLabel("Areas in"))
        line.addWidget(self.measured_in, 1)
        self._rows.addLayout(line)

    def _add_display(self) -> None:
        self.heatmap = Choice("Heatmap", "Scores of one class as a heatmap.")
        self.heatmap.chosen.connect(self.heatmap_chosen)
        line = QHBoxLayout()
        line.addWidget(QLabel("Heatmap"))
        line.addWidget(self.heatmap, 1)
        self._rows.addLayout(line)
        self.outline = QCheckBox("Outlines")
        named(self.outline, "Outlines", "Draw classes by their outlines, not filled.")
        self.outline.toggled.connect(self.outline_toggled)
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(5, 100)
        named(self.opacity, "Opacity", "How strongly the classes cover the slide.")
        self.opacity.valueChanged.connect(self.opacity_moved)
        line = QHBoxLayout()
        line.addWidget(self.outline)
        line.addWidget(QLabel("Opacity"))
        line.addWidget(self.opacity, 1)
        self._rows.addLayout(line)
        hint = note("Hold the H key over the picture to see the bare slide.")
        self._rows.addWidget(hint)

    def _add_actions(self) -> None:
        self.presets = menu_button(
            "Thresholds",
            "Save them as a preset, load one, or take the model's.",
            {
                "Save as preset ...": self.preset_save_asked.emit,
                "Load preset ...": self.preset_load_asked.emit,
                "The model's own": self.thresholds_reset_asked.emit,
            },
        )
        copy = button("Copy table", "Copy the areas, to paste into a sheet.", self.copy_asked.emit)
        csv = button("Save CSV ...", "Save the areas as a table.", self.csv_asked.emit)
        self._rows.addWidget(Line(self.presets, copy, csv, stretch=None))

    def show_nothing(self) -> None:
        """There is no result."""
        self.results.offer([], None, "None yet")
        self.results.setEnabled(False)
        self.beside.hide()
        self.body.hide()

    def show_results(self, results: Sequence[tuple[str, object]], current: object) -> None:
        """Offer these results."""
        self.results.offer(results, current)
        self.results.setEnabled(True)
        self.body.show()

    def show_beside(self, *, possible: bool, on: bool) -> None:
        """Whether results can be, and are, beside each other; says nothing."""
        self.beside.setVisible(possible)
        self.beside.blockSignals(True)
        self.beside.setChecked(on)
        self.beside.blockSignals(False)

    def show_corrected(self, *, possible: bool, on: bool) -> None:
        """Whether there are corrections, and whether they show; says nothing."""
        self.corrected.setVisible(possible)
        self.corrected.blockSignals(True)
        self.corrected.setChecked(on)
        self.corrected.blockSignals(False)
        for row in self.classes.values():
            row.set_adjustable(not on)
        self.presets.setEnabled(not on)

    def show_spec(self, spec: ModelSpec, rule: DecisionRule, hidden: Container[int]) -> None:
        """A row for each class of this model."""
        clear(self._class_rows)
        self.classes = {}
        self.under_cursor.setMinimumHeight(0)
        thresholds = rule.thresholds_for(spec)
        for index in range(len(spec.classes)):
            if index == spec.background:
                continue
            row = ClassRow(index, spec, thresholds[index], is_shown=index not in hidden)
            row.threshold_moved.connect(self.threshold_moved)
            row.shown_toggled.connect(self.shown_toggled)
            self.classes[index] = row
            self._class_rows.addWidget(row)
        entries: list[tuple[str, object]] = [("None", None)]
        entries += [(spec.classes[index], index) for index in self.classes]
        self.heatmap.offer(entries, None)
        self.plot.set_colors([(spec.classes[i], spec.class_colors[i]) for i in self.classes])

    def show_rule(self, spec: ModelSpec, rule: DecisionRule) -> None:
        """Show these thresholds; says nothing."""
        thresholds = rule.thresholds_for(spec)
        for index, row in self.classes.items():
            row.show_threshold(thresholds[index])

    def show_measured_in(self, places: Sequence[tuple[str, object]], current: object) -> None:
        """Offer these places to measure in."""
        self.measured_in.offer(places, current)

    def show_areas(self, areas: AreaTable | None, readout: Sequence[str] = ()) -> None:
        """Show areas; None: they are not known."""
        for row in self.classes.values():
            if areas is None:
                row.show_area("-", "-")
            else:
                found = areas[row.class_name]
                row.show_area(share_words(areas, found), extent_words(areas, found))
        self.plot.show_areas(areas)
        say(self.summary, "" if areas is None else summary_words(areas))
        say(self.readout, "\n".join(readout))

    def show_display(self, *, outline: bool, opacity: int, heatmap: int | None) -> None:
        """Show how the layers are shown; says nothing."""
        for control in (self.outline, self.opacity):
            control.blockSignals(True)
        self.outline.setChecked(outline)
        self.opacity.setValue(opacity)
        for control in (self.outline, self.opacity):
            control.blockSignals(False)
        self.heatmap.choose(heatmap)

    def show_cursor(self, text: str) -> None:
        """The scores under the cursor."""
        line = self.under_cursor
        line.setText(f"Under cursor: {text or '-'}")
        # Kept as high as it once was: what is below must not jump as the mouse moves.
        line.setMinimumHeight(max(line.minimumHeight(), line.heightForWidth(line.width())))
