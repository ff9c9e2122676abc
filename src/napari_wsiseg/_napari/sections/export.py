"""Export: the format, its options, and how far it is; corrections by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QWidget

from napari_wsiseg._napari.sections.parts import (
    Choice,
    Section,
    button,
    form,
    menu_button,
    named,
    note,
    say,
)
from napari_wsiseg._napari.sections.progress_bar import ProgressBar
from napari_wsiseg.export.formats import FORMATS

_PER = {"One outline a class": "class", "One outline an object": "object"}
_OBJECTS = {"Annotations (editable)": "annotation", "Detections (quick)": "detection"}
_CONTENT = {"Labels": "labels", "Scores": "probabilities"}
_ORIGIN = {"slide": "Slide's corner", "bounds": "Scanned part's corner"}
_NAMES = {
    "geojson": "GeoJSON",
    "ome-tiff": "OME-TIFF",
    "ome-zarr": "OME-Zarr",
    "annotation-store": "AnnotationStore",
    "csv": "CSV",
    "png": "PNG",
}
# Which options of ours a format has, beside its origins.
_HAS = {
    "geojson": ("per", "object_type", "simplify_um", "qupath"),
    "ome-tiff": ("content",),
    "ome-zarr": ("inside",),
    "annotation-store": ("per", "simplify_um"),
    "csv": (),
    "png": (),
}


@dataclass(frozen=True)
class ExportChoice:
    """What the user asked for.

    Parameters
    ----------
    format
        As `ws.export` takes it.
    options
        Beside path, rule and clean-up.
    inside
        For "ome-zarr": into the result, not a copy of its own.
    """

    format: str
    options: dict[str, Any] = field(default_factory=dict)
    inside: bool = False


class ExportSection(Section):
    """Signals: `export_asked` with an `ExportChoice`; the others with what their names say."""

    export_asked = Signal(object)
    stop_asked = Signal()
    correct_view_asked = Signal()
    correct_shapes_asked = Signal()
    corrections_removal_asked = Signal()
    correction_done_asked = Signal()
    correction_dropped = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("9  Correct and export", parent)
        self._add_correction()
        self.format = Choice("Format", "What the classes are written as.")
        self.format.offer(
            [(f"{_NAMES[f.name]}: {f.text}", f.name) for f in FORMATS.values()], "geojson"
        )
        self.format.chosen.connect(lambda _: self._show_options())
        self.rows.addWidget(self.format)
        self._add_options()
        self.export = button("Export ...", "Choose a file and write it.", self._tell)
        self.stop = button(
            "Stop", "Stop the export; nothing half-written stays.", self.stop_asked.emit
        )
        self.row(self.export, self.stop)
        self.bar = ProgressBar("Progress of the export")
        self.rows.addWidget(self.bar)
        self.state = note(name="State of the export")
        self.rows.addWidget(self.state)
        self.show_idle()
        self._show_options()

    def _add_options(self) -> None:
        self.per = Choice("Outlines", "One for each class, or one for each object.")
        self.per.offer(list(_PER.items()), "class")
        self.object_type = Choice("In QuPath", "QuPath draws detections by the million.")
        self.object_type.offer(list(_OBJECTS.items()), "annotation")
        self.content = Choice("Content", "Labels, or the scores of all classes.")
        self.content.offer(list(_CONTENT.items()), "labels")
        self.origin = Choice("Origin", "QuPath's origin is the corner of the scanned part.")
        self.simplify = QDoubleSpinBox()
        self.simplify.setRange(0, 100)
        self.simplify.setDecimals(2)
        named(self.simplify, "Simplify, µm", "Fewer points, at most this far off. 0: exact.")
        self.qupath = QCheckBox("QuPath's class names")
        named(self.qupath, "QuPath's class names", "Tumor for Tumour, Immune cells and so on.")
        self.inside = QCheckBox("Into the result itself")
        self.inside.setChecked(True)
        named(self.inside, "Into the result itself", "As labels of the result; else a copy.")
        self._options: dict[str, QWidget] = {
            "per": self.per,
            "object_type": self.object_type,
            "content": self.content,
            "simplify_um": self.simplify,
            "origin": self.origin,
            "qupath": self.qupath,
            "inside": self.inside,
        }
        held, self._form = form(
            *(
                (control,)
                if isinstance(control, QCheckBox)
                else (control.accessibleName(), control)
                for control in self._options.values()
            )
        )
        self.rows.addWidget(held)

    def _add_correction(self) -> None:
        self.correct = menu_button(
            "Correct ...",
            "Paint corrections; the prediction itself stays as it is.",
            {
                "What the window shows ...": self.correct_view_asked.emit,
                "The shapes that areas are measured in ...": self.correct_shapes_asked.emit,
                "Remove all corrections ...": self.corrections_removal_asked.emit,
            },
        )
        self.keep = button(
            "Keep corrections", "Store what was painted, and measure it.",
            self.correction_done_asked.emit,
        )  # fmt: skip
        self.drop = button("Discard", "Drop what was painted.", self.correction_dropped.emit)
        self.row(self.correct, self.keep, self.drop)
        self.correction = note(name="State of the corrections")
        self.rows.addWidget(self.correction)
        self.show_correcting(correcting=False)

    def show_format(self, name: str) -> None:
        """Choose this format, where there is such a one; says nothing."""
        if name in FORMATS:
            self.format.choose(name)
            self._show_options()

    def _show_options(self) -> None:
        has, origins = _HAS[self.format.value], FORMATS[self.format.value].origins
        self.origin.offer([(_ORIGIN[origin], origin) for origin in origins], origins[0])
        for name, control in self._options.items():
            self._form.setRowVisible(control, name in has)
        self._form.setRowVisible(self.origin, len(origins) > 1)

    def _tell(self) -> None:
        has = _HAS[self.format.value]
        values = {
            "per": self.per.value,
            "object_type": self.object_type.value,
            "content": self.content.value,
            "simplify_um": self.simplify.value(),
        }
        options = {name: value for name, value in values.items() if name in has}
        options["origin"] = self.origin.value
        if "qupath" in has and self.qupath.isChecked():
            options["aliases"] = "qupath"
        inside = "inside" in has and self.inside.isChecked()
        self.export_asked.emit(ExportChoice(self.format.value, options, inside))

    def show_idle(self, *, ready: bool = False) -> None:
        """Nothing is written; whether something could be."""
        self.export.setEnabled(ready)
        self.stop.hide()
        self.bar.hide()
        self.correct.setEnabled(ready)

    def show_progress(self, stage: str, part: float) -> None:
        """How far the export is."""
        self.export.setEnabled(False)
        self.stop.show()
        self.bar.show_part(round(100 * part), 100)
        self.bar.show()
        say(self.state, f"{stage.capitalize()} ...")

    def show_state(self, text: str) -> None:
        """How it ended."""
        say(self.state, text)

    def show_correcting(self, *, correcting: bool, keeping: bool = False, text: str = "") -> None:
        """Whether corrections are being painted, or being kept: that cannot be taken back."""
        self.correct.setVisible(not correcting)
        self.keep.setVisible(correcting)
        self.drop.setVisible(correcting)
        for part in (self.keep, self.drop):
            part.setEnabled(not keeping)
        say(self.correction, text)
