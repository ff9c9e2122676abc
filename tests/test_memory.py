"""Working arrays in memory and on disk; what the machine and its control groups have left."""

from __future__ import annotations

import errno
import gc
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_wsiseg import memory
from napari_wsiseg.errors import StoreError
from napari_wsiseg.memory import Workspace


def test_arrays_go_to_disk_once_the_budget_is_taken(tmp_path: Path) -> None:
    with Workspace(1000, tmp_path) as workspace:
        first = workspace.take((100, 8), np.uint8)
        assert not workspace.spilled
        second = workspace.take((101, 2), np.uint8)
        assert workspace.spilled
        assert workspace.in_memory == 800
        second[...] = 7
        workspace.release(first)
        third = workspace.take((1000,), np.uint8)
        assert workspace.in_memory == 1000
        np.testing.assert_array_equal(second, 7)
        assert not third.any()


def test_what_the_system_refuses_goes_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget is a plan: a limit that it does not know may be lower."""

    def refused(*_: object) -> None:
        raise MemoryError

    with Workspace(10**6, tmp_path) as workspace:
        monkeypatch.setattr(np, "zeros", refused)
        array = workspace.take((100,), np.uint8)
        monkeypatch.undo()
        assert workspace.spilled
        assert not workspace.room(1)
        np.testing.assert_array_equal(array, np.zeros(100))


def test_the_reserve_is_not_handed_out(tmp_path: Path) -> None:
    with Workspace(1000, tmp_path, reserve=600) as workspace:
        workspace.take((401,), np.uint8)
        assert workspace.spilled


def test_working_files_have_no_name(tmp_path: Path) -> None:
    """A killed run must not leave them behind."""
    with Workspace(0, tmp_path) as workspace:
        array = workspace.take((4096,), np.uint8)
        array[:] = 1
        names = list(tmp_path.iterdir())
    if os.name == "posix":
        assert names == []


def test_an_array_settles_on_disk_under_pressure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_BETWEEN_LOOKS", 0)
    with Workspace(10**9, tmp_path) as workspace:
        array = workspace.take((3, 4), np.float32)
        array[...] = np.arange(12).reshape(3, 4)
        workspace.watch()
        assert workspace.settle(array) is array
        monkeypatch.setattr(memory, "machine_memory", lambda: memory.MachineMemory(10**12, 10**8))
        workspace.watch()
        moved = workspace.settle(array)
        assert moved is not array
        assert workspace.in_memory == 0
        np.testing.assert_array_equal(moved, np.arange(12).reshape(3, 4))
        assert workspace.settle(moved) is moved


def test_the_machine_is_not_asked_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(memory, "own_memory", lambda: asked.append(1) or 0)
    with Workspace(10**9, tmp_path) as workspace:
        asked.clear()
        for _ in range(50):
            workspace.watch()
    assert len(asked) < 50


def test_our_own_growth_above_the_budget_is_pressure(tmp_path: Path) -> None:
    with Workspace(50 * 10**6, tmp_path) as workspace:
        ballast = np.ones(100 * 10**6, np.uint8)
        workspace.watch()
        assert not workspace.room(1)
        del ballast


def test_freed_pages_serve_the_next_batch(tmp_path: Path) -> None:
    """To give them back and ask for them anew took a third of a quick model's run."""
    if memory._heap()._trim is None:
        pytest.skip("The C library is not glibc.")
    resource = pytest.importorskip("resource")

    def batch() -> list[NDArray[np.uint8]]:
        return [np.ones(size, np.uint8) for size in (3 * 2**20, 10 * 2**20, 10 * 2**20)]

    with Workspace(10**9, tmp_path):
        held = sum(array.nbytes for array in batch())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            batch()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < held // mmap.PAGESIZE


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with Workspace(0, tmp_path) as workspace, pytest.raises(StoreError, match="No room for 5 MB"):
        workspace.take((5_000_000,), np.uint8)
    gc.collect()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with (
        Workspace(0, tmp_path / "gone") as workspace,
        pytest.raises(StoreError, match=r"No room for .* in .*gone: No such file"),
    ):
        workspace.take((5_000,), np.uint8)
    assert not workspace.spilled


def test_an_array_may_be_given_back_twice(tmp_path: Path) -> None:
    """An interrupt between the two halves of a move must not hide itself behind a KeyError."""
    with Workspace(0, tmp_path) as workspace:
        array = workspace.take((10,), np.uint8)
        workspace.release(array)
        workspace.release(array)


def test_threads_do_not_pass_the_budget_together(tmp_path: Path) -> None:
    with Workspace(1000, tmp_path) as workspace, ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: workspace.take((100,), np.uint8), range(200)))
        assert workspace.in_memory == 1000
        assert len(kept) == 200


def test_control_groups_of_both_versions_count(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory,hugetlb:/a\n3:cpu:/b\n0::/c/d\n")
    v1, v2 = tmp_path / "memory" / "a", tmp_path / "c" / "d"
    for folder in (v1, v2):
        folder.mkdir(parents=True)
    (v1 / "memory.limit_in_bytes").write_text("9000\n")
    (v1 / "memory.usage_in_bytes").write_text("5000\n")
    (v1 / "memory.stat").write_text("cache 1\ntotal_inactive_file 1000\n")
    (v2 / "memory.max").write_text("max\n")
    (v2 / "memory.current").write_text("1\n")
    (v2 / "memory.stat").write_text("inactive_file 0\n")
    (v2.parent / "memory.max").write_text("7000\n")
    (v2.parent / "memory.high").write_text("6800\n")
    (v2.parent / "memory.current").write_text("6500\n")
    (v2.parent / "memory.stat").write_text("inactive_file 500\n")
    limits = list(memory._cgroup_limits(membership, tmp_path))
    assert limits == [(9000, 4000), (7000, 6000), (6800, 6000)]


def test_without_control_groups_there_are_no_limits(tmp_path: Path) -> None:
    assert list(memory._cgroup_limits(tmp_path / "none", tmp_path)) == []
