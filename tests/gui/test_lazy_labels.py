"""Levels that napari slices are those of `label_pyramid`, whatever is asked of them and when."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maps import SIGMOID, SOFTMAX, STAIN, GrowingMap, map_of
from napari_wsiseg._napari.lazy_labels import LazyLabels, LazyScores
from napari_wsiseg._napari.live_map import LiveMap
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.labels import DecisionRule, label_pyramid
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import ProbabilityMap

pytestmark = pytest.mark.one_binding

SPECS = [
    SOFTMAX,
    SIGMOID,
    STAIN,
    ModelSpec("three", ("A", "Glass", "B"), background=1),
    ModelSpec("tissue", ("Background", "Tissue"), background=0),
]


def levels_of(live: LiveMap, kind: type[LazyLabels | LazyScores] = LazyLabels):
    return [kind(live, level) for level in range(len(live.pm.layout.sizes))]


def random_probabilities(spec: ModelSpec, height: int, width: int, seed: int) -> np.ndarray:
    stored = np.random.default_rng(seed).integers(0, 8, (len(spec.classes), height, width)) * 36
    return (stored / 255).astype(np.float32)


@st.composite
def rules(draw: st.DrawFn, spec: ModelSpec) -> DecisionRule:
    names = [name for i, name in enumerate(spec.classes) if i != spec.background]
    return DecisionRule(
        draw(st.dictionaries(st.sampled_from(names), st.floats(0, 1))),
        draw(st.none() | st.floats(0, 1)),
        clip_to_tissue=draw(st.booleans()),
    )


def indices(length: int) -> st.SearchStrategy[int | slice]:
    return st.slices(length) | st.integers(-length, length - 1)


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, int]) -> object:
    y, x = draw(indices(shape[0])), draw(indices(shape[1]))
    return draw(st.sampled_from([(y, x), y, (y,), (y, ...), (..., x), (y, ..., x), ..., ()]))


@settings(max_examples=40)
@given(st.data())
def test_every_level_is_that_of_the_label_pyramid(data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(SPECS))
    shape = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    seed = data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    pm = map_of(
        random_probabilities(spec, *shape, seed),
        spec,
        coverage=rng.random(shape) < 0.9,
        tissue=data.draw(st.none() | st.just(rng.random(shape) < 0.7)),
        dtype=data.draw(st.sampled_from(["uint8", "float16", "float32"])),
    )
    with pm:
        live = LiveMap(pm, data.draw(rules(spec)))
        levels, scores = levels_of(live), levels_of(live, LazyScores)
        for _ in range(4):
            expected = label_pyramid(pm, live.rule)
            assert len(levels) == len(expected)
            number = data.draw(st.integers(0, len(levels) - 1))
            level, labels = levels[number], expected[number].compute(scheduler="sync")
            assert (level.shape, level.dtype, level.size) == (
                labels.shape,
                labels.dtype,
                labels.size,
            )
            key = data.draw(keys(labels.shape))
            got = level[key]
            np.testing.assert_array_equal(got, labels[key])
            assert np.shape(got) == np.shape(labels[key])
            stored = pm.levels[number][live.scored].compute(scheduler="sync")
            np.testing.assert_array_equal(scores[number][key], stored[key])
            live.rule = data.draw(rules(spec))
            live.scored = data.draw(st.integers(0, len(spec.classes) - 1))


@settings(max_examples=15)
@given(st.data())
def test_a_growing_map_shows_what_it_has_each_time_it_is_told(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    probabilities = random_probabilities(SOFTMAX, height, width, data.draw(st.integers(0, 99)))
    with GrowingMap(probabilities) as growing:
        live = LiveMap(growing.pm)
        levels = levels_of(live)
        for _ in range(growing.rows):
            growing.grow()
            live.read_again()
            for level, expected in zip(levels, label_pyramid(growing.pm), strict=True):
                np.testing.assert_array_equal(level[:], expected.compute(scheduler="sync"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The level of each read of a map."""
    levels: list[int] = []
    read = ProbabilityMap.read

    def counted(self: ProbabilityMap, region: Region, level: int = 0):
        levels.append(level)
        return read(self, region, level)

    monkeypatch.setattr(ProbabilityMap, "read", counted)
    return levels


def test_a_changed_rule_decides_again_without_reading(reads: list[int]) -> None:
    with map_of(random_probabilities(SOFTMAX, 70, 60, 0), SOFTMAX) as pm:
        live = LiveMap(pm)
        levels = levels_of(live)
        levels[0][10:50, 5:40]
        levels[-1][:]
        assert reads == [0, len(levels) - 1]
        for threshold in (0.3, 0.9):
            live.rule = DecisionRule(default=threshold)
            expected = [part.compute() for part in label_pyramid(pm, live.rule)]
            np.testing.assert_array_equal(levels[0][12:50, 6:30], expected[0][12:50, 6:30])
            np.testing.assert_array_equal(np.asarray(levels[-1]), expected[-1])
        # The heatmap beside them is cut from the same block.
        levels_of(live, LazyScores)[0][16:32, 16:32]
        assert len(reads) == 2
        levels[0][9:50, 5:40]
        assert reads[2:] == [0]


def test_what_was_read_before_the_map_grew_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with GrowingMap(random_probabilities(SOFTMAX, 32, 32, 0)) as growing:
        live = LiveMap(growing.pm)
        level = LazyLabels(live, 0)
        read = ProbabilityMap.read

        def grows_meanwhile(self: ProbabilityMap, region: Region, level: int = 0):
            block = read(self, region, level)
            monkeypatch.setattr(ProbabilityMap, "read", read)
            growing.grow()
            live.read_again()
            return block

        monkeypatch.setattr(ProbabilityMap, "read", grows_meanwhile)
        assert not level[:].any()
        np.testing.assert_array_equal(level[:], label_pyramid(growing.pm)[0].compute())
        assert level[:].any()


def damage_a_chunk(folder: Path) -> None:
    (folder / "0" / "c" / "0" / "0" / "0").write_bytes(b"no pixels")


@pytest.mark.parametrize("harm", [damage_a_chunk, shutil.rmtree], ids=["damaged", "deleted"])
def test_what_cannot_be_read_is_empty_and_told_once(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "a.ome.zarr"
    map_of(random_probabilities(SOFTMAX, 40, 40, 0), SOFTMAX, path=path).close()
    with ProbabilityMap.open(path) as pm:
        harm(path)
        told: list[str] = []
        live = LiveMap(pm, on_error=told.append)
        for _ in range(2):
            assert not LazyLabels(live, 0)[:20, :20].any()
            assert not LazyScores(live, 0)[:20, :20].any()
            assert live.scores_at(3, 3) is None
        (message,) = told
        assert ("damaged" if harm is damage_a_chunk else f"{path} is gone") in message
        if harm is damage_a_chunk:
            assert LazyLabels(live, 0)[16:, 16:].any()


def test_a_large_level_is_never_read_whole_by_accident() -> None:
    with map_of(random_probabilities(SOFTMAX, 40, 20, 0), SOFTMAX) as pm:
        levels = levels_of(LiveMap(pm))
        with pytest.raises(ValueError, match=r"Level 0 is 20 x 40 px .* take a slice"):
            np.asarray(levels[0])
        np.testing.assert_array_equal(np.asarray(levels[-1]), label_pyramid(pm)[-1].compute())
        assert np.asarray(levels[-1], np.int64).dtype == np.int64
        with pytest.raises(ValueError, match="computed anew"):
            np.array(levels[-1], copy=False)


@pytest.mark.parametrize("key", [40, -41, (0, 0, 0), (..., 0, ..., 0), None, 1.5])
def test_an_index_that_numpy_refuses_is_refused(key: object) -> None:
    with map_of(random_probabilities(SOFTMAX, 40, 40, 0), SOFTMAX) as pm:
        level = LazyLabels(LiveMap(pm), 0)
    with pytest.raises((IndexError, TypeError)):
        level[key]


def test_a_copy_is_the_same_view_of_the_map() -> None:
    with map_of(random_probabilities(SOFTMAX, 40, 40, 0), SOFTMAX) as pm:
        levels = levels_of(LiveMap(pm))
        assert copy.deepcopy(levels) == levels


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_scores_under_the_cursor_are_those_stored(dtype: str, reads: list[int]) -> None:
    coverage = np.ones((40, 40), bool)
    coverage[20:, 20:] = False
    pm = map_of(random_probabilities(SOFTMAX, 40, 40, 0), SOFTMAX, coverage=coverage, dtype=dtype)
    with pm:
        live = LiveMap(pm)
        stored = pm.probabilities().compute()
        for y, x in ((0, 0), (17, 5), (39, 19)):
            assert live.scores_at(y, x) == tuple(stored[:, y, x].tolist())
        assert len(reads) == 3
        live.scores_at(38, 18)
        assert len(reads) == 3, "the chunk under the cursor is read once"
        for y, x in ((30, 30), (-1, 0), (0, 40), (40, 0)):
            assert live.scores_at(y, x) is None


def test_a_rule_of_another_model_is_refused_and_the_old_one_stays() -> None:
    with map_of(random_probabilities(SOFTMAX, 20, 20, 0), SOFTMAX) as pm:
        live = LiveMap(pm)
        before = live.rule
        with pytest.raises(JobError, match="Nuclei"):
            live.rule = DecisionRule({"Nuclei": 0.5})
        assert live.rule is before


def test_levels_say_their_chunks_and_what_they_are() -> None:
    with map_of(random_probabilities(SOFTMAX, 40, 20, 0), SOFTMAX) as pm:
        level = levels_of(LiveMap(pm))[0]
        assert level.chunks == (16, 16)
        assert repr(level) == "<LazyLabels (40, 20) uint8, level 0>"
        assert pm.layout.sizes[0] == Size(40, 20)
