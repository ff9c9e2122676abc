"""Shows slides: opens them in a worker, makes their layers, closes what nobody shows.

Knows no dock and no result.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari import Viewer
from napari.qt.threading import create_worker
from napari.utils import progress
from napari.utils.notifications import show_error, show_warning
from superqt.utils import FunctionWorker

from napari_wsiseg.errors import SlideWarning, WsisegError, reason
from napari_wsiseg.slides import open_slide

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_wsiseg.slides import Slide
    from napari_wsiseg.slides.scale import UserMpp

LayerData = tuple[Any, dict[str, Any], str]
"""What napari makes a layer of: data, its keywords, its type."""

METADATA = "napari_wsiseg"
"""The key under which our layers say, in their metadata, what they show."""

_log = logging.getLogger(__name__)
_watched: weakref.WeakSet[Any] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class SlideSource:
    """Which open slide a layer shows; stands in the layer's metadata.

    Parameters
    ----------
    slide
        Open for as long as a viewer shows the layer.
    """

    slide: Slide


def slide_layer_data(slide: Slide) -> LayerData:
    """A lazy multiscale RGB layer of an open slide, in µm where its scale is known.

    Takes as long as `slide.pyramid()`: averages levels that the file lacks. Call it in a
    worker where `levels_are_ready(slide.info)` is not so.

    Raises
    ------
    SlideError
        If the slide is closed, or averaged levels can be kept nowhere.
    """
    mpp = slide.info.mpp
    keywords = {
        "name": slide.info.stem,
        "rgb": True,
        "multiscale": True,
        "scale": (1.0, 1.0) if mpp is None else tuple(mpp),
        "units": ("pixel", "pixel") if mpp is None else ("um", "um"),
        "translate": (0.0, 0.0),
        "axis_labels": ("y", "x"),
        # The slide keeps its last tiles itself; napari's cache would keep them a second time.
        "cache": False,
        "metadata": {METADATA: SlideSource(slide)},
    }
    return slide.pyramid(), keywords, "image"


def slide_of(layer: Layer) -> Slide | None:
    """The open slide that a layer of ours shows; None for any other layer."""
    source = layer.metadata.get(METADATA)
    return source.slide if isinstance(source, SlideSource) else None


def close(layer: LayerData) -> None:
    """Close the slide of layer data that will not be shown after all."""
    source = layer[1]["metadata"].get(METADATA)
    if isinstance(source, SlideSource):
        source.slide.close()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A slide that is ready to be shown, or the reason why it is not.

    Parameters
    ----------
    layer
        What to add to a viewer; None where that failed.
    remarks
        What should be known of the slide, a sentence each.
    error
        Whatever was raised. It is returned, as a `RuntimeError` in a worker would vanish.
    """

    layer: LayerData | None
    remarks: tuple[str, ...] = ()
    error: Exception | None = None

    def close(self) -> None:
        """Let go of the slide, where it will not be shown after all."""
        if self.layer is not None:
            close(self.layer)


class Preparation:
    """Opens a slide and makes its levels, away from the main thread, until it is cancelled.

    Parameters
    ----------
    open_it
        Opens it; may take long, e.g. where it is fetched first.
    name
        What people know the slide by.
    """

    def __init__(self, open_it: Callable[[], Slide], name: str) -> None:
        self._open = open_it
        self._name = name
        self._slide: Slide | None = None
        self._cancelled = False

    def __str__(self) -> str:
        """What napari says of it in its activity dock, and when it is closed."""
        return f"Preparing {self._name}"

    def __call__(self) -> Prepared:
        """Do it; never raises."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layer, error = None, None
            try:
                layer = self._prepare()
            # Whatever goes wrong is told in the window.
            except Exception as problem:  # noqa: BLE001
                error = problem
        for other in (w for w in caught if not issubclass(w.category, SlideWarning)):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        # A file's levels and its opening may say the same.
        remarks = dict.fromkeys(
            str(w.message) for w in caught if issubclass(w.category, SlideWarning)
        )
        return Prepared(layer, tuple(remarks), error)

    def cancel(self) -> None:
        """Stop within a tile; for any thread. Does nothing once the levels are made."""
        self._cancelled = True
        slide = self._slide
        if slide is not None:
            slide.close()

    def _prepare(self) -> LayerData:
        slide = self._slide = self._open()
        try:
            if self._cancelled:
                slide.close()
            return slide_layer_data(slide)
        except BaseException:
            slide.close()
            raise
        finally:
            self._slide = None


class _Worker(FunctionWorker[Prepared]):
    """Stops its preparation when napari, or whoever else, asks it to quit."""

    def __init__(self, preparation: Preparation) -> None:
        super().__init__(preparation)
        self._preparation = preparation
        self._prepared: Prepared | None = None

    def work(self) -> Prepared:
        """Do it, and keep what came out: of a worker that was asked to quit, Qt tells nothing."""
        self._prepared = self._preparation()
        return self._prepared

    def quit(self) -> None:
        """End within a tile."""
        super().quit()
        self._preparation.cancel()

    def take(self) -> Prepared | None:
        """What came out, once: napari remembers its workers while their window is there."""
        prepared, self._prepared = self._prepared, None
        return prepared


def open_in_background(
    viewer: Viewer,
    path: str | os.PathLike[str],
    mpp: UserMpp = None,
    on_done: Callable[[Layer], object] | None = None,
    on_error: Callable[[Exception], object] | None = None,
) -> None:
    """Open a slide in a worker and add its layer; napari's activity dock shows that it goes on.

    Parameters
    ----------
    viewer
        Gets the layer and a scale bar. Closing it ends the work.
    path, mpp
        As in `open_slide`.
    on_done
        Called in the main thread with the layer, once it is added.
    on_error
        Called in the main thread with what was raised, after a notification tells it.
    """
    preparation = Preparation(lambda: open_slide(path, mpp), Path(path).name)
    prepare_in_background(viewer, preparation, on_done, on_error)


def prepare_in_background(
    viewer: Viewer,
    preparation: Preparation,
    on_done: Callable[[Layer], object] | None = None,
    on_error: Callable[[Exception], object] | None = None,
) -> None:
    """`open_in_background` for a slide that has to be found or fetched first."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # docks are given a proxy
    worker = create_worker(preparation, _start_thread=False, _worker_class=_Worker)
    # Not the worker's own bar: that one comes with the work, when the window may be gone.
    bar = progress(total=0, desc=str(preparation))

    def end() -> None:
        _free(worker)
        bar.close()
        prepared = worker.take()
        if prepared is None:
            return
        if worker.abort_requested:
            prepared.close()
            return
        layer = show_prepared(viewer, prepared)
        if layer is not None and on_done is not None:
            on_done(layer)
        if prepared.error is not None and on_error is not None:
            on_error(prepared.error)

    # napari itself stops only the workers of the window that was in front when they started.
    # Never disconnected: on Python 3.11 each time costs PySide6 one of its references to True.
    running = weakref.ref(worker)
    viewer.window._qt_window.destroyed.connect(lambda *_: _stop(running))  # noqa: SLF001
    worker.finished.connect(end)
    worker.start()


def _stop(running: weakref.ref[_Worker]) -> None:
    worker = running()
    if worker is not None:
        worker.quit()


def _free(worker: _Worker) -> None:
    """Cut what a worker that has ended calls: it, and its window, would never be freed."""
    for signal in (worker.started, worker.errored, worker.finished):
        with contextlib.suppress(RuntimeError, TypeError):
            signal.disconnect()


def show_prepared(viewer: Viewer, prepared: Prepared) -> Layer | None:
    """Add a prepared slide to the viewer, with a scale bar; tell its remarks, or its error."""
    if prepared.remarks:
        show_warning("\n".join(prepared.remarks))
    if prepared.error is not None:
        tell(prepared.error)
    if prepared.layer is None:
        return None
    data, keywords, _ = prepared.layer
    close_when_removed(viewer)
    layer = viewer.add_image(data, **keywords)
    show_scale_bar(viewer)
    return layer


def show_scale_bar(viewer: Viewer) -> None:
    """Show the scale bar; its unit is that of the layers."""
    viewer.canvas.overlays.scale_bar.visible = True


def tell(error: Exception) -> None:
    """Show an error as one readable notification; one of ours as it is, any other in words."""
    if isinstance(error, WsisegError | OSError):
        show_error(str(error))
        return
    _log.error("The slide cannot be shown.", exc_info=error)
    show_error(f"The slide cannot be shown ({type(error).__name__}: {reason(error)}).")


def close_when_removed(viewer: Viewer) -> None:
    """Have slides closed when their layer leaves this viewer and no other shows it."""
    _watched.add(viewer)
    viewer.layers.events.removed.connect(_close_unseen)


def _close_unseen(event: Any) -> None:
    slide = slide_of(event.value)
    if slide is not None and not any(slide_of(other) is slide for other in _layers_shown()):
        slide.close()


def _layers_shown() -> Sequence[Layer]:
    # A layer may have been added to a viewer by hand: that one has to be watched from now on.
    for viewer in getattr(Viewer, "_instances", ()):
        if viewer not in _watched:
            close_when_removed(viewer)
    return [layer for viewer in _watched for layer in viewer.layers]
