"""Segment, pause, cancel; how far it is."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_wsiseg._napari.sections.parts import Section, button, note, say, warn
from napari_wsiseg._napari.sections.progress_bar import ProgressBar


class RunSection(Section):
    """Signals: `segment_asked`, `pause_asked`, `resume_asked`, `cancel_asked`."""

    segment_asked = Signal()
    pause_asked = Signal()
    resume_asked = Signal()
    cancel_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("7  Run", parent)
        self.segment = button(
            "Segment",
            "Start; the class map grows over the slide. What is finished is never lost.",
            self.segment_asked.emit,
        )
        self.pause = button("Pause", "Hold the run; nothing is lost.", self._on_pause)
        self.cancel = button(
            "Cancel",
            "Stop the run. Finished rows are kept, and Segment goes on from there.",
            self.cancel_asked.emit,
        )
        self.row(self.segment, self.pause, self.cancel)
        self.bar = ProgressBar("Progress of the run")
        self.bar.hide()
        self.rows.addWidget(self.bar)
        self.state = note(name="State of the run")
        self.warnings = note(name="Warnings of the run")
        self.rows.addWidget(self.state)
        self.rows.addWidget(self.warnings)
        self._paused = False
        self.show_idle(ready=False)

    def _on_pause(self) -> None:
        (self.resume_asked if self._paused else self.pause_asked).emit()

    def show_idle(self, *, ready: bool) -> None:
        """Nothing runs; whether something could."""
        self.segment.setEnabled(ready)
        self.pause.setVisible(False)
        self.cancel.setVisible(False)
        self.bar.hide()
        self.show_paused(paused=False)

    def show_running(self) -> None:
        """A run is on its way."""
        self.segment.setEnabled(False)
        self.pause.setVisible(True)
        self.cancel.setVisible(True)
        self.cancel.setEnabled(True)
        self.pause.setEnabled(True)
        self.bar.setRange(0, 0)
        self.bar.show()

    def show_stopping(self) -> None:
        """It was told to stop, and has not yet."""
        self.pause.setEnabled(False)
        self.cancel.setEnabled(False)

    def show_paused(self, *, paused: bool) -> None:
        """Whether it is held."""
        self._paused = paused
        self.pause.setText("Resume" if paused else "Pause")
        self.pause.setAccessibleName(self.pause.text())

    def show_progress(self, done: int, total: int) -> None:
        """How many patches of how many."""
        self.bar.show_part(done, total)

    def show_state(self, text: str) -> None:
        """What it is doing, or how it ended."""
        say(self.state, text)

    def show_warnings(self, text: str) -> None:
        """What should be known of the run."""
        warn(self.warnings, text)
