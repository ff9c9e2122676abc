"""Exports of the current result from the panel: where to, how far, how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_wsiseg._napari.areas_control import AreasControl
from napari_wsiseg._napari.exports import ExportEnd, ExportOrder, export_run
from napari_wsiseg._napari.results_control import ResultsControl
from napari_wsiseg._napari.runner import Runner
from napari_wsiseg._napari.sections.export import ExportChoice, ExportSection
from napari_wsiseg._napari.sections.result import ResultSection
from napari_wsiseg._napari.slides_control import SlidesControl
from napari_wsiseg.errors import WsisegError
from napari_wsiseg.export.formats import FORMATS

if TYPE_CHECKING:
    from napari_wsiseg._napari.result_layers import ResultLayers
    from napari_wsiseg.export import Step
    from napari_wsiseg.slides import Slide
    from napari_wsiseg.store import ProbabilityMap


class ExportsControl(QObject):
    """Writes the current result as its labels are shown, after the clean-up that is applied."""

    def __init__(
        self,
        section: ExportSection,
        result_section: ResultSection,
        results: ResultsControl,
        areas: AreasControl,
        slides: SlidesControl,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._section, self._dialogs = section, parent
        self._results, self._areas, self._slides = results, areas, slides
        self.runner: Runner[ExportOrder] = Runner(export_run, self)
        self.runner.stepped.connect(self._on_step)
        self.runner.ended.connect(self._on_end)
        section.export_asked.connect(self._ask)
        section.stop_asked.connect(self.runner.cancel)
        result_section.csv_asked.connect(lambda: self._ask(ExportChoice("csv")))
        results.current_changed.connect(self._on_current)

    def close(self) -> None:
        """Stop what is being written."""
        self.runner.cancel()

    def start(self, choice: ExportChoice, path: Path | None, *, overwrite: bool) -> None:
        """Write the current result; None: into the result itself."""
        layers = self._results.current
        if layers is None:
            return
        options = dict(choice.options) | {"overwrite": overwrite}
        if layers.is_corrected:
            options["corrected"] = True
        if choice.format == "csv":
            try:
                options["regions"] = self._areas.regions()
            except WsisegError as error:
                self._section.show_state(str(error))
                return
        if choice.format == "png":
            slide = self._slide_of(layers.pm)
            if slide is None:
                self._section.show_state("Open the slide of this result: the picture shows it.")
                return
            options["slide"] = slide
        order = ExportOrder(
            layers.pm, layers.rule, self._areas.cleanup, choice.format, path, options
        )
        if self.runner.start(order):
            self._section.show_progress("starting", 0.0)

    def _ask(self, choice: ExportChoice) -> None:
        layers = self._results.current
        if layers is None or self.runner.request is not None:
            return
        if choice.inside and layers.pm.path is not None:
            labels = layers.pm.path / "labels"
            there = any(labels.glob("tissue-classes*")) if labels.is_dir() else False
            if not there or self._confirms(
                "The result holds exported labels already. Replace them?"
            ):
                self.start(choice, None, overwrite=there)
            return
        known = FORMATS[choice.format]
        path, _ = QFileDialog.getSaveFileName(
            self._dialogs,
            f"Export {known.name}",
            str(_suggested(layers, known.suffixes[0])),
            f"{known.name} (*{known.suffixes[0]});;All files (*)",
        )
        if path:
            target = _with_suffix(Path(path), known.suffixes)
            replaces = target.exists()
            # The dialog asked about the name that was typed, not about the one with its ending.
            if not replaces or str(target) == path or self._confirms(f"Replace {target.name}?"):
                self.start(choice, target, overwrite=replaces)

    def _confirms(self, question: str) -> bool:
        answer = QMessageBox.question(self._dialogs, "Export", question)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _slide_of(self, pm: ProbabilityMap) -> Slide | None:
        made_from = pm.provenance.get("slide")
        fingerprint = made_from.get("fingerprint") if isinstance(made_from, dict) else None
        return self._slides.open_slide_with(fingerprint)

    def _on_current(self, layers: ResultLayers | None) -> None:
        if self.runner.request is None:
            self._section.show_idle(ready=layers is not None)
            self._section.show_state("")

    def _on_step(self, step: Step) -> None:
        self._section.show_progress(step.stage, step.part)

    def _on_end(self, end: ExportEnd) -> None:
        self._section.show_idle(ready=self._results.current is not None)
        if end.error is not None:
            self._section.show_state(str(end.error))
            show_error(str(end.error))
        elif end.path is None:
            self._section.show_state("Stopped; nothing was written.")
        else:
            self._section.show_state("\n".join([f"Written and checked: {end.path}", *end.remarks]))
            show_info(f"{end.path.name} is written.")


def _suggested(layers: ResultLayers, suffix: str) -> Path:
    """Beside the result, by its name; in the home folder for one in memory."""
    path = layers.pm.path
    if path is None:
        return Path.home() / f"{layers.labels.name.split(' · ')[0]}{suffix}"
    stem = path.name.removesuffix(".zarr").removesuffix(".ome")
    if suffix == ".ome.zarr":
        stem += "-labels"
    return path.with_name(stem + suffix)


def _with_suffix(path: Path, suffixes: tuple[str, ...]) -> Path:
    return path if path.name.lower().endswith(suffixes) else Path(f"{path}{suffixes[0]}")
