"""How long the window takes, in a real one: a Markdown table.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/window.py [ROWS ...]

A row is a measurement; `ROWS` names the functions that make them. Another one is added
there: it gets the bench and yields `Row`s.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from large_map import large_map
from window_runs import importing, open_one_level, open_real, segmenting

from napari_wsiseg.geometry import Size
from napari_wsiseg.labels import DecisionRule

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtCore import QEventLoop

    from napari_wsiseg._napari.result_layers import ResultLayers

REPEATS = 31


@dataclass(frozen=True)
class Times:
    """ms of each repeat. On a busy machine the least says more than the median."""

    each: tuple[float, ...]

    def __str__(self) -> str:
        return f"{statistics.median(self.each):.1f} | {min(self.each):.1f}"


@dataclass(frozen=True)
class Row:
    """One measurement, and the most ms it may be; None where nothing is asked."""

    what: str
    times: Times
    must: float | None = None
    detail: str = ""


@dataclass
class Bench:
    """What rows share: a window, a large result.

    Parameters
    ----------
    path
        Where the large result lies, or will.
    size
        Its height and width.
    """

    path: Path
    size: int

    @cached_property
    def viewer(self) -> Viewer:
        """A maximised window that counts its paints."""
        import napari

        viewer = napari.Viewer(show=True)
        viewer.window.resize(1600, 1000)
        self._paints = 0
        self._waiting: QEventLoop | None = None
        # After napari's own painting, and after the graphics have done it.
        self.scene(viewer).events.draw.connect(self._painted, position="last")
        self.settle()
        return viewer

    @cached_property
    def layers(self) -> ResultLayers:
        """The layers of the large result, in the window."""
        from napari_wsiseg._napari.result_layers import ResultLayers

        layers = ResultLayers(large_map(self.path, Size(self.size, self.size)), "large")
        layers.add_to(self.viewer)
        self.viewer.reset_view()
        self.settle()
        return layers

    def scene(self, viewer: Viewer):  # noqa: ANN201 - vispy's, which has no types
        """What paints the canvas."""
        return viewer.window._qt_viewer.canvas._scene_canvas  # noqa: SLF001 - nothing else paints

    @property
    def paints(self) -> int:
        """How often the canvas was painted."""
        return self._paints

    def _painted(self, _: object) -> None:
        from vispy import gloo

        gloo.finish()
        self._paints += 1
        if self._waiting is not None:
            self._waiting.quit()

    def settle(self) -> None:
        """Let everything happen that is on its way."""
        from qtpy.QtWidgets import QApplication

        quiet_since = time.perf_counter()
        paints = getattr(self, "_paints", 0)
        while time.perf_counter() - quiet_since < 0.3:
            QApplication.processEvents()
            if paints != (paints := getattr(self, "_paints", 0)):
                quiet_since = time.perf_counter()

    def to_repaint(self, act: Callable[[], None]) -> tuple[float, float]:
        """(ms that `act` takes, ms until the window is painted)."""
        from qtpy.QtCore import QEventLoop, QTimer

        # Waited for in Qt's own loop: one of ours would keep napari's threads from their work.
        self._waiting = QEventLoop()
        QTimer.singleShot(5000, self._waiting.quit)
        before, start = self._paints, time.perf_counter()
        act()
        called = time.perf_counter()
        self._waiting.exec()
        painted = time.perf_counter()
        self._waiting = None
        if self._paints == before:
            raise SystemExit("The window was not painted within 5 s.")
        return 1e3 * (called - start), 1e3 * (painted - start)

    def repaints(self, act: Callable[[], None]) -> tuple[Times, Times]:
        """What `to_repaint` gives again and again, the first two not counted."""
        gc.collect()
        times = []
        for _ in range(REPEATS + 2):
            times.append(self.to_repaint(act))
            self.settle_paints()
        called, painted = zip(*times[2:], strict=True)
        return Times(called), Times(painted)

    def settle_paints(self) -> None:
        """A few turns of the event loop, so that one measurement's paints end in it."""
        from qtpy.QtWidgets import QApplication

        for _ in range(5):
            QApplication.processEvents()

    def look(self, zoom: str) -> None:
        """At the whole of the large result, or at its middle with a map pixel a screen pixel."""
        self.viewer.reset_view()
        if zoom == "1:1":
            pixel = self.layers.labels.scale[-1]
            self.viewer.scene.camera.zoom = 1 / pixel
        self.settle()


@contextmanager
def async_slicing(on: bool) -> Iterator[None]:
    """Let napari slice in a thread, or not."""
    from napari.settings import get_settings

    experimental = get_settings().experimental
    before, experimental.async_ = experimental.async_, on
    try:
        yield
    finally:
        experimental.async_ = before


def threshold(bench: Bench) -> Iterator[Row]:
    """From a changed threshold to the painted window."""
    rules = itertools.cycle([DecisionRule(default=step / 20) for step in range(8, 19)])
    for zoom, asynchronous, outline in (
        ("full view", False, False),
        ("1:1", False, False),
        ("full view", True, False),
        ("1:1", True, False),
        ("full view", False, True),
        ("1:1", False, True),
    ):
        with async_slicing(asynchronous):
            bench.look(zoom)
            bench.layers.set_outline(outline)
            bench.settle()
            _, painted = bench.repaints(lambda: bench.layers.set_rule(next(rules)))
            bench.layers.set_outline(False)
        how = "async" if asynchronous else "outlines" if outline else ""
        must = None if outline else 60
        yield Row(f"threshold changed to repaint, {zoom}", painted, must, how)


def refresh(bench: Bench) -> Iterator[Row]:
    """What a growing map costs the main thread each time that it has grown."""
    for zoom, heatmap in itertools.product(("full view", "1:1"), (False, True)):
        bench.look(zoom)
        bench.layers.show_scores(1 if heatmap else None)
        bench.settle()
        called, painted = bench.repaints(bench.layers.refresh)
        bench.layers.show_scores(None)
        layers = "labels and heatmap" if heatmap else "labels"
        yield Row(f"refresh, {zoom}", called, 30, layers)
        yield Row(f"refresh and repaint, {zoom}", painted, None, layers)


def hide(bench: Bench) -> Iterator[Row]:
    """From a class hidden or shown to the painted window."""
    shown = itertools.cycle([False, True])
    for zoom in ("full view", "1:1"):
        bench.look(zoom)
        _, painted = bench.repaints(lambda: bench.layers.set_shown(2, next(shown)))
        yield Row(f"class hidden or shown to repaint, {zoom}", painted, 60)


def heatmap(bench: Bench) -> Iterator[Row]:
    """From another class's heatmap chosen to the painted window."""
    classes = itertools.cycle(range(5))
    for zoom in ("full view", "1:1"):
        bench.look(zoom)
        bench.layers.show_scores(4)
        bench.settle()
        _, painted = bench.repaints(lambda: bench.layers.show_scores(next(classes)))
        bench.layers.show_scores(None)
        yield Row(f"heatmap of another class to repaint, {zoom}", painted)


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "threshold": threshold,
    "refresh": refresh,
    "hide": hide,
    "heatmap": heatmap,
    "open": open_real,
    "one-level": open_one_level,
    "segmenting": segmenting,
    "import": importing,
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", default=list(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--map", type=Path, help="keep the large result here, or use it")
    parser.add_argument("--size", type=int, default=40000, help="its height and width in px")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.map or Path(folder) / "large.ome.zarr"
        bench = Bench(path, arguments.size)
        print("| what | how | median ms | least ms | must |\n| --- | --- | ---: | ---: | ---: |")
        for name in arguments.rows:
            for row in ROWS[name](bench):
                must = "" if row.must is None else f"{row.must:g}"
                print(f"| {row.what} | {row.detail} | {row.times} | {must} |", flush=True)
        height, width = bench.scene(bench.viewer).size[::-1]
        print(f"\nCanvas {width} x {height} px; the large result has {arguments.size} px a side.")
        bench.viewer.close()


if __name__ == "__main__":
    main()
