"""Rows of `window.py` about the dock: opening slides, segmenting while the window is used.

A gap is the time between two turns of Qt's event loop: as long as nothing can be clicked.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from window import Bench

    from napari_wsiseg._napari.dock import SegmentDock

REAL_SLIDE = Path(__file__).parents[2] / "shared/data/CMU-1-Small-Region.svs"
_SIDE = 30000
_OPENINGS = 5
_IMPORTS = 5
_PATIENCE = 120


class Heartbeat:
    """Counts how long the event loop takes from turn to turn."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.longest = 0.0
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def stop(self) -> float:
        """The longest gap, in ms."""
        self._timer.stop()
        return 1e3 * self.longest


def until(done: Callable[[], bool]) -> None:
    """Run Qt's own event loop until something is so."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer, limit = QEventLoop(), QTimer(), QTimer()
    timer.setInterval(2)
    timer.timeout.connect(lambda: loop.exit(0) if done() else None)
    limit.setSingleShot(True)
    limit.timeout.connect(lambda: loop.exit(1))
    timer.start()
    limit.start(1000 * _PATIENCE)
    failed = loop.exec()
    timer.stop()
    limit.stop()
    if failed:
        raise SystemExit(f"Waited {_PATIENCE} s in vain.")


@contextmanager
def dock_of(bench: Bench) -> Iterator[tuple[SegmentDock, Path]]:
    """The dock in the bench's window, and a folder for results and display levels."""
    from napari_wsiseg._napari.dock import SegmentDock

    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("NAPARI_WSISEG_CACHE")
        os.environ["NAPARI_WSISEG_CACHE"] = folder
        dock = SegmentDock(bench.viewer)
        widget = bench.viewer.window.add_dock_widget(dock, name="Segment slide", area="right")
        dock.panel.output_folder = Path(folder) / "results"
        bench.settle()
        try:
            yield dock, Path(folder)
        finally:
            until(lambda: not dock.background.is_busy)
            dock.close_all()
            bench.viewer.layers.clear()
            bench.viewer.window.remove_dock_widget(widget)
            os.environ.pop("NAPARI_WSISEG_CACHE")
            if before is not None:
                os.environ["NAPARI_WSISEG_CACHE"] = before


def _is_ready(dock: SegmentDock) -> bool:
    return dock.tissue.mask is not None and dock.run_section.segment.isEnabled()


def open_real(bench: Bench) -> Iterator[Any]:
    """From the click on a slide's name to its first paint."""
    from window import Row, Times

    if not REAL_SLIDE.exists():
        return
    times = []
    with dock_of(bench) as (dock, _):
        for _ in range(_OPENINGS):
            added: list[int] = []
            bench.viewer.layers.events.inserted.connect(
                lambda _, added=added: added.append(bench.paints)
            )
            start = time.perf_counter()
            dock.open_path(REAL_SLIDE)
            until(lambda added=added: bool(added) and bench.paints > added[0])
            times.append(1e3 * (time.perf_counter() - start))
            until(lambda: not dock.background.is_busy)
            bench.viewer.layers.clear()
            bench.settle()
    yield Row("real slide opened to first paint", Times(tuple(times)), 1000, f"{_OPENINGS} times")


def open_one_level(bench: Bench) -> Iterator[Any]:
    """The longest gap while a large file of one level is opened, all of it averaged."""
    from window import Row, Times

    with dock_of(bench) as (dock, folder):
        slide = folder / "one-level.tif"
        write_one_level(slide, _SIDE)
        beat, start = Heartbeat(), time.perf_counter()
        dock.open_path(slide)
        until(lambda: dock.slides.current is not None)
        bench.settle()
        gap, seconds = beat.stop(), time.perf_counter() - start
    detail = f"{_SIDE} x {_SIDE} px, shown after {seconds:.1f} s"
    yield Row("one-level slide opened, longest gap", Times((gap,)), 150, detail)


def write_one_level(path: Path, side: int) -> None:
    """A tiled JPEG TIFF without reduced levels, of one picture again and again."""
    from skimage.data import immunohistochemistry
    from tifffile import TiffWriter

    tile = immunohistochemistry()
    count = math.ceil(side / len(tile)) ** 2
    with TiffWriter(path, bigtiff=True) as file:
        file.write(
            itertools.repeat(tile, count),
            shape=(side, side, 3),
            dtype=np.uint8,
            photometric="rgb",
            tile=tile.shape[:2],
            compression="jpeg",
        )


def segmenting(bench: Bench) -> Iterator[Any]:
    """The longest gap while a slide is segmented and panned, and when its first row shows."""
    from qtpy.QtCore import QTimer
    from window import Row, Times

    with dock_of(bench) as (dock, folder):
        slide = folder / "slide.tif"
        write_one_level(slide, 8192)
        dock.open_path(slide)
        until(lambda: dock.slides.current is not None)
        dock.slide_section.give.click()  # 0.5 µm per pixel
        until(lambda: _is_ready(dock) and not dock.background.is_busy)
        bench.settle()
        steps, finished, shown = dock.runs.runner._steps, [], []  # noqa: SLF001 - to see its clock

        def timed(request: Any, switch: Any) -> Any:
            run = steps(request, switch)
            try:
                while True:
                    step = next(run)
                    if getattr(step, "kind", "") == "row":
                        finished.append(time.perf_counter())
                    yield step
            except StopIteration as end:
                return end.value

        dock.runs.runner._steps = timed  # noqa: SLF001
        centre = itertools.cycle([(900.0, 900.0), (1000.0, 1100.0), (1200.0, 1000.0)])
        pan = QTimer()
        pan.setInterval(100)
        pan.timeout.connect(lambda: setattr(bench.viewer.scene.camera, "center", next(centre)))
        beat = Heartbeat()
        pan.start()
        dock.run_section.segment.click()
        until(lambda: bool(finished))
        first = finished[0]

        def row_shows() -> bool:
            layers = dock.results.current
            if layers is None:
                return False
            return bool(np.any(layers.labels._slice.image.raw))  # noqa: SLF001 - what is drawn

        pan.stop()
        bench.viewer.reset_view()
        until(lambda: row_shows() or dock.runs.runner.request is None)
        shown.append(1e3 * (time.perf_counter() - first))
        pan.start()
        until(lambda: dock.runs.runner.request is None)
        pan.stop()
        gap = beat.stop()
    yield Row("segmenting and panning, longest gap", Times((gap,)), 150, "he-stain, 8192 x 8192 px")
    yield Row("first finished row to the screen", Times(tuple(shown)), 600, "he-stain")


def importing(bench: Bench) -> Iterator[Any]:  # noqa: ARG001 - a row as the others
    """What napari's start takes more with the plugin: its commands, and then the dock."""
    from window import Row, Times

    for module in ("napari_wsiseg._napari.reader", "napari_wsiseg._napari.dock"):
        code = (
            "import time, napari, napari.layers, napari.qt.threading, magicgui, superqt\n"
            "from qtpy import QtWidgets\n"
            f"start = time.perf_counter(); import {module}\n"
            "print(1e3 * (time.perf_counter() - start))"
        )
        command = [sys.executable, "-c", code]
        each = [
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(_IMPORTS)
        ]
        what = module.rpartition(".")[2]
        yield Row(f"import of the plugin's {what}", Times(tuple(each)), 300, f"{_IMPORTS} times")
