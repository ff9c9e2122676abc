"""`SegmentDock`: the dock "Segment slide", from a slide to areas and exports, top to bottom.

Puts the parts together and ends them; knows what none of them does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_wsiseg._napari.areas_control import AreasControl
from napari_wsiseg._napari.background import Background
from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.corrections_control import CorrectionsControl
from napari_wsiseg._napari.cursor_control import CursorControl
from napari_wsiseg._napari.exports_control import ExportsControl
from napari_wsiseg._napari.models_control import ModelsControl
from napari_wsiseg._napari.panel import (
    PanelModel,
    model_to_begin_with,
    resolution_of,
    usual_stain,
)
from napari_wsiseg._napari.presets_control import PresetsControl
from napari_wsiseg._napari.results_control import ResultsControl
from napari_wsiseg._napari.runs_control import RunsControl
from napari_wsiseg._napari.sections.advanced import AdvancedSection
from napari_wsiseg._napari.sections.export import ExportSection
from napari_wsiseg._napari.sections.memory import MemorySection
from napari_wsiseg._napari.sections.model import ModelSection
from napari_wsiseg._napari.sections.parts import note
from napari_wsiseg._napari.sections.resolution import ResolutionSection
from napari_wsiseg._napari.sections.result import ResultSection
from napari_wsiseg._napari.sections.run import RunSection
from napari_wsiseg._napari.sections.slide import SlideSection
from napari_wsiseg._napari.sections.where import WhereSection
from napari_wsiseg._napari.settings import read_settings, remember
from napari_wsiseg._napari.slide_layer import tell
from napari_wsiseg._napari.slides_control import SlidesControl
from napari_wsiseg._napari.tissue_control import TissueControl
from napari_wsiseg._napari.where_control import WhereControl
from napari_wsiseg.errors import WsisegError
from napari_wsiseg.memory import machine_memory, own_memory
from napari_wsiseg.notice import RESEARCH_USE

if TYPE_CHECKING:
    from napari import Viewer

_MEMORY_MS = 1000
_NARROWEST = 330


class SegmentDock(QWidget):
    """The dock.

    Parameters
    ----------
    napari_viewer
        The window that it is in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.setObjectName("Segment slide")
        # napari hands docks a proxy, which refuses what a part of it needs.
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.panel = _remembered()
        self._closed = self._hid_outline = False
        self._lay_out()
        self.background = Background(self)
        context = Context(viewer, self.panel, self.background)
        self.slides = SlidesControl(context, self.slide_section, self)
        self.tissue = TissueControl(
            context, self.slide_section, self.where_section, self.slides, self
        )
        self.models = ModelsControl(context, self.model_section, self)
        self.where = WhereControl(context, self.where_section, self.slides, self)
        self.runs = RunsControl(
            context,
            self.run_section,
            self.resolution_section,
            self.slides,
            self.tissue,
            self.models,
        )
        self.results = ResultsControl(context, self.result_section, self)
        self.cursor_line = CursorControl(context, self.result_section, self.results, self)
        self.presets = PresetsControl(self.result_section, self.results, self)
        self.areas = AreasControl(context, self.result_section, self.results, self.slides, self)
        self.exports = ExportsControl(
            self.export_section, self.result_section, self.results, self.areas, self.slides, self
        )
        self.corrections = CorrectionsControl(
            context, self.export_section, self.result_section, self.results, self.areas, self
        )
        self._connect(viewer)
        self.results.adopt_all()
        self._show_memory()
        self._test_machine()

    def _lay_out(self) -> None:
        self.slide_section = SlideSection()
        self.model_section = ModelSection()
        self.resolution_section = ResolutionSection()
        self.where_section = WhereSection()
        self.memory_section = MemorySection()
        self.advanced_section = AdvancedSection()
        self.run_section = RunSection()
        self.result_section = ResultSection()
        self.export_section = ExportSection()
        held = _Column()
        rows = QVBoxLayout(held)
        rows.setContentsMargins(6, 6, 6, 6)
        for section in (
            self.slide_section, self.model_section, self.resolution_section, self.where_section,
            self.memory_section, self.advanced_section, self.run_section, self.result_section,
            self.export_section,
        ):  # fmt: skip
            rows.addWidget(section)
        rows.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # The height depends on the width: a bar that came and went would change both for ever.
        scroll.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        scroll.setWidget(held)
        self._scroll, self.column = scroll, held
        notice = note(f"<small>{RESEARCH_USE}</small>", "Research use only")
        notice.setTextFormat(Qt.TextFormat.RichText)
        notice.setContentsMargins(6, 0, 6, 4)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll, 1)
        whole.addWidget(notice)
        self.setMinimumWidth(_NARROWEST)

    def _connect(self, viewer: Viewer) -> None:
        self.resolution_section.changed.connect(self._on_resolution)
        self.memory_section.threshold_chosen.connect(
            lambda percent: setattr(self.panel, "memory_threshold", percent)
        )
        self.memory_section.show_threshold(self.panel.memory_threshold)
        self.advanced_section.changed.connect(self._on_advanced)
        self.advanced_section.show_panel(self.panel)
        self.export_section.show_format(read_settings().export_format)
        self.export_section.export_asked.connect(
            lambda choice: remember(export_format=choice.format)
        )
        self.runs.started.connect(self._make_room)
        self.runs.progressed.connect(self.results.show_progress)
        self.results.appearing.appeared.connect(self.runs.go_on)
        self.runs.ended.connect(lambda _slide, end: self._on_end(end))
        self.results.layers_gone.connect(self._on_layers_gone)
        self.slides.slide_gone.connect(self.runs.cancel)
        self.panel.events.connect(self._remember)
        self._memory_timer = QTimer(self)
        self._memory_timer.setInterval(_MEMORY_MS)
        self._memory_timer.timeout.connect(self._show_memory)
        self._memory_timer.start()
        window = getattr(viewer.window, "_qt_window", None)
        if window is not None:
            window.destroyed.connect(self.close_all)

    def open_path(self, path: Path | str) -> None:
        """Open a slide, or a result with its slide."""
        from napari_wsiseg.store import is_result

        if is_result(Path(path)):
            self.results.open_result(Path(path))
        else:
            self.slides.open_path(Path(path))

    def close_all(self) -> None:
        """Stop what runs and listen no more; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._memory_timer.stop()
        self.runs.close()
        self.exports.close()
        self.areas.close()
        self.where.close()
        self.tissue.close()
        self.corrections.close()
        self.cursor_line.close()
        self.background.close()
        self.results.close()
        self.slides.close()

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """The dock is closed, and so ends what it runs."""
        self.close_all()
        super().closeEvent(event)

    def event(self, event: Any) -> bool:
        """The dock's cross takes it out of the window, and closes nothing."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.close_all()
        return bool(super().event(event))

    def hideEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """A hidden dock does not run on unseen; tabs and minimised windows only cover it."""
        super().hideEvent(event)
        dock = self.parentWidget()
        window = self.window()
        covered = window is None or window.isMinimized() or not window.isVisible()
        if dock is not None and dock.isHidden() and not covered:
            self.runs.cancel()

    def _make_room(self) -> None:
        """While it runs, its progress and its classes are what is looked at."""
        self._hid_outline = self.where_section.outline.isChecked()
        self.where_section.outline.setChecked(False)
        bar = self._scroll.verticalScrollBar()
        if bar is not None:
            bar.setValue(self.run_section.y())

    def _on_resolution(self, number: str, unit: str) -> None:
        try:
            self.panel.resolution = resolution_of(number, unit)
        except WsisegError as error:
            self.resolution_section.show_meaning("", str(error))

    def _on_advanced(self, name: str, value: Any) -> None:
        if name == "all_units":
            self.resolution_section.set_advanced(value)
        else:
            setattr(self.panel, name, value)

    def _on_layers_gone(self, pm: Any) -> None:
        if self.results.is_growing(pm):
            self.runs.cancel()

    def _on_end(self, end: Any) -> None:
        self.results.show_end(end)
        if end.result is not None:
            self.areas.measure()
        elif self._hid_outline:
            # There are no classes to make room for.
            self.where_section.outline.setChecked(True)

    def _remember(self, *_: object) -> None:
        panel = self.panel
        remember(
            memory_threshold=panel.memory_threshold,
            device=panel.device,
            output_folder=panel.output_folder,
        )

    def _show_memory(self) -> None:
        self.memory_section.show_memory(
            machine_memory(),
            own_memory(),
            from_disk=self.runs.runner.request is not None and self.runs.spilled,
        )

    def _test_machine(self) -> None:
        from napari_wsiseg.models.hardware import describe_machine

        self.background.ask(
            "machine",
            describe_machine,
            lambda found: self.advanced_section.show_machine(
                [*found.devices], f"{found.words}, {os.cpu_count()} cores"
            ),
            tell,
        )


class _Column(QWidget):
    """What scrolls. As high as its texts are at its width: Qt would take their height at the
    least width, and leave as much room below.
    """

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """None: the layout says how high it is."""
        return QSize(0, 0)


def _remembered() -> PanelModel:
    settings = read_settings()
    stain = usual_stain(settings.stain)
    return PanelModel(
        model=model_to_begin_with(settings.model, stain),
        stain=stain,
        memory_threshold=settings.memory_threshold,
        device=settings.device,
        output_folder=settings.output_folder,
    )
