"""What a window shows, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gui.dock_driver import PATIENCE

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels
    from pytestqt.qtbot import QtBot


def picture(viewer: Viewer, qtbot: QtBot) -> np.ndarray:
    """(height, width) colours of the canvas, when all that it needs is there."""
    # Painting is what makes napari ask for another level or place.
    viewer.screenshot(canvas_only=True, flash=False)
    qtbot.waitUntil(lambda: all(layer.loaded for layer in viewer.layers), timeout=PATIENCE)
    rgba = viewer.screenshot(canvas_only=True, flash=False)
    return np.ascontiguousarray(rgba).view(np.uint32)[..., 0]


def is_right(layer: Labels | Image, levels: list) -> bool:
    """Whether the layer shows what is in these levels, where it looks."""
    shown, number = layer._slice.image.raw, layer.data_level
    (top, left), (bottom, right) = layer.corner_pixels
    expected = levels[number][top : bottom + 1, left : right + 1].compute(scheduler="sync")
    return layer.loaded and np.array_equal(shown, expected)
