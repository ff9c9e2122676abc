"""The model: which one, what it is for, and whether its weights are here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_wsiseg._napari.sections.parts import (
    Choice,
    Line,
    Section,
    button,
    clear,
    folding,
    menu_button,
    note,
    say,
    swatch,
    warn,
)
from napari_wsiseg.words import in_resolution

if TYPE_CHECKING:
    from napari_wsiseg.spec import ModelSpec


_DOWNLOAD = "Download ..."


@dataclass(frozen=True)
class ModelRow:
    """A model as it is offered.

    Parameters
    ----------
    name
        In the zoo, or its file.
    text
        What the list shows.
    """

    name: str
    text: str


class ModelSection(Section):
    """Shows models.

    Signals: `model_chosen` with a name; `file_asked`; `weights_file_asked`; `download_asked`.
    """

    model_chosen = Signal(object)
    file_asked = Signal()
    weights_file_asked = Signal()
    download_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("2  Model", parent)
        self.models = Choice("Model", "What is looked for on the slide.")
        self.models.chosen.connect(self.model_chosen)
        self.open = button(
            "Open model file ...",
            "An ONNX or TorchScript file (.onnx, .pt, .ts) with its description beside it.",
            self.file_asked.emit,
        )
        self.rows.addWidget(self.models)
        self.weights = menu_button(
            "Get weights",
            "The model's trained numbers: a file, or a download.",
            {
                "From a file ...": self.weights_file_asked.emit,
                _DOWNLOAD: self.download_asked.emit,
            },
        )
        self.rows.addWidget(Line(self.open, self.weights, stretch=None))
        self.rows.addWidget(self._about())
        self.warning = note(name="Warning about the model")
        self.state = note(name="State of the model")
        self.rows.addWidget(self.warning)
        self.rows.addWidget(self.state)

    def _about(self) -> QWidget:
        held = QWidget()
        layout = QVBoxLayout(held)
        layout.setContentsMargins(0, 0, 0, 0)
        self.legend = QWidget()
        self.legend_rows = QVBoxLayout(self.legend)
        self.legend_rows.setContentsMargins(0, 0, 0, 0)
        self.legend_rows.setSpacing(2)
        self.use = note(name="Intended use of the model")
        self.licence = note(name="Resolution and licence of the model")
        layout.addWidget(self.legend)
        layout.addWidget(self.use)
        layout.addWidget(self.licence)
        self.description = note(name="Description of the model")
        self.more = folding("About this model", self.description)
        layout.addWidget(self.more)
        return held

    def show_models(self, models: Sequence[ModelRow], current: str) -> None:
        """Offer these models."""
        self.models.offer([(row.text, row.name) for row in models], current)

    def show_spec(self, spec: ModelSpec | None) -> None:
        """Tell of the model; None: nothing is known of it yet."""
        clear(self.legend_rows)
        if spec is not None:
            for index, (name, color) in enumerate(
                zip(spec.classes, spec.class_colors, strict=True)
            ):
                is_background = index == spec.background
                self.legend_rows.addWidget(_entry(name, color, is_background=is_background))
        say(self.use, "" if spec is None or not spec.intended_use else f"For: {spec.intended_use}")
        licence = "" if spec is None or not spec.license else f" Licence: {spec.license}"
        say(
            self.licence,
            "" if spec is None else f"Runs at {in_resolution(spec.resolution)}.{licence}",
        )
        texts = [] if spec is None else [spec.description, spec.citation]
        say(self.description, "\n\n".join(text for text in texts if text))
        self.more.setVisible(any(texts))

    def show_state(self, text: str, *, needs_weights: bool, can_download: bool) -> None:
        """Tell whether its weights are here."""
        say(self.state, text)
        self.weights.setVisible(needs_weights)
        for action in self.weights.findChildren(QAction):
            action.setEnabled(can_download or action.text() != _DOWNLOAD)

    def show_warning(self, text: str) -> None:
        """Tell why it may not suit the slide; empty: it may."""
        warn(self.warning, text)


def _entry(name: str, color: str, *, is_background: bool) -> QWidget:
    line = QWidget()
    layout = QHBoxLayout(line)
    layout.setContentsMargins(0, 0, 0, 0)
    chip = QLabel()
    chip.setPixmap(swatch(color, hollow=is_background))
    text = note(f"{name} (background, gets no colour)" if is_background else name, f"Class {name}")
    layout.addWidget(chip)
    layout.addWidget(text, 1)
    return line
