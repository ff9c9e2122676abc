"""Keeps the slide section and the window's layers in step: which slide, and its scale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Shapes
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.open_slides import (
    OpenSlide,
    adopt_scale,
    follow,
    is_candidate,
    slide_for,
)
from napari_wsiseg._napari.reader import is_default_reader, make_default_reader
from napari_wsiseg._napari.result_layers import result_of
from napari_wsiseg._napari.sections.slide import SlideSection
from napari_wsiseg._napari.settings import read_settings, remember
from napari_wsiseg._napari.slide_layer import open_in_background, slide_of
from napari_wsiseg.errors import reason

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_wsiseg.slides import Slide

_FILES = (
    "Slides (*.svs *.ndpi *.mrxs *.scn *.bif *.vms *.vmu *.svslide *.dcm *.czi *.tif *.tiff "
    "*.btf *.png *.jpg *.jpeg);;All files (*)"
)


class SlidesControl(QObject):
    """Signals: `slide_changed` with the `OpenSlide`, or None; `slide_gone`: the layer of the slide
    that is held was removed; `layers_changed`; `view_moved`.
    """

    slide_changed = Signal(object)
    slide_gone = Signal()
    view_moved = Signal()
    layers_changed = Signal()

    def __init__(self, context: Context, section: SlideSection, parent: QWidget) -> None:
        super().__init__(parent)
        self._context, self._section, self._dialogs = context, section, parent
        self.current: OpenSlide | None = None
        self._held: OpenSlide | None = None
        section.open_asked.connect(self._open_file)
        section.folder_asked.connect(self._open_folder)
        section.layer_chosen.connect(self.select)
        section.mpp_given.connect(self._set_mpp)
        section.default_asked.connect(self._become_default)
        layers = context.viewer.layers.events
        layers.inserted.connect(self._on_inserted)
        layers.removed.connect(self._on_removed)
        layers.renamed.connect(self._offer)
        self._start()

    def close(self) -> None:
        """Listen no more, and let go of what was opened here."""
        layers = self._context.viewer.layers.events
        layers.inserted.disconnect(self._on_inserted)
        layers.removed.disconnect(self._on_removed)
        layers.renamed.disconnect(self._offer)
        before, self.current = self.current, None
        self._close_unused(before)

    def hold(self, found: OpenSlide | None) -> None:
        """Keep a slide open until another, or None, is held: a run reads from it."""
        before, self._held = self._held, found
        self._close_unused(before)

    def _close_unused(self, found: OpenSlide | None) -> None:
        if found is not None and found is not self.current and found is not self._held:
            found.close()

    def open_slide_with(self, fingerprint: object) -> Slide | None:
        """The slide with this fingerprint, looked at or not; None where it is not open."""
        slides = [] if self.current is None else [self.current.slide]
        slides += [slide for slide in map(slide_of, self._context.viewer.layers) if slide]
        return next((slide for slide in slides if slide.info.fingerprint == fingerprint), None)

    def select(self, layer: Image | None) -> None:
        """Make this layer's slide the one that is segmented."""
        if self.current is not None and layer is self.current.layer:
            return
        self._let_go()
        self._offer()
        if layer is None:
            self._section.show_info(None)
            return
        self._section.layers.choose(layer)
        self._find(layer, None)

    def open_path(self, path: Path) -> None:
        """Open a slide's file or folder, and make it the one that is segmented."""
        self._section.show_info(None, f"Opening {path.name} ...")
        open_in_background(
            self._context.viewer,
            path,
            on_done=self.select,
            on_error=lambda error: self._section.show_info(None, reason(error)),
        )

    def _start(self) -> None:
        candidates = self._candidates()
        self._offer()
        if candidates:
            self.select(candidates[-1])
        else:
            self._section.show_info(None, "Open a slide, or drop its file on the window.")

    def _candidates(self) -> list[Any]:
        return [layer for layer in self._context.viewer.layers if is_candidate(layer)]

    def _offer(self, *_: object) -> None:
        current = None if self.current is None else self.current.layer
        candidates = self._candidates()
        self._section.show_layers([(layer.name, layer) for layer in candidates], current)
        self.layers_changed.emit()

    def _on_inserted(self, event: Any) -> None:
        self._offer()
        if is_candidate(event.value):
            self.select(event.value)

    def _on_removed(self, event: Any) -> None:
        removed = event.value
        if self._held is not None and removed is self._held.layer:
            self.slide_gone.emit()
        if self.current is not None and removed is self.current.layer:
            rest = self._candidates()
            self.select(rest[-1] if rest else None)
        self._offer()

    def _find(self, layer: Image, mpp: float | None) -> None:
        self._section.show_info(None, "Reading the slide's head ...")
        if slide_of(layer) is not None and mpp is None:
            self._on_slide(slide_for(layer))
            return
        self._context.background.ask(
            "slide",
            lambda: slide_for(layer, mpp),
            self._on_slide,
            self._on_no_slide,
            OpenSlide.close,
        )

    def _on_no_slide(self, error: Exception) -> None:
        self._section.show_info(None, reason(error))

    def _on_slide(self, found: OpenSlide) -> None:
        if found.layer not in self._context.viewer.layers:
            found.close()
            return
        before = np.array(found.layer.scale[-2:])
        self.current = found = adopt_scale(found, self._over(found))
        follow(self._context.viewer, np.asarray(found.layer.scale[-2:]) / before)
        info = found.slide.info
        self._section.show_info(info)
        self._offer_default(info.path)
        self.slide_changed.emit(found)

    def _over(self, found: OpenSlide) -> list[Layer]:
        """What lies over a slide in its units: results of it, and what was drawn."""
        fingerprint, units = found.slide.info.fingerprint, found.layer.units[-2:]
        over = []
        for layer in self._context.viewer.layers:
            result = result_of(layer)
            is_its = result is not None and result.pm.info.identity.get("slide") == fingerprint
            if layer.units[-2:] == units and (is_its or isinstance(layer, Shapes)):
                over.append(layer)
        return over

    def _let_go(self) -> None:
        self._context.background.forget("slide")
        before, self.current = self.current, None
        self.slide_changed.emit(None)
        self._close_unused(before)

    def _set_mpp(self, mpp: float) -> None:
        if self.current is None:
            return
        layer = self.current.layer
        self._let_go()
        self._find(layer, mpp)

    def _open_file(self) -> None:
        folder = str(read_settings().slide_folder or "")
        path, _ = QFileDialog.getOpenFileName(self._dialogs, "Open slide", folder, _FILES)
        if path:
            remember(slide_folder=Path(path).parent)
            self.open_path(Path(path))

    def _open_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self._dialogs, "Open a slide's folder")
        if path:
            self.open_path(Path(path))

    def _offer_default(self, path: Path | None) -> None:
        """Once, when the first slide was opened; later it is in napari's own preferences."""
        is_new = path is not None and not read_settings().asked_for_slides
        if is_new and not is_default_reader():
            remember(asked_for_slides=True)
            self._section.default.show()

    def _become_default(self) -> None:
        make_default_reader()
        self._section.default.hide()
        show_info("Files of slide scanners now open with this plugin.")

    def shapes_layers(self) -> list[tuple[str, object]]:
        """The Shapes layers of the window."""
        return [
            (layer.name, layer)
            for layer in self._context.viewer.layers
            if isinstance(layer, Shapes)
        ]
