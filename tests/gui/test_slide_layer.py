"""Slides as layers: opened beside the window, told of in it, closed with their last layer."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np
import pytest
from napari import Viewer
from napari.layers import Image
from qtpy.QtCore import QCoreApplication, QThreadPool, QTimer

from gui.dock_driver import PATIENCE
from napari_wsiseg import SlideError, open_slide
from napari_wsiseg._napari import slide_layer
from napari_wsiseg._napari.slide_layer import (
    Preparation,
    open_in_background,
    prepare_in_background,
    slide_layer_data,
    slide_of,
)
from napari_wsiseg.slides import pyramid


@pytest.fixture
def viewer(make_napari_viewer) -> Viewer:
    return make_napari_viewer()


@pytest.fixture
def opened(viewer, qtbot):
    """Open a slide in the background, and wait for its layer."""

    def open_it(path, **keywords):
        layers = []
        open_in_background(viewer, path, on_done=layers.append, **keywords)
        qtbot.waitUntil(lambda: bool(layers), timeout=PATIENCE)
        return layers[0]

    return open_it


def test_the_layer_is_in_micrometres_with_a_scale_bar(opened, viewer, make_slide) -> None:
    layer = opened(make_slide("liver.svs", mpp=0.25))
    assert viewer.layers == [layer]
    assert (layer.name, layer.rgb, layer.multiscale) == ("liver", True, True)
    np.testing.assert_allclose(layer.scale, 0.25)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert layer.axis_labels == ("y", "x")
    assert viewer.canvas.overlays.scale_bar.visible
    slide = slide_of(layer)
    assert slide is not None
    np.testing.assert_array_equal(layer.data[0], slide.pyramid()[0])


def test_what_the_user_says_of_the_scale_wins(opened, make_slide) -> None:
    np.testing.assert_allclose(opened(make_slide(), mpp=0.4).scale, 0.4)


def test_without_a_scale_it_is_in_pixels(make_slide) -> None:
    with open_slide(make_slide(mpp=None)) as slide:
        _, keywords, kind = slide_layer_data(slide)
    assert kind == "image"
    assert (keywords["scale"], keywords["units"]) == ((1.0, 1.0), ("pixel", "pixel"))


def test_other_layers_are_no_slides_of_ours() -> None:
    assert slide_of(Image(np.zeros((9, 9)), metadata={"napari_wsiseg": "theirs"})) is None


def test_levels_are_averaged_beside_the_window(opened, make_slide, monkeypatch) -> None:
    may_go_on = threading.Event()
    average = pyramid._average

    def wait_for_the_window(*arguments):
        # The window sets this in its event loop: were that loop held up, it never would.
        assert may_go_on.wait(20)
        average(*arguments)

    monkeypatch.setattr(pyramid, "_average", wait_for_the_window)
    QTimer.singleShot(50, may_go_on.set)
    assert opened(make_slide(side=1500)).data[-1].shape[0] <= 512


class TestClosing:
    def test_a_slide_is_closed_when_its_layer_is_removed(self, opened, viewer, make_slide) -> None:
        slide = slide_of(opened(make_slide()))
        assert not slide.closed
        viewer.layers.clear()
        assert slide.closed

    def test_a_copy_of_the_layer_keeps_it_open(self, opened, viewer, make_slide) -> None:
        from napari.layers import _layer_actions

        layer = opened(make_slide())
        viewer.layers.selection = {layer}
        _layer_actions._duplicate_layer(viewer.layers)
        viewer.layers.remove(layer)
        assert not slide_of(viewer.layers[0]).closed
        viewer.layers.clear()
        assert slide_of(layer).closed

    def test_another_window_keeps_it_open(self, opened, viewer, make_slide, make_napari_viewer):
        layer = opened(make_slide())
        other = make_napari_viewer()
        other.add_layer(layer)
        viewer.layers.clear()
        assert not slide_of(layer).closed
        other.layers.clear()
        assert slide_of(layer).closed

    def test_closing_the_window_ends_the_work(self, make_napari_viewer, make_slide, monkeypatch):
        window = make_napari_viewer()
        slide = open_slide(make_slide(side=1500))
        averaging, done = threading.Event(), []
        average = pyramid._average

        def until_it_is_closed(*arguments):
            averaging.set()
            with suppress(SlideError):
                while True:
                    average(*arguments)
            raise SlideError("it is closed")

        monkeypatch.setattr(pyramid, "_average", until_it_is_closed)
        prepare_in_background(window, Preparation(lambda: slide, "x"), done.append, done.append)
        assert averaging.wait(20)
        window.close()
        assert QThreadPool.globalInstance().waitForDone(20000)
        assert slide.closed
        assert not done

    def test_a_window_that_was_not_in_front_ends_its_own(
        self, make_napari_viewer, make_slide, qtbot
    ):
        behind, _front = make_napari_viewer(), make_napari_viewer()
        may_open, done = threading.Event(), []
        slide = open_slide(make_slide())

        def open_late():
            assert may_open.wait(20)
            return slide

        prepare_in_background(behind, Preparation(open_late, "x"), done.append, done.append)
        gone = []
        behind.window._qt_window.destroyed.connect(lambda: gone.append(True))
        behind.close()
        qtbot.waitUntil(lambda: bool(gone), timeout=PATIENCE)
        may_open.set()
        assert QThreadPool.globalInstance().waitForDone(20000)
        QCoreApplication.processEvents()
        assert slide.closed
        assert not done

    def test_a_slide_that_is_ready_too_late_is_closed(self, make_napari_viewer, make_slide):
        window, done = make_napari_viewer(), []
        slide = open_slide(make_slide())
        prepare_in_background(window, Preparation(lambda: slide, "x"), done.append, done.append)
        # It ends, but the window does not hear of it before it is closed.
        assert QThreadPool.globalInstance().waitForDone(20000)
        window.close()
        QCoreApplication.processEvents()
        assert slide.closed
        assert not done


class TestTelling:
    @pytest.mark.parametrize(
        "error",
        [SlideError("The slide is torn."), OSError(5, "gone"), RuntimeError("CUDA"), KeyError("x")],
        ids=lambda error: type(error).__name__,
    )
    def test_any_error_is_one_notification(self, error, viewer, qtbot, told, monkeypatch) -> None:
        def fail(*_):
            raise error

        monkeypatch.setattr(slide_layer, "open_slide", fail)
        heard = []
        open_in_background(viewer, "torn.svs", on_error=heard.append)
        qtbot.waitUntil(lambda: heard == [error], timeout=PATIENCE)
        assert [severity for severity, _ in told] == ["error"]
        assert str(error) in told[0][1]
        assert viewer.layers == []

    def test_what_should_be_known_is_one_notification(self, opened, make_slide, told) -> None:
        opened(make_slide("really_a_tiff.png"))
        assert told == [
            (
                "warning",
                "really_a_tiff.png is not what its name says; its content was opened as TIFF.",
            )
        ]
