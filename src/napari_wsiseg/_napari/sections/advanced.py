"""What few users change, folded away: each control in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, FileEdit, Label, SpinBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_wsiseg._napari.panel import PanelModel
from napari_wsiseg._napari.sections.parts import folding, form, named

_CHOOSES = 0
_PATH_WIDTH = 90

_PRECISIONS = {
    "Automatic": "auto",
    "32 bit, as trained": "exact",
    "32 bit, regrouped": "fp32",
    "16 bit, bf16": "bf16",
    "16 bit, fp16": "fp16",
}
_WINDOWS = {"Equal weight": "uniform", "Centre counts more": "gaussian"}
_TYPES = {
    "8 bit": "uint8",
    "16 bit": "float16",
    "32 bit": "float32",
}
_EXISTS = {"Go on with it": False, "Replace it": True}


class AdvancedSection(QWidget):
    """Says `changed` with the name of a field of `PanelModel` and its value."""

    changed = Signal(str, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._make_computing()
        self._make_storing()
        self._lay_out()
        self._connect()

    def _make_computing(self) -> None:
        self.self_test = Label(label="This machine", value="")
        self.device = ComboBox(
            label="Device", choices=["auto", "cpu"], tooltip="Where the model computes."
        )
        self.precision = ComboBox(
            label="Arithmetic",
            choices=list(_PRECISIONS),
            tooltip="16 bit is faster where the processor has it; scores differ by about 0.01.",
        )
        self.batch_size = SpinBox(
            label="Patches at once",
            min=_CHOOSES,
            max=4096,
            value=_CHOOSES,
            tooltip="0: chosen by device and memory.",
        )
        self.stride = SpinBox(
            label="Tile spacing",
            min=_CHOOSES,
            max=4096,
            step=32,
            value=_CHOOSES,
            tooltip="Pixels from one patch to the next (stride). Smaller: patches overlap more, "
            "smoother and slower. 0: chosen for the model.",
        )
        self.overlaps = ComboBox(
            label="Overlaps",
            choices=list(_WINDOWS),
            tooltip="How patches are averaged where they overlap.",
        )

    def _make_storing(self) -> None:
        self.output_folder = FileEdit(
            label="Output folder",
            mode=FileDialogMode.EXISTING_DIRECTORY,
            tooltip="Where results are written, by slides' names.",
        )
        self.dtype = ComboBox(
            label="Stored as",
            choices=list(_TYPES),
            tooltip="How scores are kept on disk: 8 bit in steps of 1/255; 16 bit takes twice the "
            "space, 32 bit four times.",
        )
        self.overwrite = ComboBox(
            label="Earlier result",
            choices=list(_EXISTS),
            tooltip="The same run is gone on with; the result of another is kept, and a new one is "
            "written beside it, unless it is to be replaced.",
        )
        self.all_units = CheckBox(
            text="Offer levels and scales too",
            tooltip="As resolutions, in section 3. A level is one of the sizes that the file "
            "holds; a scale of 0.5 is half the slide's full size.",
        )

    def _lay_out(self) -> None:
        controls = (
            self.self_test, self.device, self.precision, self.batch_size, self.stride,
            self.overlaps, self.output_folder, self.dtype, self.overwrite,
        )  # fmt: skip
        for control in controls:
            named(control.native, control.label, control.tooltip or "")
        named(self.all_units.native, self.all_units.text, self.all_units.tooltip or "")
        rows = [(control.label, control.native) for control in controls]
        held, _ = form(*rows, (self.all_units.native,))
        self.output_folder.choose_btn.text = "Choose ..."
        named(self.output_folder.choose_btn.native, "Choose the output folder")
        named(self.output_folder.line_edit.native, "Output folder")
        self.output_folder.line_edit.native.setMinimumWidth(_PATH_WIDTH)
        self.fold = folding("6  Advanced", held)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self.fold)

    def _connect(self) -> None:
        def tell(name: str, control: Any, table: dict[str, Any] | None = None) -> None:
            control.changed.connect(
                lambda value: self.changed.emit(name, value if table is None else table[value])
            )

        tell("device", self.device)
        tell("precision", self.precision, _PRECISIONS)
        tell("window", self.overlaps, _WINDOWS)
        tell("dtype", self.dtype, _TYPES)
        tell("overwrite", self.overwrite, _EXISTS)
        tell("all_units", self.all_units)
        for name, control in (("batch_size", self.batch_size), ("stride", self.stride)):
            control.changed.connect(lambda v, name=name: self.changed.emit(name, v or None))
        self.output_folder.changed.connect(
            lambda path: self.changed.emit("output_folder", Path(path))
        )

    def show_machine(self, devices: list[str], words: str) -> None:
        """Offer these devices, and tell what was found; says so where the chosen one is not."""
        chosen = self.device.value
        with self.device.changed.blocked():
            self.device.choices = devices
            self.device.value = chosen if chosen in devices else devices[0]
        if self.device.value != chosen:
            self.changed.emit("device", self.device.value)
        self.self_test.value = words

    def show_panel(self, panel: PanelModel) -> None:
        """Show what is chosen; says nothing."""
        shown = (
            (self.precision, _key(_PRECISIONS, panel.precision)),
            (self.overlaps, _key(_WINDOWS, panel.window)),
            (self.dtype, _key(_TYPES, panel.dtype)),
            (self.overwrite, _key(_EXISTS, panel.overwrite)),
            (self.batch_size, panel.batch_size or _CHOOSES),
            (self.stride, panel.stride or _CHOOSES),
            (self.output_folder, panel.output_folder),
        )
        for control, value in shown:
            with control.changed.blocked():
                control.value = value
        with self.device.changed.blocked():
            if panel.device not in self.device.choices:
                self.device.choices = [*self.device.choices, panel.device]
            self.device.value = panel.device


def _key(table: dict[str, Any], value: Any) -> str:
    return next(text for text, known in table.items() if known == value)
