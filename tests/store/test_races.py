"""Two processes want one place at the same moment: one gets it, and nothing of it is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_wsiseg.export.target import new_target
from napari_wsiseg.store import MapWriter, ProbabilityMap, RunInfo, is_export
from napari_wsiseg.store.drafts import locked_draft
from store.helpers import INFO, Truth, assert_holds, layout_of, run, workspace
from store.races import race

LAYOUT = layout_of((9, 7))
TRUTH = Truth.random(LAYOUT, 0)
ROUNDS = 6

_REFUSED = re.compile(
    "was (made|written) by another process meanwhile|is being written by process"
    "|exists; continue it|was just replaced by another process|cannot be written: No such file"
    "|is there and is no export|exists and is no result"
)


@contextmanager
def writing(writer: MapWriter) -> Iterator[None]:
    """A whole run, once all have begun or were refused."""
    yield
    run(writer, TRUTH, writer.unfinished)
    writer.close()


def begins(place: Path, name: str):
    return writing(MapWriter.create(place, LAYOUT, RunInfo({"model": name}), workspace()))


def replaces(place: Path, name: str):
    info = RunInfo({"model": name})
    return writing(MapWriter.create(place, LAYOUT, info, workspace(), overwrite=True))


def goes_on(place: Path, name: str):
    return writing(MapWriter.resume(place, INFO.identity, workspace()))


@contextmanager
def exports(place: Path, name: str) -> Iterator[None]:
    """An export that takes as long as the others."""
    is_folder = place.suffix == ".zarr"
    with new_target(place, is_folder=is_folder, overwrite=True) as partial:
        if is_folder:
            partial.mkdir()
            for file in "ab":
                (partial / file).write_text(name)
            root = '{"attributes": {"napari_wsiseg": {"export": "labels"}}}'
            (partial / "zarr.json").write_text(root)
        else:
            partial.write_text(name)
        yield


@contextmanager
def drafts(place: Path, name: str) -> Iterator[None]:
    with locked_draft(place) as draft:
        (draft.folder / name).touch()
        yield
        assert [path.name for path in draft.folder.iterdir() if path.is_file()] == [name]
        draft.discard()


def places_in(folder: Path, suffix: str = "") -> list[Path]:
    return [folder / f"{number}{suffix}" for number in range(ROUNDS)]


def winners(said: list[dict[str, str | None]]) -> list[list[str]]:
    """Who came to the end in each round; the others were refused in a sentence."""
    for sentence in filter(None, (each for one in said for each in one.values())):
        assert _REFUSED.search(sentence), sentence
    return [[name for name, refused in one.items() if refused is None] for one in said]


def assert_whole(place: Path, model: str) -> None:
    with ProbabilityMap.open(place) as pm:
        assert pm.info.identity["model"] == model
        assert pm.status == "complete"
        assert_holds(pm, TRUTH)


def assert_at_most_one(place: Path, won: list[str]) -> None:
    """Where one saw the other, and was held up for long, both withdraw: nothing is lost."""
    assert len(won) <= 1
    if not won:
        with goes_on(place, "one"):
            pass


def test_of_runs_that_begin_at_once_one_is_refused(tmp_path):
    places = places_in(tmp_path)
    for place, won in zip(places, winners(race(places, one=begins, two=begins)), strict=True):
        (winner,) = won
        assert_whole(place, winner)
    assert sorted(tmp_path.iterdir()) == sorted(places)


def test_of_runs_that_go_on_at_once_one_is_refused(tmp_path):
    places = places_in(tmp_path)
    for place in places:
        MapWriter.create(place, LAYOUT, INFO, workspace()).close("cancelled")
    for place, won in zip(places, winners(race(places, one=goes_on, two=goes_on)), strict=True):
        assert_at_most_one(place, won)
        assert_whole(place, INFO.identity["model"])
    assert sorted(tmp_path.iterdir()) == sorted(places)


def test_one_that_goes_on_and_one_that_replaces_never_mix(tmp_path):
    places = places_in(tmp_path)
    for place in places:
        MapWriter.create(place, LAYOUT, INFO, workspace()).close("cancelled")
    for place, won in zip(places, winners(race(places, one=goes_on, two=replaces)), strict=True):
        assert_at_most_one(place, won)
        assert_whole(place, "two" if won == ["two"] else INFO.identity["model"])
    assert sorted(tmp_path.iterdir()) == sorted(places)


def test_drafts_for_one_place_do_not_sweep_each_other(tmp_path):
    said = race(places_in(tmp_path), one=drafts, two=drafts)
    assert winners(said) == [["one", "two"]] * ROUNDS
    assert list(tmp_path.iterdir()) == []


def test_of_exports_to_one_place_one_stands_there_whole(tmp_path):
    files, folders = places_in(tmp_path, ".txt"), places_in(tmp_path, ".zarr")
    won = winners(race([*files, *folders], one=exports, two=exports))
    assert all(won)
    for place, names in zip(files, won, strict=False):
        assert place.read_text() in names
    for place, names in zip(folders, won[ROUNDS:], strict=True):
        assert is_export(place)
        first, second = ((place / file).read_text() for file in "ab")
        assert first == second
        assert first in names
    assert sorted(tmp_path.iterdir()) == sorted([*files, *folders])


def test_a_run_and_an_export_to_one_place_spare_each_other(tmp_path):
    places = places_in(tmp_path, ".zarr")
    for place, won in zip(places, winners(race(places, run=begins, export=exports)), strict=True):
        (winner,) = won
        assert is_export(place) == (winner == "export")
        if winner == "run":
            assert_whole(place, "run")
    assert sorted(tmp_path.iterdir()) == sorted(places)
