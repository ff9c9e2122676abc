"""However many patches fail: what a result writes of them it can read, or it stops before."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.errors import StoreError
from napari_wsiseg.messages import FailedPatch
from napari_wsiseg.store import MapWriter, failed, state
from napari_wsiseg.store.failed import FailedList
from napari_wsiseg.store.state import STATE, State, read_state, write_state
from store.helpers import INFO, layout_of, workspace


@pytest.fixture
def small(monkeypatch):
    """As the true bounds, a thousand times smaller."""
    for module in (failed, state):
        monkeypatch.setattr(module, "LARGEST_JSON", 2**16)
        monkeypatch.setattr(module, "MOST_COMMAS", 2**13)
    monkeypatch.setattr(failed, "_BESIDES", 2**10)


def filled(reason: str) -> FailedList:
    """A list with as many patches as it takes."""
    listed = FailedList(())
    with suppress(StoreError):
        for row in range(10**5):
            listed.add([FailedPatch(row, 10**6, reason)])
    with pytest.raises(StoreError, match=r"\d+ patches could not be read or predicted, more than"):
        listed.add([FailedPatch(10**6, 10**6, reason)])
    return listed


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("reason", ["x", "," * 500, 'a "word" in the file', "\x01é\\" * 40])
def test_a_list_that_is_full_can_be_read(tmp_path, reason):
    patches = filled(reason).patches
    write_state(tmp_path, State("failed", failed_patches=patches))
    assert read_state(tmp_path).failed_patches == patches
    content = (tmp_path / STATE).read_bytes()
    assert len(content) > 2**15 or content.count(b",") > 2**12, "it is refused far too early"


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8), st.text(max_size=30))))
def test_each_takes_as_much_as_is_counted(patches):
    listed = FailedList(FailedPatch(*patch) for patch in patches)
    counted = failed.LARGEST_JSON - failed._BESIDES - listed._room
    content = state._ADAPTER.dump_json(State("failed", failed_patches=listed.patches), indent=1)
    empty = state._ADAPTER.dump_json(State("failed"), indent=1)
    assert len(content) - len(empty) <= counted + 8  # the brackets around them
    share = failed.LARGEST_JSON // failed.MOST_COMMAS
    assert (content.count(b",") - empty.count(b",")) * share <= counted


@pytest.mark.usefixtures("small")
def test_a_run_stops_where_more_fail_and_keeps_what_is_listed(tmp_path):
    writer = MapWriter.create(tmp_path / "map", layout_of((9, 7)), INFO, workspace())
    with pytest.raises(StoreError, match=r"run parts of it \(region\)"):
        writer.fail(FailedPatch(row, 0, "x") for row in range(10**4))
    writer.fail([FailedPatch(0, 0, "x")])
    writer.close("failed")
    assert len(read_state(tmp_path / "map").failed_patches) == 1
