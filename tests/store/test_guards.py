"""What must not be touched is not touched, and what is wrong is said in one sentence."""

from __future__ import annotations

import copy
import errno
import io
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsiseg.errors import StoreError
from napari_wsiseg.store import MapWriter, ProbabilityMap, RunInfo, create, drafts, lock
from napari_wsiseg.store import writer as writer_module
from napari_wsiseg.store.lock import LOCKS, WriterLock, is_written
from napari_wsiseg.store.owner import Owner
from store.helpers import INFO, Truth, assert_holds, layout_of, run, workspace

LAYOUT = layout_of((9, 7))
TRUTH = Truth.random(LAYOUT, 0)


def written(path: Path, status: str = "complete") -> Path:
    writer = MapWriter.create(path, LAYOUT, INFO, workspace())
    run(writer, TRUTH, writer.unfinished)
    writer.close(status)
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("store") / "map")


@pytest.fixture
def own_copy(result, tmp_path) -> Path:
    return Path(shutil.copytree(result, tmp_path / "map"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def owner_of(pid: int, started: float, host: str = platform.node()) -> Owner:
    return Owner(pid, started, host)


def put_lock(folder: Path, owner: Owner) -> None:
    (folder / LOCKS).mkdir(exist_ok=True)
    (folder / LOCKS / owner.name).touch()


# --- one writer


def test_a_second_writer_is_refused_while_the_first_lives(tmp_path):
    writer = MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())
    match = f"process {os.getpid()} on {platform.node()}"
    with pytest.raises(StoreError, match=match):
        MapWriter.resume(tmp_path / "map", INFO.identity, workspace())
    with pytest.raises(StoreError, match=match):
        MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace(), overwrite=True)
    run(writer, TRUTH, writer.unfinished)
    writer.close()
    assert_holds(writer.map, TRUTH)
    MapWriter.resume(tmp_path / "map", INFO.identity, workspace()).close()
    assert not (tmp_path / "map" / LOCKS).exists()


def test_a_second_writer_is_refused_where_a_result_was_replaced(own_copy):
    writer = MapWriter.create(own_copy, LAYOUT, INFO, workspace(), overwrite=True)
    assert writer.map.status == "running"
    with pytest.raises(StoreError, match=f"process {os.getpid()} on {platform.node()}"):
        MapWriter.resume(own_copy, INFO.identity, workspace())
    writer.close("cancelled")
    assert not is_written(own_copy)
    assert not (own_copy / LOCKS).exists()


@contextmanager
def other_writer(result: Path) -> Iterator[subprocess.Popen]:
    """A process that holds the lock until it is killed."""
    code = (
        "import sys; from pathlib import Path; from napari_wsiseg.store.lock import WriterLock;"
        "WriterLock.acquire(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    )
    source = Path(sys.modules["napari_wsiseg"].__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(result)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(source)},
    ) as other:
        assert other.stdout.readline().strip() == b"locked"
        yield other


@pytest.mark.parametrize(
    "is_seen",
    [
        True,
        pytest.param(
            False,
            marks=pytest.mark.skipif(
                sys.platform == "win32", reason="there no folder with an open file is renamed"
            ),
        ),
    ],
)
def test_another_process_is_named_and_taken_over_when_it_died(own_copy, monkeypatch, is_seen):
    """Also where it is not to be seen: in another container of the same host name."""
    with other_writer(own_copy) as other:
        if not is_seen:
            monkeypatch.setattr(Owner, "lives", False)
        assert is_written(own_copy)
        with pytest.raises(StoreError, match=f"process {other.pid} "):
            MapWriter.resume(own_copy, INFO.identity, workspace())
        other.kill()
        other.wait()
        assert not is_written(own_copy)
        MapWriter.resume(own_copy, INFO.identity, workspace()).close()
    assert not (own_copy / LOCKS).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no file is held there")
def test_a_namesake_in_another_container_is_refused_and_keeps_its_lock(own_copy):
    """Of the same number, which began at the same moment on a host of the same name."""
    theirs = own_copy / LOCKS / Owner.this().name
    theirs.parent.mkdir()
    with theirs.open("x") as file:
        lock.fcntl.flock(file, lock.fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=f"process {os.getpid()} "):
            MapWriter.resume(own_copy, INFO.identity, workspace())
        assert theirs.exists()
    MapWriter.resume(own_copy, INFO.identity, workspace()).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")
def test_a_forked_child_does_not_keep_its_parents_lock(own_copy):
    """As where a program that loads its data in children is killed."""
    code = (
        "import os, sys; from pathlib import Path; from napari_wsiseg.store.lock import WriterLock;"
        "WriterLock.acquire(Path(sys.argv[1])); child = os.fork();"
        "child and os._exit(9);"
        # Past what it does after a fork.
        "print(os.getpid(), flush=True); sys.stdin.read()"
    )
    source = Path(sys.modules["napari_wsiseg"].__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(own_copy)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(source)},
    ) as parent:
        assert psutil.pid_exists(int(parent.stdout.readline()))
        parent.wait()
        assert not is_written(own_copy)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_in_place_of_our_lock_is_not_followed(own_copy, tmp_path, is_there):
    foreign, link = tmp_path / "foreign", own_copy / LOCKS / Owner.this().name
    if is_there:
        foreign.write_text("thesis")
        os.utime(foreign, (1e9, 1e9))
    link.parent.mkdir()
    link.symlink_to(foreign)
    with pytest.raises(StoreError, match=f"{link.name} is a link"):
        MapWriter.resume(own_copy, INFO.identity, workspace())
    assert foreign.exists() == is_there
    assert not is_there or foreign.stat().st_mtime == 1e9
    link.unlink()
    MapWriter.resume(own_copy, INFO.identity, workspace()).close()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_nor_is_one_that_is_put_there_just_now(own_copy, tmp_path, monkeypatch):
    link = own_copy / LOCKS / Owner.this().name
    link.parent.mkdir()
    link.symlink_to(tmp_path / "foreign")
    monkeypatch.setattr(Path, "is_symlink", lambda _: False)
    MapWriter.resume(own_copy, INFO.identity, workspace()).close()
    assert not (tmp_path / "foreign").exists()


@contextmanager
def looked_at(waits: int) -> Iterator[list[Path]]:
    """Somebody looks at each lock's file as soon as it is there, and stops after so many waits."""
    seen, looks = [], []

    def made(path: Path, mode: str) -> io.FileIO:
        file, look = io.FileIO(path, mode), path.open()
        lock.fcntl.flock(look, lock.fcntl.LOCK_SH)
        looks.extend([look.close, *[int] * (waits - 1)])
        seen.append(path)
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "FileIO", made)
        patch.setattr(lock.time, "sleep", lambda _: looks.pop()())
        yield seen
        for end in looks:
            end()


@pytest.mark.skipif(sys.platform == "win32", reason="no file is held there")
def test_a_lock_of_ours_that_somebody_looks_at_is_waited_for(own_copy):
    with looked_at(waits=3) as seen:
        MapWriter.resume(own_copy, INFO.identity, workspace()).close()
    assert seen == [own_copy / LOCKS / Owner.this().name]


@pytest.mark.skipif(sys.platform == "win32", reason="no file is held there")
@pytest.mark.parametrize("is_new", [True, False])
def test_nobody_writes_without_the_systems_lock(own_copy, tmp_path, is_new):
    """Where who looks is stopped meanwhile."""
    before, open_files = contents(tmp_path), psutil.Process().num_fds()
    begin = (
        partial(MapWriter.create, tmp_path / "new", LAYOUT, INFO, workspace())
        if is_new
        else partial(MapWriter.resume, own_copy, INFO.identity, workspace())
    )
    refused = pytest.raises(StoreError, match=r"keeps hold of .*; run again")
    with looked_at(waits=lock.ATTEMPTS + 1), refused:
        begin()
    assert contents(tmp_path) == before
    assert list(tmp_path.iterdir()) == [own_copy]
    assert not (own_copy / LOCKS).exists()
    assert psutil.Process().num_fds() == open_files
    MapWriter.resume(own_copy, INFO.identity, workspace()).close()


@pytest.mark.skipif(sys.platform == "win32", reason="no file is held there")
def test_a_lock_that_was_swept_before_it_was_locked_is_made_again(own_copy, monkeypatch):
    """By somebody in another container of the same host name, who cannot see our process."""
    keep, swept = lock._keep_locked, []

    def late(file: io.FileIO, path: Path) -> None:
        if not swept:
            swept.append(path)
            path.unlink()
            path.parent.rmdir()
        keep(file, path)

    monkeypatch.setattr(lock, "_keep_locked", late)
    open_files = psutil.Process().num_fds()
    held = WriterLock.acquire(own_copy)
    assert held.is_there
    assert psutil.Process().num_fds() == open_files + 1
    held.release()
    assert psutil.Process().num_fds() == open_files


@pytest.mark.skipif(sys.platform == "win32", reason="no file is held there")
def test_a_lock_leaves_no_folder_on_nfs(own_copy, monkeypatch):
    """Where what is removed while it is open stays in its folder until it is closed."""
    rmdir = Path.rmdir

    def refuse(self: Path) -> None:
        if any(not file.closed for file in made):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rmdir(self)

    monkeypatch.setattr(Path, "rmdir", refuse)
    held = WriterLock.acquire(own_copy)
    made = list(lock._held.values())
    held.release()
    assert not (own_copy / LOCKS).exists()


def test_locks_are_told_apart_where_empty_files_share_a_number(tmp_path, monkeypatch):
    """As macOS has it on exFAT."""
    monkeypatch.setattr(lock, "_number_of", lambda found: (0, found.st_ino if found.st_size else 1))
    first, second = (tmp_path / name for name in ("a", "b"))
    writers = [MapWriter.create(path, LAYOUT, INFO, workspace()) for path in (first, second)]
    writers[0].close("cancelled")
    with pytest.raises(StoreError, match=f"written by process {os.getpid()} "):
        MapWriter.resume(second, INFO.identity, workspace())
    writers[1].close("cancelled")
    for path in (first, second):
        assert not (path / LOCKS).exists()


@pytest.mark.parametrize("name", ["_keep_locked", "_sweep_others"])
def test_an_interrupt_while_it_is_taken_leaves_no_lock(own_copy, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(lock, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            WriterLock.acquire(own_copy)
    assert not lock._held
    assert not (own_copy / LOCKS).exists()


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_who_see_each_other_one_waits_for_the_other(own_copy, monkeypatch, is_first):
    """Who waits, their names say: so one withdraws, and not both."""
    other = owner_of(10**10 - 1 if is_first else 0, 1.0)
    put_lock(own_copy, other)
    monkeypatch.setattr(Owner, "lives", True)
    monkeypatch.setattr(lock.time, "sleep", lambda _: (own_copy / LOCKS / other.name).unlink())
    if is_first:
        WriterLock.acquire(own_copy).release()
        assert not (own_copy / LOCKS).exists()
    else:
        with pytest.raises(StoreError, match="by process 0 "):
            WriterLock.acquire(own_copy)
        assert [path.name for path in (own_copy / LOCKS).iterdir()] == [other.name]


def test_a_reused_process_id_is_no_owner(own_copy):
    put_lock(own_copy, owner_of(os.getpid(), psutil.Process().create_time() - 1000))
    MapWriter.resume(own_copy, INFO.identity, workspace()).close()


def test_a_lock_of_another_machine_counts(own_copy):
    put_lock(own_copy, owner_of(1, 5.0, "far-away"))
    with pytest.raises(StoreError, match=r"process 1 on far-away; .*remove .*1_5.00_far-away"):
        MapWriter.resume(own_copy, INFO.identity, workspace())
    assert [p.name for p in (own_copy / LOCKS).iterdir()] == ["1_5.00_far-away"]


def test_a_result_whose_writer_died_reads_as_cancelled(tmp_path):
    writer = MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())
    assert ProbabilityMap.open(tmp_path / "map").status == "running"
    shutil.copytree(tmp_path / "map", tmp_path / "dead", ignore=shutil.ignore_patterns(LOCKS))
    assert ProbabilityMap.open(tmp_path / "dead").status == "cancelled"
    writer.close("failed")
    assert ProbabilityMap.open(tmp_path / "map").status == "failed"


# --- nothing foreign is touched


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "empty", "file", "zarr"])
def test_what_is_not_ours_is_left_as_it_is(tmp_path, kind, overwrite):
    target = tmp_path / "map"
    if kind == "file":
        target.write_text("thesis")
    elif kind == "zarr":
        zarr.create_group(target, attributes={"ome": {"version": "0.5"}})
    else:
        target.mkdir()
        if kind == "folder":
            (target / "thesis.txt").write_text("thesis")
    before = contents(tmp_path)
    with pytest.raises(StoreError, match="is left as it is"):
        MapWriter.create(target, LAYOUT, INFO, workspace(), overwrite=overwrite)
    assert contents(tmp_path) == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_result_is_replaced_only_when_asked(own_copy):
    before = contents(own_copy)
    with pytest.raises(StoreError, match="on_exists="):
        MapWriter.create(own_copy, LAYOUT, INFO, workspace())
    assert contents(own_copy) == before
    other = RunInfo({"model": "other"})
    writer = MapWriter.create(own_copy, LAYOUT, other, workspace(), overwrite=True)
    assert writer.unfinished.all()
    writer.close("cancelled")
    assert ProbabilityMap.open(own_copy).info.identity == {"model": "other"}
    assert list(own_copy.parent.iterdir()) == [own_copy]


@pytest.mark.parametrize(("module", "name"), [(os, "fsync"), (Path, "write_bytes")])
def test_nothing_is_left_when_creation_fails(tmp_path, monkeypatch, module, name):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, name, full)
    with pytest.raises(StoreError, match="No space left"):
        MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(create, "LARGEST_JSON", 1000)
    with pytest.raises(StoreError, match="name simpler regions"):
        MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())
    assert list(tmp_path.iterdir()) == []


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "name", "is_there"),
    [
        (create, "_fill", False),
        (create, "write_state", False),
        (drafts, "sync_tree", False),
        # By then it has its name.
        (drafts, "sync_folder", True),
        (create, "WritableFolder", True),
        (writer_module, "MapWriter.__init__", True),
    ],
)
def test_an_interrupt_leaves_no_lock(tmp_path, monkeypatch, module, name, is_there):
    """The same process may go on: a notebook, napari."""
    with monkeypatch.context() as patch:
        patch.setattr(f"{module.__name__}.{name}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            MapWriter.create(tmp_path / "map", LAYOUT, INFO, workspace())
    assert not lock._held
    assert list(tmp_path.iterdir()) == [tmp_path / "map"] * is_there
    if is_there:
        assert not (tmp_path / "map" / LOCKS).exists()
        MapWriter.resume(tmp_path / "map", INFO.identity, workspace()).close()


def test_the_old_result_stands_when_its_replacement_fails(own_copy, monkeypatch):
    before = contents(own_copy)
    rename = Path.rename

    def refuse(self, target):
        if self.name.endswith(".partial") and target == own_copy and (self / LOCKS).exists():
            monkeypatch.setattr(Path, "rename", rename)
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match="Input/output error"):
        MapWriter.create(own_copy, LAYOUT, INFO, workspace(), overwrite=True)
    assert contents(own_copy) == before
    assert list(own_copy.parent.iterdir()) == [own_copy]


@pytest.mark.skipif(sys.platform == "win32", reason="no file is held there")
def test_results_are_made_and_replaced_on_a_windows_servers_drive(tmp_path, monkeypatch):
    """Which renames no folder in which a file is open."""
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if any(file and self / LOCKS in Path(file.name).parents for file in lock._held.values()):
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    for model in "ab":
        info = RunInfo({"model": model})
        writer = MapWriter.create(tmp_path / "map", LAYOUT, info, workspace(), overwrite=True)
        with pytest.raises(StoreError, match=f"written by process {os.getpid()} "):
            MapWriter.resume(tmp_path / "map", info.identity, workspace())
        writer.close("cancelled")
        assert ProbabilityMap.open(tmp_path / "map").info.identity == {"model": model}
        assert list(tmp_path.iterdir()) == [tmp_path / "map"]
        assert not (tmp_path / "map" / LOCKS).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_what_a_link_leads_to_is_replaced_where_it_lies(own_copy, tmp_path):
    """As where results lie on a larger drive; the link stays one."""
    link = tmp_path / "links" / "map"
    link.parent.mkdir()
    link.symlink_to(own_copy)
    other = RunInfo({"model": "other"})
    MapWriter.create(link, LAYOUT, other, workspace(), overwrite=True).close("cancelled")
    assert link.is_symlink()
    for path in (link, own_copy):
        assert ProbabilityMap.open(path).info.identity == {"model": "other"}
    for folder in (link.parent, own_copy.parent):
        assert [path.name for path in folder.iterdir() if path != link.parent] == ["map"]
    MapWriter.resume(link, other.identity, workspace()).close()


@pytest.mark.parametrize(
    "kind",
    [
        "result",
        "empty",
        "file",
        pytest.param(
            "link",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="links need rights there"),
        ),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_made_meanwhile_is_left_as_it_is(tmp_path, kind, overwrite):
    """By another run that began at the same moment, or by anybody."""
    target = tmp_path / "map"
    with pytest.raises(StoreError, match="was made by another process meanwhile"):  # noqa: PT012, SIM117 - the end of the block raises
        with drafts.draft_of(target, overwrite=overwrite) as draft:
            (draft.folder / "zarr.json").write_text("{}")
            if kind == "result":
                first = MapWriter.create(target, LAYOUT, INFO, workspace())
            elif kind == "empty":
                target.mkdir()
            elif kind == "file":
                target.write_text("thesis")
            else:
                target.symlink_to(tmp_path / "nowhere")
            before = contents(tmp_path)
    assert list(tmp_path.iterdir()) == [target]
    assert {name: data for name, data in before.items() if ".partial" not in name} == contents(
        tmp_path
    )
    if kind == "result":
        run(first, TRUTH, first.unfinished)
        first.close()
        assert_holds(ProbabilityMap.open(target), TRUTH)


def test_a_result_that_came_in_place_of_the_old_one_stays(own_copy):
    """Where somebody removed the one whose lock we have, and another run began."""
    other = RunInfo({"model": "other"})
    with pytest.raises(StoreError, match="meanwhile"):  # noqa: PT012, SIM117 - the end of the block raises
        with drafts.draft_of(own_copy, overwrite=True) as draft:
            (draft.folder / "zarr.json").write_text("{}")
            own_copy.rename(own_copy.with_name("gone"))
            MapWriter.create(own_copy, LAYOUT, other, workspace()).close()
    assert ProbabilityMap.open(own_copy).info.identity == {"model": "other"}
    assert sorted(path.name for path in own_copy.parent.iterdir()) == ["gone", "map"]


def test_a_result_that_was_replaced_before_we_had_its_lock_is_not_continued(own_copy, monkeypatch):
    other, acquire = RunInfo({"model": "other"}), WriterLock.acquire

    def late(folder: Path) -> WriterLock:
        monkeypatch.setattr(WriterLock, "acquire", acquire)
        MapWriter.create(own_copy, LAYOUT, other, workspace(), overwrite=True).close("cancelled")
        return acquire(folder)

    monkeypatch.setattr(WriterLock, "acquire", late)
    with pytest.raises(StoreError, match="differs in model"):
        MapWriter.resume(own_copy, INFO.identity, workspace())
    assert not (own_copy / LOCKS).exists()


def test_nor_one_that_is_replaced_while_we_look_for_others(own_copy, monkeypatch):
    """Their lock is for a moment nowhere, as is their result."""
    sweep = lock._sweep_others

    def replaced(folder: Path, owner: Owner) -> None:
        monkeypatch.setattr(lock, "_sweep_others", sweep)
        folder.rename(folder.with_name("aside"))
        sweep(folder, owner)
        written(folder)

    monkeypatch.setattr(lock, "_sweep_others", replaced)
    with pytest.raises(StoreError, match="just replaced by another process"):
        WriterLock.acquire(own_copy)
    assert not lock._held


def test_drafts_of_dead_makers_are_swept_and_others_stay(tmp_path):
    dead, lost, alive, foreign = folders = [
        tmp_path / f".map.{digit * 32}.partial" for digit in "abcd"
    ]
    for folder in folders:
        folder.mkdir()
    put_lock(dead, owner_of(os.getpid(), 1.0))
    # As one that an interrupt left, in this very process.
    put_lock(lost, Owner.this())
    (foreign / "thesis.txt").touch()
    held = WriterLock.acquire(alive)
    written(tmp_path / "map")
    assert set(tmp_path.iterdir()) == {tmp_path / "map", alive, foreign}
    held.release()


@pytest.mark.parametrize("made", ["", LOCKS])
def test_a_draft_whose_maker_died_before_it_had_a_lock_is_swept(tmp_path, made):
    (tmp_path / f".map.{'d' * 32}.partial" / made).mkdir(parents=True)
    written(tmp_path / "map")
    assert list(tmp_path.iterdir()) == [tmp_path / "map"]


@pytest.mark.parametrize("made", ["", LOCKS])
def test_a_draft_that_is_swept_before_it_has_a_lock_is_made_again(tmp_path, monkeypatch, made):
    """By another who begins just then, and takes its maker for dead."""
    acquire, swept = WriterLock.acquire, []

    def late(folder: Path) -> WriterLock:
        if not swept:
            swept.append(folder)
            (folder / made).mkdir(exist_ok=True)
            drafts._sweep(tmp_path / "map")
        return acquire(folder)

    monkeypatch.setattr(WriterLock, "acquire", late)
    assert ProbabilityMap.open(written(tmp_path / "map")).status == "complete"
    assert list(tmp_path.iterdir()) == [tmp_path / "map"]


def test_who_dies_while_sweeping_leaves_a_draft_that_is_swept(tmp_path, monkeypatch):
    draft = tmp_path / f".map.{'d' * 32}.partial"
    draft.mkdir()
    put_lock(draft, owner_of(os.getpid(), 1.0))
    for name in "az":
        (draft / name).mkdir()
    rmtree, removed = shutil.rmtree, []

    def dying(path: Path, **options: bool) -> None:
        rmtree(path, **options)
        removed.append(path)
        if len(removed) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dying)
        with pytest.raises(KeyboardInterrupt):
            written(tmp_path / "map")
    assert len(removed) == 2
    for file in filter(None, lock._held.values()):
        file.close()
    lock._held.clear()
    written(tmp_path / "map")
    assert list(tmp_path.iterdir()) == [tmp_path / "map"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_with_the_name_of_a_draft_is_left(tmp_path):
    foreign, link = tmp_path / "foreign", tmp_path / f".map.{'d' * 32}.partial"
    foreign.mkdir()
    (foreign / "thesis.txt").touch()
    put_lock(foreign, owner_of(os.getpid(), 1.0))
    link.symlink_to(foreign)
    before = contents(foreign)
    written(tmp_path / "map")
    assert contents(foreign) == before
    assert link.is_symlink()


def test_a_draft_that_we_may_not_look_into_is_left(tmp_path, monkeypatch):
    draft = tmp_path / f".map.{'d' * 32}.partial"
    draft.mkdir()
    put_lock(draft, owner_of(os.getpid(), 1.0))
    look = Path.iterdir

    def refuse(self):
        if self == draft / LOCKS:
            raise PermissionError(13, "Permission denied")
        return look(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    written(tmp_path / "map")
    assert (draft / LOCKS).exists()


# --- going on


def test_another_identity_is_refused_and_says_in_what(own_copy):
    before = contents(own_copy)
    with pytest.raises(StoreError, match=r"mpp \(0\.5 there, 0\.25 here\), weights \(None there"):
        MapWriter.resume(own_copy, {**INFO.identity, "mpp": 0.25, "weights": "w"}, workspace())
    assert contents(own_copy) == before


def test_identities_are_compared_as_json(own_copy):
    info = RunInfo({"shape": (1, 2), "none": None})
    writer = MapWriter.create(own_copy, LAYOUT, info, workspace(), overwrite=True)
    writer.close("cancelled")
    MapWriter.resume(own_copy, {"none": None, "shape": [1, 2]}, workspace()).close("cancelled")
    with pytest.raises(StoreError, match="none"):
        MapWriter.resume(own_copy, {"shape": [1, 2]}, workspace())


# --- damaged results


def edit(folder: Path, change) -> None:
    path = folder / "zarr.json"
    document = json.loads(path.read_text())
    change(document["attributes"]["napari_wsiseg"])
    path.write_text(json.dumps(document))


def test_a_newer_format_is_refused_by_name(own_copy):
    edit(own_copy, lambda ours: ours.update(format=2, grid="elsewhere"))
    with pytest.raises(StoreError, match="format 2, and this version reads up to 1"):
        ProbabilityMap.open(own_copy)


def test_what_is_no_result_is_said(tmp_path):
    with pytest.raises(StoreError, match="no result at"):
        ProbabilityMap.open(tmp_path / "nothing")
    with pytest.raises(StoreError, match="no result of napari-wsiseg"):
        ProbabilityMap.open(tmp_path)


@pytest.mark.parametrize(
    "file", ["zarr.json", "state.json", "0/zarr.json", "mask/zarr.json", "coverage/1/zarr.json"]
)
@pytest.mark.parametrize("damage", [None, b"", b"{", b"[]", b"null", b'{"zarr_format": 3}'])
def test_damaged_files_are_said(own_copy, file, damage):
    if damage is None:
        (own_copy / file).unlink()
    else:
        (own_copy / file).write_bytes(damage)
    with pytest.raises(StoreError) as caught:
        ProbabilityMap.open(own_copy)
    assert str(own_copy) in str(caught.value)


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for key, item in enumerate(value):
            yield from leaves(item, (*path, key))
    yield path


def opened(folder: Path) -> ProbabilityMap | None:
    """The map, or None where it was refused as it should be."""
    try:
        return ProbabilityMap.open(folder)
    except StoreError:
        return None


@settings(max_examples=100)
@given(st.data())
def test_any_value_in_the_metadata_opens_or_is_refused(result, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(result, folder / "map")
    document = json.loads((folder / "map" / "zarr.json").read_text())
    path = data.draw(st.sampled_from([p for p in leaves(document["attributes"]) if p]))
    node = document["attributes"]
    for key in path[:-1]:
        node = node[key]
    junk = st.one_of(
        st.none(), st.integers(-5, 5), st.just(2**40), st.just(1e300), st.text(max_size=3),
        st.lists(st.integers(0, 2), max_size=3), st.just({}),
    )  # fmt: skip
    node[path[-1]] = data.draw(junk)
    (folder / "map" / "zarr.json").write_text(json.dumps(document))
    pm = opened(folder / "map")
    if pm is not None:
        assert pm.finished.shape == pm.grid.chunk_shape
        assert len(repr(pm)) > 0
        _ = pm.patches, pm.levels, pm.coverage
    shutil.rmtree(folder)


def test_patches_outside_the_grid_are_refused(own_copy):
    state = json.loads((own_copy / "state.json").read_text())
    state["failed_patches"] = [{"row": 99, "column": 0, "reason": "x"}]
    (own_copy / "state.json").write_text(json.dumps(state))
    with pytest.raises(StoreError, match="outside its grid"):
        ProbabilityMap.open(own_copy)


def test_a_mask_beyond_measure_is_not_read(own_copy):
    path = own_copy / "mask" / "zarr.json"
    document = json.loads(path.read_text())
    document["shape"] = [2**40, 2**20]
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="mask"):
        ProbabilityMap.open(own_copy)


def test_opening_changes_nothing(own_copy):
    before = copy.deepcopy(contents(own_copy))
    with ProbabilityMap.open(own_copy) as pm:
        np.asarray(pm.levels[0])
        _ = pm.status, pm.finished, pm.patches
    assert contents(own_copy) == before


def test_a_refusal_names_the_parts_of_nested_values_and_no_hashes(tmp_path):
    there = {"model": {"name": "a", "weights": "f" * 64}, "slide": "0" * 64, "dtype": "uint8"}
    here = {"model": {"name": "b", "weights": "e" * 64}, "slide": "1" * 64, "dtype": "uint8"}
    target = tmp_path / "a.ome.zarr"
    MapWriter.create(target, LAYOUT, RunInfo(there), workspace()).close()
    with pytest.raises(StoreError) as refused:
        MapWriter.resume(target, here, workspace())
    assert "it differs in model name ('a' there, 'b' here), model weights, slide;" in str(
        refused.value
    )
