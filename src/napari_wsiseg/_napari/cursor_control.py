"""What lies under the cursor, and a key that shows the bare slide while it is held."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from napari.layers import Labels
from qtpy.QtCore import QObject

from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.result_layers import result_of
from napari_wsiseg._napari.results_control import ResultsControl
from napari_wsiseg._napari.sections.result import ResultSection
from napari_wsiseg.labels import threshold_scale

if TYPE_CHECKING:
    from napari_wsiseg.spec import ModelSpec

_KEY = "h"


class CursorControl(QObject):
    """Listens to the window's mouse and key."""

    def __init__(
        self, context: Context, section: ResultSection, results: ResultsControl, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._section, self._results = context.viewer, section, results
        self._viewer.mouse_move_callbacks.append(self._on_mouse)
        self._viewer.bind_key(_KEY, self._hide_while_held, overwrite=True)

    def close(self) -> None:
        """Listen no more."""
        if self._on_mouse in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._on_mouse)
        self._viewer.bind_key(_KEY, None, overwrite=True)

    def _on_mouse(self, _viewer: Any, event: Any) -> None:
        layers = self._results.current
        if layers is None:
            return
        scores = layers.scores_at(event.position[-2:])
        self._section.show_cursor(
            "not analysed" if scores is None else score_words(layers.pm.spec, scores)
        )

    def _hide_while_held(self, _viewer: Any) -> Generator[None, None, None]:
        # Classes, a heatmap, and what is being painted.
        shown = [
            layer
            for layer in self._viewer.layers
            if layer.visible and (isinstance(layer, Labels) or result_of(layer) is not None)
        ]
        for layer in shown:
            layer.visible = False
        yield
        for layer in shown:
            layer.visible = True


def score_words(spec: ModelSpec, scores: tuple[float, ...]) -> str:
    """Like "Tumour 0.82 · Stroma 0.11"; stains in optical density."""
    scale, unit = threshold_scale(spec), " OD" if spec.activation == "stain" else ""
    return " · ".join(
        f"{name} {score * scale:.2f}{unit}"
        for name, score in zip(spec.classes, scores, strict=True)
    )
