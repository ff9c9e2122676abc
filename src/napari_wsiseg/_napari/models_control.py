"""Keeps the model section and the panel in step: which models, whether their weights are here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.model_shelf import ModelShelf, is_at_hand
from napari_wsiseg._napari.panel import FOR_STAIN, spec_of, stain_warning
from napari_wsiseg._napari.sections.model import ModelRow, ModelSection
from napari_wsiseg._napari.settings import read_settings, remember
from napari_wsiseg.models import models, weights_ready
from napari_wsiseg.models.weights import sha256

if TYPE_CHECKING:
    from napari_wsiseg.models import Segmenter
    from napari_wsiseg.spec import ModelSpec

_FILES = "Models (*.onnx *.pt *.ts *.torchscript);;All files (*)"
_DATA = ".onnx"  # of all model files, the one that holds no program
_WEIGHTS = "Weights (*.pth *.safetensors);;All files (*)"


class ModelsControl(QObject):
    """Signal `changed`: another model, or its weights came. The `shelf` holds it."""

    changed = Signal()

    def __init__(self, context: Context, section: ModelSection, parent: QWidget) -> None:
        super().__init__(parent)
        self._context, self._section, self._dialogs = context, section, parent
        self.shelf = ModelShelf()
        self._files: dict[str, ModelSpec] = {}
        self._spec: ModelSpec | None = None
        # One that was used last time stays, whatever the slide's stain.
        self._chosen = context.panel.model not in FOR_STAIN.values()
        section.model_chosen.connect(self._choose)
        section.file_asked.connect(self._ask_file)
        section.weights_file_asked.connect(self._ask_weights)
        section.download_asked.connect(self._download)
        context.panel.events.stain.connect(self._on_stain)
        self._show()

    @property
    def spec(self) -> ModelSpec | None:
        """Of the model that is chosen."""
        return self._spec

    @property
    def is_ready(self) -> bool:
        """Whether it can run at once."""
        return self._spec is not None and is_at_hand(self._context.panel.job_for_model())

    def _on_stain(self, *_: object) -> None:
        """Another stain suggests another model, as long as the user has chosen none."""
        panel = self._context.panel
        if not self._chosen and panel.model != FOR_STAIN[panel.stain]:
            self._take(FOR_STAIN[panel.stain])
        self._warn()

    def _choose(self, name: str) -> None:
        self._chosen = True
        remember(model=name)
        self._take(name)

    def _take(self, name: str) -> None:
        panel = self._context.panel
        if name == panel.model:
            return
        panel.model, panel.weights = name, None
        panel.trust = name in self._files
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        panel = self._context.panel
        self._section.show_models([*_rows(), *map(_file_row, self._files)], panel.model)
        self._spec = spec_of(panel.model) or self._files.get(panel.model)
        self._section.show_spec(self._spec)
        self._tell_state()
        self._warn()

    def _tell_state(self, text: str = "") -> None:
        panel = self._context.panel
        known = panel.model in models()
        needs = known and not weights_ready(panel.model)
        if not text and needs:
            text = (
                f"Weights: {panel.weights.name}"
                if panel.weights is not None
                else "Its weights are not on this machine: get them before you segment."
            )
        offline = read_settings().offline
        if needs and offline and panel.weights is None:
            text += " Downloads are turned off in the settings; take a file."
        self._section.show_state(text, needs_weights=needs, can_download=not offline)

    def _warn(self) -> None:
        spec = self._spec
        stain = self._context.panel.stain
        self._section.show_warning("" if spec is None else stain_warning(spec, stain))

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self._dialogs, "Open model file", "", _FILES)
        if path and (path.lower().endswith(_DATA) or self._is_trusted(path)):
            self.open_file(path)

    def _is_trusted(self, path: str) -> bool:
        try:
            digest = sha256(Path(path))
        except OSError as error:
            show_error(f"{path} cannot be read ({error.strerror}); check the file and its rights.")
            return False
        answer = QMessageBox.question(
            self._dialogs,
            "Open model file",
            f"{Path(path).name} is a program that runs on this machine when it is opened. Open it "
            f"only if you trust where it comes from.\n\nsha256: {digest}\n\nOpen it?",
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def open_file(self, path: str) -> None:
        """Take a model file that may be opened."""
        self._section.show_state(
            f"Loading {Path(path).name} ...", needs_weights=False, can_download=False
        )
        job = self._context.panel.job_for_model(model=path, trust=True)

        def loaded(model: Segmenter) -> None:
            self._files[path] = model.spec
            self._chosen = True
            self._take(path)
            self._show()
            self.changed.emit()

        self._context.background.ask(
            "model", lambda: self.shelf.take(job), loaded, self._on_problem
        )

    def _ask_weights(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self._dialogs, "Get weights", "", _WEIGHTS)
        if path:
            self.use_weights(Path(path))

    def use_weights(self, path: Path) -> None:
        """Take these weights for the model that is chosen, once they were seen to fit."""
        job = self._context.panel.job_for_model(weights=path)
        self._tell_state(f"Reading {path.name} ...")

        def loaded(_: Segmenter) -> None:
            if self._context.panel.model != job.model:
                return  # another was chosen meanwhile
            self._context.panel.weights = path
            self._tell_state()
            self.changed.emit()

        self._context.background.ask(
            "model", lambda: self.shelf.take(job), loaded, self._on_problem
        )

    def _download(self) -> None:
        from napari_wsiseg.models.weights import fetch

        name = self._context.panel.model
        self._tell_state("Downloading the weights; this may take minutes ...")

        def done(_: Path) -> None:
            self._show()
            self.changed.emit()

        self._context.background.ask("model", lambda: fetch(name), done, self._on_problem)

    def _on_problem(self, error: Exception) -> None:
        self._tell_state(str(error))
        show_error(str(error))


def _rows() -> list[ModelRow]:
    rows = []
    for name, spec in models().items():
        marks = [] if weights_ready(name) else ["needs weights"]
        if spec.license is not None and "non-commercial" in spec.license:
            marks.append("non-commercial")
        rows.append(ModelRow(name, f"{name} ({', '.join(marks)})" if marks else name))
    return rows


def _file_row(path: str) -> ModelRow:
    return ModelRow(path, f"{Path(path).name} (file)")
