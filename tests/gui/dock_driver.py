"""The dock as a user has it: what is clicked can be seen, and what is chosen is in a list."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QMenu, QWidget

if TYPE_CHECKING:
    import torch
    from pytestqt.qtbot import QtBot

    from napari_wsiseg._napari.dock import SegmentDock
    from napari_wsiseg.models import Segmenter

PATIENCE = 60_000
"""Milliseconds to wait for what must come: machines under load are slow."""
SOON = 5000
"""Milliseconds for what takes no work."""
SLICING = ["sync", pytest.param("async", marks=pytest.mark.one_binding)]
"""Where napari slices, for `driver`. Beside a thread of napari's PySide6 may stand still for ever:
its `disconnect` there waits for the interpreter while it holds a lock of Qt's, and the main thread
waits the other way round."""
_TURNS = 5
"""Of the event loop, after which a window whose parts have stayed as they were is laid out."""


class HeldModel:
    """A model that answers a call when it is let: a run stands still at every place one likes.

    Parameters
    ----------
    inner
        Answers.
    patch
        Side of a patch, smaller than the model's own: more batches on a small slide.
    """

    def __init__(self, inner: Segmenter, patch: int = 128) -> None:
        self._inner = inner
        shape = (patch, patch)
        self.spec = replace(
            inner.spec, patch_input_shape=shape, patch_output_shape=shape, stride_shape=shape
        )
        # To a result it is one model, held or not.
        self.backend = "held"
        self.calls = 0
        self.before: Callable[[int], object] = lambda _call: None
        self._may = threading.Semaphore(0)
        self._free = False

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, C, H, W), as the inner model answers."""
        if threading.current_thread().name.startswith("wsiseg-window"):
            return self._inner.predict(patches)  # a forecast takes its time
        self.calls += 1
        if not self._free:
            assert self._may.acquire(timeout=PATIENCE / 1000), "nobody let the model answer"
        self.before(self.calls)
        return self._inner.predict(patches)

    def let(self, calls: int = 1) -> None:
        """Let so many calls be answered."""
        self._may.release(calls)

    def free(self) -> None:
        """Hold no more."""
        self._free = True
        self._may.release(10**6)


class Driver:
    """Works the dock by mouse and keys.

    Parameters
    ----------
    viewer, dock, qtbot
        The window, the dock in it, and pytest-qt's robot.
    """

    def __init__(self, viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
        self.viewer, self.dock, self.qtbot = viewer, dock, qtbot

    def wait(self, condition: Callable[[], object]) -> None:
        """Until it is so."""
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE)

    def show(self, widget: QWidget) -> None:
        """Scroll to a control, and make sure that a user could use it."""
        name = widget.accessibleName() or type(widget).__name__

        def is_there() -> bool:
            # What was unfolded just now takes its room when the window comes to it.
            self.dock._scroll.ensureWidgetVisible(widget)
            return bool(widget.visibleRegion().contains(self._hot(widget)))

        self.qtbot.waitUntil(widget.isVisible, timeout=SOON)
        self.qtbot.waitUntil(is_there, timeout=SOON)
        assert widget.isEnabled(), f"{name} cannot be used"

    def click(self, widget: QWidget) -> None:
        """A button or a box."""
        self.show(widget)
        self.qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=self._hot(widget))

    def click_outside(self, widget: QWidget) -> None:
        """A button of the window around the dock."""
        assert widget.isVisible()
        self.qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)

    def choose(self, box: QComboBox, text: str) -> None:
        """The entry that begins so, from the list that opens."""
        self.show(box)
        texts = [box.itemText(i) for i in range(box.count())]
        (index,) = [i for i, entry in enumerate(texts) if entry.startswith(text)]
        self.qtbot.keyClick(box, Qt.Key.Key_F4)
        view = box.view()
        self.wait(view.isVisible)
        self.qtbot.keyClick(view, Qt.Key.Key_Home)
        while view.currentIndex().row() < index:
            self.qtbot.keyClick(view, Qt.Key.Key_Down)
        self.qtbot.keyClick(view, Qt.Key.Key_Return)
        self.wait(lambda: not view.isVisible())

    def menu(self, button: Any, text: str) -> None:
        """An entry of a button's menu, by the mouse."""
        self.show(button)
        menu: QMenu = button.menu()
        menu.popup(button.mapToGlobal(QPoint(0, button.height())))
        self.wait(menu.isVisible)
        (action,) = [a for a in menu.actions() if a.text().startswith(text)]
        assert action.isEnabled(), f"{text} cannot be chosen"
        place = menu.actionGeometry(action).center()
        self.qtbot.mouseClick(menu, Qt.MouseButton.LeftButton, pos=place)

    def type(self, edit: QWidget, text: str) -> None:
        """Into a line or a number, in place of what is there; then Enter."""
        self.show(edit)
        edit.setFocus()
        edit.selectAll()  # type: ignore[attr-defined]
        self.qtbot.keyClicks(edit, text)
        self.qtbot.keyClick(edit, Qt.Key.Key_Return)

    def open(self, path: Path) -> None:
        """A slide, as if it had been chosen in the dialog; until Segment can be clicked."""
        self.dock.open_path(path)
        self.wait_for_slide(path.stem)

    def wait_for_slide(self, name: str) -> None:
        """Until a slide is there and Segment can be clicked."""
        self.wait_for_tissue(name)
        self.wait(self.dock.resolution_section.meaning.text)
        self.wait(self.dock.run_section.segment.isEnabled)

    def wait_for_tissue(self, name: str) -> None:
        """Until a slide is there, and its tissue."""
        dock = self.dock
        self.wait(lambda: dock.slides.current is not None and dock.slides.current.name == name)
        about = dock.where_section.about
        self.wait(lambda: about.text().startswith(("Tissue:", "No tissue")))

    def segment(self) -> None:
        """Click Segment."""
        self.click(self.dock.run_section.segment)

    def wait_for_end(self, begins: str = "Done") -> str:
        """Until the run has ended and all its layers are there; what the status line says."""
        state = self.dock.run_section.state
        self.wait(lambda: self.dock.runs.runner.request is None)
        self.wait_for_layers()
        assert state.text().startswith(begins), state.text()
        return state.text()

    def wait_for_layers(self) -> None:
        """Until all layers of the run are there, and room is made for napari's controls of them."""
        self.wait(lambda: self.dock.results.appearing.is_done)
        # A part that gets wider asks the next for room, some turns of the event loop later.
        canvas, sizes = self.viewer.window._qt_viewer.canvas.native, []
        while len(sizes) < _TURNS or len(set(sizes[-_TURNS:])) > 1:
            QApplication.processEvents()
            sizes.append((canvas.width(), canvas.height()))

    def wait_for_patches(self, count: int) -> None:
        """Until the bar says so many patches."""
        bar = self.dock.run_section.bar
        self.wait(lambda: bar.maximum() > 0 and bar.value() == count)

    def wait_for_areas(self) -> Any:
        """Until the areas are exact and up to date; the first table."""
        self.wait(
            lambda: (
                not self.dock.background.is_busy
                and self.dock.areas.tables
                and not self.dock.areas.tables[0].estimated
            )
        )
        return self.dock.areas.tables[0]

    def is_ready(self) -> bool:
        """Whether the dock waits for the next click, as before a run."""
        run = self.dock.run_section
        hidden = not any(part.isVisible() for part in (run.pause, run.cancel, run.bar))
        return hidden and run.segment.isEnabled() and run.pause.text() == "Pause"

    @staticmethod
    def _hot(widget: QWidget) -> QPoint:
        # The middle of a check box may be beside its text.
        if isinstance(widget, QAbstractButton) and widget.isCheckable():
            return QPoint(8, widget.height() // 2)
        return widget.rect().center()
