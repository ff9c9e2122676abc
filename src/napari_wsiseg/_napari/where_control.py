"""Keeps the section "Where" and the panel in step: shapes, and regions of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.open_slides import regions_of
from napari_wsiseg._napari.panel import Where
from napari_wsiseg._napari.sections.where import WhereSection
from napari_wsiseg._napari.slide_layer import tell
from napari_wsiseg._napari.slides_control import SlidesControl
from napari_wsiseg.words import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Shapes

    from napari_wsiseg._napari.open_slides import OpenSlide
    from napari_wsiseg.geometry import Polygon

_GEOJSON = "Regions (*.geojson *.geojson.gz *.json);;All files (*)"
_SETTLING_MS = 200
_MOST_DRAWN = 200


class WhereControl(QObject):
    """Turns shapes and files into the panel's regions."""

    def __init__(
        self, context: Context, section: WhereSection, slides: SlidesControl, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self._context, self._section, self._slides = context, section, slides
        self._dialogs = parent
        self._shapes: Shapes | None = None
        self._file: Path | None = None
        self._drawn: Shapes | None = None
        section.where_chosen.connect(self._on_where)
        section.shapes_chosen.connect(self._on_shapes)
        section.file_asked.connect(self._ask_file)
        slides.layers_changed.connect(self._offer)
        slides.slide_changed.connect(self._on_slide)
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.setInterval(_SETTLING_MS)
        self._settling.timeout.connect(self._read_shapes)
        section.show_where(context.panel.where)
        # The view has no event for "moved and at rest".
        camera = context.viewer.scene.camera.events
        camera.center.connect(self._on_view)
        camera.zoom.connect(self._on_view)

    def close(self) -> None:
        """Listen no more."""
        self._settling.stop()
        camera = self._context.viewer.scene.camera.events
        camera.center.disconnect(self._on_view)
        camera.zoom.disconnect(self._on_view)
        self._watch(None)

    def read_file(self, path: Path) -> None:
        """Take the regions of a GeoJSON file."""
        slide = self._slides.current
        if slide is None:
            return
        from napari_wsiseg.regions import read_outlines

        bounds = slide.slide.info.bounds
        shift = (0, 0) if bounds is None else (bounds.top, bounds.left)
        try:
            outlines = read_outlines(path)
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            tell(error)
            return
        self._file = path
        self._section.show_file(path)
        placed = tuple(tuple((y + shift[0], x + shift[1]) for y, x in o) for o in outlines)
        self._draw_file(slide, path, placed)
        self._take(placed)

    def _on_where(self, where: Where) -> None:
        self._context.panel.where = where
        self._section.show_where(where)
        self._context.panel.regions = ()
        if where != "file":
            self._drop_drawn()
        if where == "shapes":
            if self._shapes is None:
                self._offer_shapes_layer()
            self._read_shapes()
        elif where == "file":
            if self._file is not None:
                self.read_file(self._file)
            else:
                self._ask_file()

    def _offer_shapes_layer(self) -> None:
        """Take the Shapes layer that is there, or make one ready to draw in."""
        layers = self._slides.shapes_layers()
        slide = self._slides.current
        if layers:
            self._on_shapes(layers[-1][1])
        elif slide is not None:
            layer = self._add_shapes(slide, "regions", ())
            layer.mode = "add_rectangle"
            self._on_shapes(layer)

    def _add_shapes(self, slide: OpenSlide, what: str, outlines: Sequence[Polygon]) -> Shapes:
        """A Shapes layer over a slide, with these outlines in its level-0 pixels."""
        image = slide.layer
        # Corners of our pixels are half a pixel beside the centres of napari's.
        layer: Shapes = self._context.viewer.add_shapes(
            [np.asarray(outline) - 0.5 for outline in outlines] or None,
            shape_type="polygon",
            name=f"{slide.name} · {what}",
            scale=image.scale[-2:],
            translate=image.translate[-2:],
            units=image.units[-2:],
            axis_labels=("y", "x"),
            ndim=2,
            face_color="transparent",
            edge_color="#111111",
            edge_width=max(2, round(max(np.asarray(image.extent.data[1])) / 500)),
        )
        return layer

    def _draw_file(self, slide: OpenSlide, path: Path, outlines: Sequence[Polygon]) -> None:
        """Show where a file's regions lie; thousands would hold up the window."""
        self._drop_drawn()
        if len(outlines) <= _MOST_DRAWN:
            layers = self._context.viewer.layers
            selected = set(layers.selection)
            self._drawn = self._add_shapes(slide, path.name, outlines)
            self._drawn.editable = False
            layers.selection = selected or {slide.layer}

    def _drop_drawn(self) -> None:
        layer, self._drawn = self._drawn, None
        if layer is not None and layer in self._context.viewer.layers:
            self._context.viewer.layers.remove(layer)

    def _on_shapes(self, layer: Any) -> None:
        self._watch(layer)
        self._offer()
        self._read_shapes()

    def _watch(self, layer: Shapes | None) -> None:
        before, self._shapes = self._shapes, layer
        if before is not None:
            before.events.set_data.disconnect(self._on_drawn)
        if layer is not None:
            layer.events.set_data.connect(self._on_drawn)

    def _on_drawn(self, *_: object) -> None:
        self._settling.start()

    def _offer(self) -> None:
        layers = self._slides.shapes_layers()
        if self._shapes is not None and all(layer is not self._shapes for _, layer in layers):
            self._watch(None)
        self._section.show_shapes(layers, self._shapes)

    def _read_shapes(self) -> None:
        slide = self._slides.current
        if self._context.panel.where != "shapes":
            return
        if slide is None or self._shapes is None:
            self._take(())
        else:
            self._take(regions_of(self._shapes, slide.layer))

    def _take(self, outlines: tuple[Polygon, ...]) -> None:
        self._context.panel.regions = outlines
        self._section.show_regions(f"{several(len(outlines), 'region')}." if outlines else "")

    def _on_slide(self, *_: object) -> None:
        self._file = None
        self._drop_drawn()
        self._section.show_file(None)
        if self._context.panel.where == "file":
            self._take(())
        else:
            self._read_shapes()

    def _on_view(self, *_: object) -> None:
        if self._context.panel.where == "view":
            self._slides.view_moved.emit()

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self._dialogs, "Regions to analyse", "", _GEOJSON)
        if path:
            self.read_file(Path(path))
