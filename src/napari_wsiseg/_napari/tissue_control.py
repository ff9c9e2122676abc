"""The tissue of the slide that is looked at, and its stain: found, outlined, corrected by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.open_slides import (
    Look,
    OpenSlide,
    edited_tissue,
    look_at,
    prepare_tissue_layer,
    tissue_layer_keywords,
)
from napari_wsiseg._napari.panel import Stain, usual_stain
from napari_wsiseg._napari.sections.slide import SlideSection
from napari_wsiseg._napari.sections.where import WhereSection
from napari_wsiseg._napari.settings import read_settings
from napari_wsiseg._napari.slides_control import SlidesControl
from napari_wsiseg.errors import reason

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_wsiseg.tissue import TissueMask


class TissueControl(QObject):
    """Signal `changed`: other tissue was found, or painted."""

    changed = Signal()

    def __init__(
        self,
        context: Context,
        section: SlideSection,
        where: WhereSection,
        slides: SlidesControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._context, self._section, self._where = context, section, where
        self._slide: OpenSlide | None = None
        self._found: TissueMask | None = None
        self._layer: Labels | None = None
        self._looked: dict[str, Look] = {}
        self._stains: dict[str, Stain] = {}
        self._painted: dict[str, NDArray[Any]] = {}
        section.stain_chosen.connect(self._on_stain)
        where.outline_toggled.connect(self._on_outline)
        where.find_asked.connect(self._find_again)
        context.panel.events.stain.connect(section.stain.choose)
        context.panel.events.where.connect(self._show_layer)
        context.viewer.layers.events.removed.connect(self._on_removed)
        slides.slide_changed.connect(self._on_slide)
        self._on_slide(slides.current)

    def close(self) -> None:
        """Listen no more."""
        self._context.viewer.layers.events.removed.disconnect(self._on_removed)
        self._context.panel.events.where.disconnect(self._show_layer)

    @property
    def mask(self) -> TissueMask | None:
        """The tissue as the window shows it, painted or not; None where none was found yet."""
        if self._found is None or self._layer is None:
            return self._found
        return edited_tissue(self._found, self._layer.data)

    def _on_slide(self, found: OpenSlide | None) -> None:
        self._let_go()
        self._slide = found
        if found is None:
            return
        key = _key(found)
        if key in self._looked:
            self._on_look(self._looked[key])
            return
        self._where.show_about("Looking for tissue ...")

        def keep(look: Look) -> None:
            self._looked[key] = look
            self._on_look(look)

        self._context.background.ask(
            "look",
            lambda: look_at(found.slide),
            keep,
            lambda error: self._on_look(Look(None, None, reason(error))),
        )

    def _let_go(self) -> None:
        self._context.background.forget("look")
        if self._slide is not None and self._layer is not None:
            self._painted[_key(self._slide)] = self._layer.data
        self._slide = self._found = None
        self._drop_layer()
        self._where.show_about("")

    def _on_look(self, look: Look) -> None:
        if self._slide is None:
            return
        self._found = look.tissue
        guess = look.stain or usual_stain(read_settings().stain)
        self._context.panel.stain = self._stains.get(_key(self._slide), guess)
        self._section.stain.choose(self._context.panel.stain)
        self._draw()
        if look.tissue is None:
            self._where.show_about(f"No tissue was found: {look.problem}.")
        else:
            self._where.show_about(_about(look.tissue))
        self.changed.emit()

    def _on_stain(self, stain: Stain) -> None:
        """What the user says of a slide stays, whatever its colours look like."""
        if self._slide is not None:
            self._stains[_key(self._slide)] = stain
        self._context.panel.stain = stain

    def _draw(self) -> None:
        self._drop_layer()
        if self._slide is None or self._found is None:
            return
        viewer = self._context.viewer
        keywords = tissue_layer_keywords(self._slide, self._found)
        # What was painted before another slide was looked at.
        keywords["data"] = self._painted.pop(_key(self._slide), keywords["data"])
        selected = list(viewer.layers.selection)
        layer = viewer.add_labels(**keywords)
        prepare_tissue_layer(layer)
        # Just above its slide: classes lie over it.
        viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(self._slide.layer) + 1)
        viewer.layers.selection = set(selected) or {self._slide.layer}
        layer.events.labels_update.connect(self._on_painted)
        layer.events.paint.connect(self._on_painted)
        self._layer = layer
        self._show_layer()

    def _on_painted(self, *_: object) -> None:
        self.changed.emit()

    def _drop_layer(self) -> None:
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._context.viewer.layers:
            self._context.viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        if self._layer is not None and event.value is self._layer:
            self._layer = None
            self._where.show_outline(shown=False)

    def _show_layer(self, *_: object) -> None:
        """The outline means nothing where all of the slide is analysed."""
        if self._layer is not None:
            is_asked = self._where.outline.isChecked()
            self._layer.visible = is_asked and self._context.panel.where != "whole"

    def _on_outline(self, shown: bool) -> None:
        if self._layer is None and shown:
            self._draw()
        else:
            self._show_layer()

    def _find_again(self) -> None:
        if self._slide is not None:
            self._draw()
            self.changed.emit()


def _about(tissue: TissueMask) -> str:
    """How much tissue there is, in the panel's words."""
    if not tissue.mask.any():
        return "No tissue was found. Paint it in its layer, or analyse the whole slide, glass too."
    return " ".join([f"Tissue: {100 * tissue.fraction:.0f} % of the slide.", *tissue.warnings])


def _key(found: OpenSlide) -> str:
    """What a first look holds for."""
    return f"{found.slide.info.fingerprint} {found.slide.info.mpp}"
