"""A result's layers in a real window: they grow, are tuned, hidden and removed."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage

from gui.dock_driver import SLICING
from gui.pictures import is_right, picture
from maps import SOFTMAX, GrowingMap, map_of
from napari_wsiseg._napari.result_layers import ResultLayers, result_of
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX
from napari_wsiseg.labels import DecisionRule, label_pyramid
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import ProbabilityMap

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

MakeViewer = Callable[..., "Viewer"]

SIDE = 700
CHUNK = 128
STRONG = DecisionRule(default=0.7)


def show_grown(layers: ResultLayers) -> None:
    """Show what the map has by now, as the dock does in two threads."""
    layers.read_again()
    layers.refresh()


def probabilities(height: int = SIDE, width: int | None = None, seed: int = 0) -> np.ndarray:
    """Smooth ones that go from one class to the other within some ten pixels."""
    shape = (3, height, width or height)
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 12, 12))
    weights = np.exp(3 * smooth / smooth.std())
    return weights / weights.sum(axis=0)


@pytest.fixture(params=SLICING)
def viewer(make_napari_viewer: MakeViewer, request: pytest.FixtureRequest) -> Viewer:
    """A window on the screen; napari slices in the main thread, or in one of its own."""
    from napari.settings import get_settings

    get_settings().experimental.async_ = request.param == "async"
    return make_napari_viewer(show=True)


@pytest.fixture
def growing() -> Iterator[GrowingMap]:
    with GrowingMap(probabilities(), chunk=CHUNK) as growing:
        yield growing


@pytest.fixture
def complete() -> Iterator[ProbabilityMap]:
    with map_of(probabilities(), SOFTMAX, chunk=CHUNK) as pm:
        yield pm


def look(viewer: Viewer, zoom: float | None, row: float = SIDE / 2) -> None:
    """At everything, or at the middle of a row with so many screen pixels a map pixel of 0.5 µm."""
    viewer.reset_view()
    if zoom is not None:
        viewer.scene.camera.center = (0.0, row / 2, SIDE / 4)
        viewer.scene.camera.zoom = 2 * zoom
    viewer.screenshot(canvas_only=True, flash=False)


ZOOMS = (None, 1, 6)


@pytest.mark.parametrize("zoom", ZOOMS, ids=["all", "1:1", "6:1"])
def test_a_growing_map_is_shown_as_it_grows(
    viewer: Viewer, growing: GrowingMap, qtbot: QtBot, zoom: float | None
) -> None:
    pictures = grow_and_watch(viewer, growing, qtbot, zoom)
    changes = [not np.array_equal(*pair) for pair in itertools.pairwise(pictures)]
    if zoom == 6:
        assert changes[2], "the row that is looked at came"
    else:
        assert sum(changes) >= 3


def test_the_coarsest_level_grows_too(viewer: Viewer, qtbot: QtBot) -> None:
    """napari keeps it; it is looked at where it is higher than the canvas."""
    with GrowingMap(probabilities(3000, 400), chunk=1024) as growing:
        pictures = grow_and_watch(viewer, growing, qtbot, None)
        assert not any(np.array_equal(*pair) for pair in itertools.pairwise(pictures))
        assert viewer.layers[-1].data_level == len(growing.pm.levels) - 1


def grow_and_watch(
    viewer: Viewer, growing: GrowingMap, qtbot: QtBot, zoom: float | None
) -> list[np.ndarray]:
    """The pictures after each row, all of which are right."""
    layers = ResultLayers(growing.pm, "slide")
    layers.add_to(viewer)
    layers.show_scores(1)
    look(viewer, zoom, row=2.5 * CHUNK)
    pictures = [picture(viewer, qtbot)]
    for _ in range(growing.rows):
        growing.grow()
        show_grown(layers)
        labels = label_pyramid(growing.pm)
        scores = [level[1] for level in growing.pm.levels]
        qtbot.waitUntil(lambda labels=labels: is_right(layers.labels, labels))
        qtbot.waitUntil(lambda scores=scores: is_right(layers.scores, scores))
        pictures.append(picture(viewer, qtbot))
    # No pixel is left of what was there before: layers made now show the same picture.
    layers.remove_from(viewer)
    again = ResultLayers(growing.pm, "slide")
    again.add_to(viewer)
    again.show_scores(1)
    look(viewer, zoom, row=2.5 * CHUNK)
    qtbot.waitUntil(lambda: np.array_equal(picture(viewer, qtbot), pictures[-1]))
    return pictures


def test_thumbnails_grow_too(viewer: Viewer, growing: GrowingMap, qtbot: QtBot) -> None:
    layers = ResultLayers(growing.pm, "slide")
    layers.add_to(viewer)
    look(viewer, 6)
    picture(viewer, qtbot)
    before = layers.labels.thumbnail.copy()
    growing.grow()
    show_grown(layers)
    qtbot.waitUntil(lambda: not np.array_equal(layers.labels.thumbnail, before))


def test_what_was_hidden_while_the_map_grew_is_right_when_it_is_shown(
    viewer: Viewer, growing: GrowingMap, qtbot: QtBot
) -> None:
    layers = ResultLayers(growing.pm, "slide")
    layers.add_to(viewer)
    layers.show_scores(1)
    look(viewer, None)
    layers.labels.visible = False
    layers.show_scores(None)
    for _ in range(growing.rows):
        growing.grow()
        show_grown(layers)
    layers.set_rule(STRONG)
    layers.labels.visible = True
    layers.show_scores(2)
    labels, scores = label_pyramid(growing.pm, STRONG), [level[2] for level in growing.pm.levels]
    for zoom in ZOOMS:
        qtbot.waitUntil(lambda: is_right(layers.labels, labels))
        qtbot.waitUntil(lambda: is_right(layers.scores, scores))
        look(viewer, zoom)


def test_a_threshold_changes_the_picture(
    viewer: Viewer, complete: ProbabilityMap, qtbot: QtBot
) -> None:
    layers = ResultLayers(complete, "slide")
    layers.add_to(viewer)
    for zoom in ZOOMS:
        look(viewer, zoom)
        before = picture(viewer, qtbot)
        for rule in (STRONG, DecisionRule({"Tumour": 0.95}), DecisionRule()):
            layers.set_rule(rule)
            assert layers.rule == rule
            labels = label_pyramid(complete, rule)
            qtbot.waitUntil(lambda labels=labels: is_right(layers.labels, labels))
            assert np.array_equal(picture(viewer, qtbot), before) == (rule == DecisionRule())
    with pytest.raises(JobError):
        layers.set_rule(DecisionRule({"Glands": 0.5}))
    assert layers.rule == DecisionRule()


def test_hiding_a_class_is_a_colour(viewer: Viewer, complete: ProbabilityMap, qtbot: QtBot) -> None:
    layers = ResultLayers(complete, "slide")
    layers.add_to(viewer)
    look(viewer, None)
    before = picture(viewer, qtbot)
    labels = layers.labels._slice.image.raw
    colours = [len(np.unique(before))]
    for index in range(3):
        layers.set_shown(index, False)
        assert not layers.is_shown(index)
        colours.append(len(np.unique(picture(viewer, qtbot))))
    assert colours == sorted(colours, reverse=True)
    assert colours[-1] == 1, "nothing is left but the canvas"
    np.testing.assert_array_equal(layers.labels._slice.image.raw, labels)
    for index in range(3):
        layers.set_shown(index, True)
    np.testing.assert_array_equal(picture(viewer, qtbot), before)


def test_outlines_are_less_than_the_fill(
    viewer: Viewer, complete: ProbabilityMap, qtbot: QtBot
) -> None:
    layers = ResultLayers(complete, "slide")
    layers.add_to(viewer)
    look(viewer, None)
    filled = picture(viewer, qtbot)
    layers.set_outline(True)
    outlined = picture(viewer, qtbot)
    canvas = filled[0, 0]
    assert 0 < (outlined != canvas).sum() < (filled != canvas).sum() / 2
    layers.set_outline(False)
    np.testing.assert_array_equal(picture(viewer, qtbot), filled)


def test_one_class_after_the_other_has_its_heatmap(
    viewer: Viewer, complete: ProbabilityMap, qtbot: QtBot
) -> None:
    layers = ResultLayers(complete, "slide")
    layers.add_to(viewer)
    assert not layers.scores.visible
    layers.labels.visible = False
    for zoom in ZOOMS:
        look(viewer, zoom)
        pictures = []
        for index in (2, 0, 1):
            layers.show_scores(index)
            stored = [level[index] for level in complete.levels]
            qtbot.waitUntil(lambda stored=stored: is_right(layers.scores, stored))
            pictures.append(picture(viewer, qtbot))
        assert not any(np.array_equal(*pair) for pair in itertools.combinations(pictures, 2))
    layers.show_scores(None)
    assert not layers.scores.visible


def test_scores_under_the_cursor_are_those_of_the_store(
    viewer: Viewer, complete: ProbabilityMap
) -> None:
    layers = ResultLayers(complete, "slide")
    layers.add_to(viewer)
    stored = complete.probabilities().compute()
    for y, x in ((0, 0), (13, 600), (SIDE - 1, SIDE - 1)):
        world = layers.labels.data_to_world((y + 0.4, x - 0.4))
        assert layers.scores_at(world) == tuple(stored[:, y, x].tolist())
    for outside in ((-0.3, 5), (5, SIDE / 2 - 0.2), (1e9, -1e9)):
        assert layers.scores_at(outside) is None
    # A stack beside it gives positions an axis more.
    assert layers.scores_at((7.0, 0.0, 0.0)) == layers.scores_at((0.0, 0.0))


def test_layers_say_what_and_where_they_are(
    make_napari_viewer: MakeViewer, complete: ProbabilityMap
) -> None:
    viewer = make_napari_viewer()
    layers = ResultLayers(complete, "CMU-1")
    layers.add_to(viewer)
    layers.add_to(viewer)
    assert [layer.name for layer in viewer.layers] == [
        "CMU-1 · three · probability",
        "CMU-1 · three · classes",
    ]
    for layer in viewer.layers:
        assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
        assert tuple(layer.scale) == (0.5, 0.5)
        assert tuple(layer.axis_labels) == ("y", "x")
        assert result_of(layer) is layers
        assert layer.multiscale
    assert not layers.labels.editable
    assert layers.labels.opacity == 0.4
    assert tuple(layers.scores.contrast_limits) == (0, 255)
    label = int(layers.labels.data[-1][5, 5])
    status = layers.labels.get_status((5 * 8 / 2, 5 * 8 / 2), world=True)
    assert status["coordinates"].endswith(f"{label}; class: {SOFTMAX.classes[label - 1]}")


@pytest.mark.parametrize("mpp", [YX(2.0, 1.0), None])
def test_a_map_lies_on_its_slide(mpp: YX | None) -> None:
    """The outer edge of its first pixel is that of the slide's, whose centre is the origin."""
    downsample = YX(4.0, 2.0)
    with map_of(probabilities(40), SOFTMAX, mpp=mpp, downsample=downsample) as pm:
        layers = ResultLayers(pm, "slide")
        pixel = mpp or downsample
        for layer in (layers.labels, layers.scores):
            edge = layer.data_to_world((-0.5, -0.5))
            slide_pixel = [p / d for p, d in zip(pixel, downsample, strict=True)]
            np.testing.assert_allclose(edge, [-0.5 * length for length in slide_pixel])
            unit = "pixel" if mpp is None else "micrometer"
            assert [str(one) for one in layer.units] == [unit, unit]


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_a_map_of_one_level_and_any_type_is_shown(viewer: Viewer, qtbot: QtBot, dtype: str) -> None:
    with map_of(probabilities(60), SOFTMAX, chunk=64, dtype=dtype) as pm:
        layers = ResultLayers(pm, "small")
        layers.add_to(viewer)
        layers.show_scores(0)
        layers.set_rule(STRONG)
        show_grown(layers)
        assert not layers.labels.editable
        expected, stored = label_pyramid(pm, STRONG)[0].compute(), pm.levels[0][0].compute()
        qtbot.waitUntil(lambda: np.array_equal(layers.labels._slice.image.raw, expected))
        qtbot.waitUntil(lambda: np.array_equal(layers.scores._slice.image.raw, stored))
        assert len(np.unique(picture(viewer, qtbot))) > 3


def test_results_side_by_side_keep_their_own_thresholds(viewer: Viewer, qtbot: QtBot) -> None:
    with (
        map_of(probabilities(seed=1), SOFTMAX, chunk=CHUNK) as one,
        map_of(probabilities(seed=2), SOFTMAX, chunk=CHUNK) as other,
    ):
        first, second = ResultLayers(one, "one", STRONG), ResultLayers(other, "other")
        first.add_to(viewer)
        second.add_to(viewer)
        look(viewer, 1)
        second.set_rule(DecisionRule(default=0.9))
        show_grown(second)
        qtbot.waitUntil(lambda: is_right(first.labels, label_pyramid(one, STRONG)))
        qtbot.waitUntil(lambda: is_right(second.labels, label_pyramid(other, second.rule)))
        first.remove_from(viewer)
        assert list(viewer.layers) == [second.scores, second.labels]


def test_whoever_removed_the_layers_is_left_in_peace(
    viewer: Viewer, growing: GrowingMap, qtbot: QtBot
) -> None:
    layers = ResultLayers(growing.pm, "slide")
    show_grown(layers)
    layers.add_to(viewer)
    viewer.layers.remove(layers.scores)
    growing.grow()
    show_grown(layers)
    layers.show_scores(1)
    viewer.layers.clear()
    growing.grow()
    show_grown(layers)
    layers.set_rule(STRONG)
    layers.set_shown(0, False)
    layers.set_outline(True)
    layers.remove_from(viewer)
    layers.set_outline(False)
    layers.add_to(viewer)
    look(viewer, 1)
    qtbot.waitUntil(lambda: is_right(layers.labels, label_pyramid(growing.pm, STRONG)))


def test_a_result_that_is_deleted_while_it_is_looked_at_empties(
    viewer: Viewer, tmp_path: Path, qtbot: QtBot
) -> None:
    from napari.utils.notifications import notification_manager

    path = tmp_path / "a.ome.zarr"
    map_of(probabilities(), SOFTMAX, chunk=CHUNK, path=path).close()
    with ProbabilityMap.open(path) as pm:
        layers = ResultLayers(pm, "slide")
        layers.add_to(viewer)
        layers.show_scores(1)
        look(viewer, 1)
        (path / "0" / "c" / "0" / "2" / "2").write_bytes(b"no pixels")
        notification_manager.records.clear()
        show_grown(layers)
        qtbot.waitUntil(lambda: layers.labels.loaded and not layers.labels._slice.image.raw.any())
        qtbot.waitUntil(lambda: len(notification_manager.records) == 1)
        assert "damaged" in notification_manager.records[0].message
        shutil.rmtree(path)
        show_grown(layers)
        qtbot.waitUntil(lambda: layers.labels.loaded and layers.scores.loaded)
        assert len(notification_manager.records) == 1
        notification_manager.records.clear()


def test_a_layer_can_be_duplicated(viewer: Viewer, complete: ProbabilityMap, qtbot: QtBot) -> None:
    from napari.layers._layer_actions import _duplicate_layer

    layers = ResultLayers(complete, "slide")
    layers.add_to(viewer)
    viewer.layers.selection = {layers.labels}
    _duplicate_layer(viewer.layers)
    copy = viewer.layers[-1]
    assert copy is not layers.labels
    assert copy.name.startswith(layers.labels.name)
    qtbot.waitUntil(lambda: is_right(copy, label_pyramid(complete)))


def test_a_napari_without_its_private_method_shows_the_growth_too(
    viewer: Viewer, growing: GrowingMap, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = ResultLayers(growing.pm, "slide")
    layers.add_to(viewer)
    look(viewer, None)
    monkeypatch.setattr("napari_wsiseg._napari.result_layers._FORGET_COARSEST", "_gone")
    growing.grow()
    show_grown(layers)
    look(viewer, None)
    qtbot.waitUntil(lambda: is_right(layers.labels, label_pyramid(growing.pm)))


def test_many_classes_take_their_colours_in_turn() -> None:
    spec = ModelSpec("many", tuple(f"Class {number}" for number in range(9)))
    stored = np.zeros((9, 20, 20), np.float32)
    stored[8] = 1
    with map_of(stored, spec) as pm:
        layers = ResultLayers(pm, "slide")
        colour = layers.labels.get_color(9)
        expected = tuple(int(spec.class_colors[8][i : i + 2], 16) / 255 for i in (1, 3, 5))
        np.testing.assert_allclose(colour[:3], expected, atol=1e-6)
