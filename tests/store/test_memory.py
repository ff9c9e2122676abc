"""Maps in memory, moved to a temporary folder, and saved."""

from __future__ import annotations

import errno
import gc
import io
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from napari_wsiseg.errors import StoreError
from napari_wsiseg.store import MapWriter, ProbabilityMap, TissueImage, lock
from napari_wsiseg.store.homes import Folder
from napari_wsiseg.store.lock import LOCKS
from napari_wsiseg.store.movable import MovableStore
from napari_wsiseg.store.owner import Owner
from store.helpers import INFO, Truth, assert_holds, layout_of, run, workspace

LAYOUT = layout_of((21, 30))
TRUTH = Truth.random(LAYOUT, 0)
TISSUE = TissueImage(np.ones((3, 3), bool), {"method": "test"}, "abc")


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
    return folder


def half_done() -> MapWriter:
    writer = MapWriter.create(None, LAYOUT, INFO, workspace(), tissue=TISSUE)
    half = writer.unfinished
    half[3:] = False
    run(writer, TRUTH, half)
    return writer


def test_arrays_obtained_before_a_move_stay_valid(temporary):
    writer = half_done()
    pm = writer.map
    levels, coverage, probabilities = pm.levels, pm.coverage, pm.probabilities(1)
    before = [level.compute() for level in levels]
    pm.move_to_temporary()
    assert len(list(temporary.iterdir())) == 1
    assert pm.provenance["spilled"]
    for level, values in zip(levels, before, strict=True):
        np.testing.assert_array_equal(level.compute(), values)
    run(writer, TRUTH, writer.unfinished)
    writer.close()
    expected = TRUTH.levels(LAYOUT)
    for level, cover, (values, covered) in zip(levels, coverage, expected, strict=True):
        np.testing.assert_array_equal(level.compute(), values)
        np.testing.assert_array_equal(cover.compute(), covered)
    np.testing.assert_array_equal(
        probabilities.compute(), expected[1][0].astype(np.float32) / np.float32(255)
    )
    pm.close()
    pm.close()
    assert list(temporary.iterdir()) == []
    with pytest.raises(StoreError, match="closed"):
        levels[0].compute()


def test_a_map_moves_when_memory_is_short(temporary):
    space = workspace(budget=9_000)
    writer = MapWriter.create(None, LAYOUT, INFO, space)
    levels = writer.map.levels
    run(writer, TRUTH, writer.unfinished)
    assert len(list(temporary.iterdir())) == 1
    writer.close()
    assert writer.map.provenance["spilled"]
    assert writer.map.path is None
    assert space.reserve == 0
    assert_holds(writer.map, TRUTH)
    np.testing.assert_array_equal(levels[0].compute(), writer.map.levels[0].compute())
    writer.map.close()


def test_the_folder_lives_as_long_as_an_array_does(temporary):
    writer = half_done()
    writer.map.move_to_temporary()
    level = writer.map.levels[0]
    expected = level.compute()
    writer.close("cancelled")
    del writer
    gc.collect()
    np.testing.assert_array_equal(level.compute(), expected)
    del level
    gc.collect()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("moved", [False, True])
def test_a_saved_map_is_an_ordinary_result(tmp_path, temporary, moved):
    writer = half_done()
    writer.warn("Only half.")
    if moved:
        writer.map.move_to_temporary()
    writer.map.save(tmp_path / "map")
    saved = ProbabilityMap.open(tmp_path / "map")
    assert saved.status == "cancelled"
    assert saved.provenance["spilled"] == moved
    np.testing.assert_array_equal(saved.finished, writer.map.finished)
    assert_holds(saved, TRUTH.within(LAYOUT, saved.finished))
    assert saved.tissue is not None
    assert saved.tissue[0].compute().all()
    with pytest.raises(StoreError, match="exists"):
        writer.map.save(tmp_path / "map")
    writer.close("cancelled")
    writer.map.close()
    resumed = MapWriter.resume(tmp_path / "map", INFO.identity, workspace())
    run(resumed, TRUTH, resumed.unfinished)
    resumed.close()
    assert_holds(ProbabilityMap.open(tmp_path / "map"), TRUTH)
    ProbabilityMap.open(tmp_path / "map").save(tmp_path / "copy")
    assert ProbabilityMap.open(tmp_path / "copy").status == "complete"
    assert_holds(ProbabilityMap.open(tmp_path / "copy"), TRUTH)


def test_a_map_that_is_written_on_disk_is_not_saved(tmp_path):
    writer = MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())
    with pytest.raises(StoreError, match="being written"):
        writer.map.save(tmp_path / "copy")
    writer.close("cancelled")
    assert not (tmp_path / "copy").exists()


def test_no_run_goes_on_with_a_map_while_it_is_saved(tmp_path, monkeypatch):
    MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace()).close("cancelled")
    copy, tried = Folder.copy_to, []

    def meanwhile(home: Folder, folder: Path) -> None:
        with pytest.raises(StoreError, match=f"written by process {os.getpid()}"):
            MapWriter.resume(tmp_path / "map", INFO.identity, workspace())
        tried.append(1)
        copy(home, folder)

    monkeypatch.setattr(Folder, "copy_to", meanwhile)
    ProbabilityMap.open(tmp_path / "map").save(tmp_path / "copy")
    assert tried
    for name in ("map", "copy"):
        MapWriter.resume(tmp_path / name, INFO.identity, workspace()).close("cancelled")


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_map_on_a_drive_that_takes_no_lock_is_saved(tmp_path, monkeypatch, code):
    """What a system says beforehand is no help: a full drive may be written, and on Windows all."""
    MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace()).close("cancelled")

    def refuse(path: Path, mode: str) -> io.FileIO:
        if path.is_relative_to(tmp_path / "map"):
            raise OSError(code, os.strerror(code))
        return io.FileIO(path, mode)

    monkeypatch.setattr(lock, "FileIO", refuse)
    ProbabilityMap.open(tmp_path / "map").save(tmp_path / "copy")
    assert ProbabilityMap.open(tmp_path / "copy").status == "cancelled"
    assert not (tmp_path / "map" / LOCKS).exists()


def test_what_a_killed_process_moved_to_disk_goes_with_the_next(temporary):
    """And nothing of one that lives."""
    code = (
        "import sys; from pathlib import Path;"
        "from napari_wsiseg.store.movable import MovableStore;"
        "store = MovableStore(); store.put('a', b'1', 0); store.move(Path(sys.argv[1]));"
        "print(store.folder, flush=True); sys.stdin.read()"
    )
    source = Path(sys.modules["napari_wsiseg"].__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(temporary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(source)},
        text=True,
    ) as other:
        folder = Path(other.stdout.readline().strip())
        first, second = MovableStore(), MovableStore()
        first.move()
        assert (folder / "a").read_bytes() == b"1"
        other.kill()
        other.wait()
        assert (folder / "a").exists()
        second.move()
    assert sorted(temporary.iterdir()) == sorted(store.folder.parent for store in (first, second))
    first.close()
    second.close()
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no rights or forks there")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_moved_map_is_for_nobody_else_and_not_for_a_forked_child_to_remove(temporary):
    store = MovableStore()
    store.put("a", b"1", 0)
    store.move()
    (folder,) = temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if (child := os.fork()) == 0:
        store.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert (store.folder / "a").read_bytes() == b"1"
    store.close()
    assert list(temporary.iterdir()) == []


def test_a_move_that_is_broken_off_leaves_nothing(temporary, monkeypatch):
    writer = half_done()
    before = writer.map.levels[0].compute()

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MovableStore, "copy_to", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.map.move_to_temporary()
    assert list(temporary.iterdir()) == []
    np.testing.assert_array_equal(writer.map.levels[0].compute(), before)
    writer.close("cancelled")
    writer.map.close()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may give away"
)
def test_what_another_user_put_there_stays(temporary):
    """As all may in /tmp: it could be made a link to something else at any moment."""
    temporary.chmod(0o1777)
    foreign = temporary / f".napari-wsiseg.{'d' * 32}.partial"
    (foreign / LOCKS).mkdir(parents=True)
    (foreign / LOCKS / Owner(os.getpid(), 1.0, Owner.this().host).name).touch()
    os.chown(foreign, 12345, 12345)
    store = MovableStore()
    store.move()
    store.close()
    assert list(temporary.iterdir()) == [foreign]
    os.chown(foreign, 0, 0)
    MovableStore().move()
    assert list(temporary.iterdir()) == []


def test_status_follows_the_writer():
    writer = half_done()
    assert writer.map.status == "running"
    assert "in memory" in repr(writer.map)
    assert "running" in repr(writer.map)
    writer.close("cancelled")
    assert writer.map.status == "cancelled"
    writer.map.close()
