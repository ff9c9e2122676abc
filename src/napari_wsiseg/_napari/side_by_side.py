"""`SideBySide`: results of one slide in cells beside each other, moved and zoomed as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_wsiseg._napari.slide_layer import METADATA

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_wsiseg._napari.result_layers import ResultLayers

# A cell holds a slide, and classes over it.
_IN_A_CELL = 2


@dataclass(frozen=True)
class SlideCopy:
    """Marks a layer that shows a slide a second time; stands in its metadata."""


class SideBySide:
    """Uses napari's grid; leaves it as it was.

    Parameters
    ----------
    viewer
        The window.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._copies: list[Image] = []
        self._before: tuple[Any, ...] | None = None
        self._slide: Image | None = None

    @property
    def is_on(self) -> bool:
        """Whether results are beside each other."""
        return self._before is not None

    def is_of(self, layer: Layer) -> bool:
        """Whether it is the slide that results are shown over: its copies read from it."""
        return layer is self._slide

    def start(self, slide: Image, results: list[ResultLayers]) -> None:
        """Show these results beside each other, each over the slide."""
        self.stop()
        layers, grid = self._viewer.layers, self._viewer.canvas.grid
        self._before = (grid.enabled, grid.stride, tuple(grid.shape), list(layers))
        self._slide = slide
        order: list[Any] = []
        for number, result in enumerate(results):
            shown = slide if number == 0 else self._copy(slide)
            order += [shown, result.labels]
            result.labels.visible = True
        for place, layer in enumerate(order):
            layers.move(layers.index(layer), place)
        # Cells are filled in turn: what comes after these goes round, over both slides.
        grid.stride, grid.shape, grid.enabled = _IN_A_CELL, (1, len(results)), True

    def stop(self) -> None:
        """One cell again, layers in the order they had; what was removed meanwhile stays so."""
        if self._before is None:
            return
        enabled, stride, shape, order = self._before
        self._before = self._slide = None
        layers, grid = self._viewer.layers, self._viewer.canvas.grid
        copies, self._copies = self._copies, []
        for copy in copies:
            if copy in layers:
                layers.remove(copy)
        grid.enabled, grid.stride, grid.shape = enabled, stride, shape
        place = 0
        for layer in order:
            if layer in layers:
                layers.move(layers.index(layer), place)
                place += 1

    def _copy(self, slide: Image) -> Image:
        copy = Image(
            slide.data,
            name=slide.name,
            rgb=True,
            multiscale=slide.multiscale,
            scale=slide.scale,
            translate=slide.translate,
            units=slide.units,
            axis_labels=slide.axis_labels,
            cache=False,
            metadata={METADATA: SlideCopy()},
        )
        self._copies.append(copy)
        self._viewer.add_layer(copy)
        return copy
