"""Makes docs/images/*.png from a real window: `python scripts/_screenshots.py [SLIDE]`.

Run by scripts/screenshots, on a virtual screen. Each picture is taken in napari's dark and light
theme; settings, caches and results lie in a folder of their own, which is removed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_wsiseg._napari.dock import SegmentDock

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
WORK = Path(tempfile.gettempdir()) / "wsiseg-pictures"
REAL_SLIDE = ROOT.parent / "shared" / "data" / "CMU-1-Small-Region.svs"
THEMES = ("dark", "light")
WINDOW = (1360, 860)
DOCK_WIDTH = 380
NARROW = 350
LARGE_FONT = 1.5
HALF_WAY_ROW = 3
STRIDE = 256
PATIENCE_S = 180
PANEL_COLORS = 96


def main(arguments: list[str]) -> int:
    """Make all pictures; the exit status."""
    slide = Path(arguments[0]) if arguments else REAL_SLIDE
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    # Before napari is imported, which reads them then.
    os.environ["NAPARI_CONFIG"] = str(WORK / "settings.yaml")
    os.environ["NAPARI_WSISEG_CACHE"] = str(WORK / "cache")
    os.environ["XDG_CACHE_HOME"] = str(WORK / "cache")
    try:
        _make(slide if arguments or slide.exists() else None)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 0


def _make(slide: Path | None) -> None:
    from napari_wsiseg.geometry import Resolution

    if slide is None:
        from napari_wsiseg._napari.samples import made_slide

        slide = made_slide()
    with _window() as (viewer, dock):
        dock.panel.output_folder = WORK / "results"
        dock.open_path(slide)
        _until(lambda: dock.tissue.mask is not None, "the slide is ready")
        if dock.slides.current.slide.info.mpp is None:
            dock.panel.resolution = Resolution.parse("level 0")
        _until(dock.resolution_section.meaning.text, "the run is foretold")
        _shoot(viewer, dock, "start", dock.slide_section)
        _hold_half_way(dock)
        _shoot(viewer, dock, "half-way", dock.run_section)
        _finish(dock)
        _drag_a_threshold(dock)
        _shoot(viewer, dock, "done", dock.result_section)
        _export(dock)
        _shoot(viewer, dock, "export", dock.export_section)
        _shoot_narrow(dock)


@contextmanager
def _window() -> Iterator[tuple[Viewer, SegmentDock]]:
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    held, dock = viewer.window.add_plugin_dock_widget("napari-wsiseg", "Segment slide")
    _make_wide(viewer, held, DOCK_WIDTH)
    yield viewer, dock
    dock.close_all()
    viewer.close()


def _make_wide(viewer: Viewer, held: QWidget, width: int) -> None:
    from qtpy.QtCore import Qt

    viewer.window._qt_window.resizeDocks([held], [width], Qt.Orientation.Horizontal)
    _settle()


def _hold_half_way(dock: SegmentDock) -> None:
    """Start the run, and hold it with Pause as soon as this row is finished.

    In the small patches that a network would be given, one by one, so that there are rows.
    """
    dock.advanced_section.stride.value = STRIDE
    dock.advanced_section.batch_size.value = 1

    def is_held() -> bool:
        return dock.run_section.pause.text() == "Resume"

    def look(_slide: Any, step: Any) -> None:
        if step.row >= HALF_WAY_ROW and not is_held():
            dock.run_section.pause.click()

    dock.runs.progressed.connect(look)
    dock.run_section.segment.click()
    _until(is_held, "the run is held")
    dock.runs.progressed.disconnect(look)
    _settle(1.5)


def _finish(dock: SegmentDock) -> None:
    dock.run_section.pause.click()
    _until(lambda: dock.runs.runner.request is None, "the run is done")
    _until(lambda: not dock.background.is_busy, "the areas are measured")


def _drag_a_threshold(dock: SegmentDock) -> None:
    row = dock.result_section.classes[max(dock.result_section.classes)]
    row.slider.setValue(row.slider.value() + 8)
    _until(lambda: not dock.background.is_busy, "the areas are measured")


def _export(dock: SegmentDock) -> None:
    """Click Export, with the answer that a user would give to the dialog."""
    from qtpy.QtWidgets import QFileDialog

    target = WORK / "results" / "annotations.geojson"
    ask, QFileDialog.getSaveFileName = QFileDialog.getSaveFileName, lambda *_: (str(target), "")
    try:
        dock.export_section.export.click()
    finally:
        QFileDialog.getSaveFileName = ask
    _until(lambda: dock.exports.runner.request is None, "the export is written")


def _shoot_narrow(dock: SegmentDock) -> None:
    """The whole panel, as narrow as it is to be usable; then in a larger font."""
    from napari.settings import get_settings

    appearance = get_settings().appearance
    usual = appearance.font_size
    for name, size in (("panel", usual), ("panel-large-font", round(usual * LARGE_FONT))):
        appearance.font_size = size
        _settle()
        dock.setFixedWidth(NARROW)
        _settle()
        for theme in THEMES:
            appearance.theme = theme
            _settle()
            _save(dock.column.grab().toImage(), f"{name}-{theme}")


def _shoot(viewer: Viewer, dock: SegmentDock, name: str, section: QWidget) -> None:
    """The window with this section in view, in each theme."""
    from napari._qt.dialogs.qt_notification import NapariQtNotification
    from napari.settings import get_settings

    dock._scroll.verticalScrollBar().setValue(section.y())
    for notification in viewer.window._qt_window.findChildren(NapariQtNotification):
        notification.close()
    for theme in THEMES:
        get_settings().appearance.theme = theme
        _settle()
        _save(viewer.window.screenshot(flash=False, canvas_only=False), f"{name}-{theme}")


def _save(picture: Any, name: str) -> None:
    """Write a picture in 256 colours."""
    if not isinstance(picture, np.ndarray):
        from napari._qt.utils import QImg2array

        picture = QImg2array(picture)
    IMAGES.mkdir(exist_ok=True)
    image = Image.fromarray(picture[..., :3])
    image.quantize(palette=_palette(image), dither=Image.Dither.NONE).save(
        IMAGES / f"{name}.png", optimize=True
    )


def _palette(image: Image.Image) -> Image.Image:
    """Colours of the picture in which the panel's few are kept beside the slide's many."""
    panel = image.crop((max(image.width - DOCK_WIDTH, 0), 0, image.width, image.height))
    rare = panel.quantize(PANEL_COLORS, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
    usual = image.quantize(256 - PANEL_COLORS, method=Image.Quantize.MEDIANCUT).getpalette() or []
    colors = rare[: 3 * PANEL_COLORS] + usual[: 3 * (256 - PANEL_COLORS)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors)
    return palette


def _settle(seconds: float = 0.5) -> None:
    """Let the window draw what it has to."""
    end = time.monotonic() + seconds
    _until(lambda: time.monotonic() > end, "it is drawn")


def _until(reached: Callable[[], object], what: str) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(f"After {PATIENCE_S} s it is still not so that {what}.")
        QApplication.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
