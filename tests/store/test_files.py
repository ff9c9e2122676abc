"""What lasts when, and names are given when they can be: on Windows not while somebody reads."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from napari_wsiseg.errors import StoreError
from napari_wsiseg.store import files
from napari_wsiseg.store.files import DurableFolder, write_durably
from napari_wsiseg.store.journal import JournalWriter


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is still refused because a viewer reads it, as Windows does."""
    refused: list[str] = []
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, _refusing(getattr(Path, name), refused))
    monkeypatch.setattr(files, "_READERS_HOLD", True)
    monkeypatch.setattr(files, "BETWEEN", 0)
    return refused


def _refusing(act, refused: list[str]):
    def refusing(self: Path, target: Path | None = None, **options: bool) -> object:
        if str(target or self) in refused:
            refused.remove(str(target or self))
            raise PermissionError(13, "Permission denied")
        return act(self, **options) if target is None else act(self, target)

    return refusing


def test_a_chunk_that_is_just_read_is_replaced_and_removed(tmp_path: Path, read: list[str]) -> None:
    chunk = tmp_path / "1"
    chunk.write_bytes(b"old")
    folder = DurableFolder(tmp_path)
    read += [str(chunk)] * 3
    folder.put("1", b"new", 0)
    folder.commit()
    assert chunk.read_bytes() == b"new"
    read += [str(chunk)] * 3
    folder.put("1", None, 0)
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_is_just_read_is_replaced(tmp_path: Path, read: list[str]) -> None:
    read += [str(tmp_path / "state.json")] * 3
    write_durably(tmp_path / "state.json", b"new")
    assert (tmp_path / "state.json").read_bytes() == b"new"


def test_what_is_never_let_go_of_is_an_error(tmp_path: Path, read: list[str]) -> None:
    read += [str(tmp_path / "state.json")] * 99
    with pytest.raises(StoreError, match="Permission denied"):
        write_durably(tmp_path / "state.json", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("supported", [True, False])
def test_the_drives_own_cache_is_emptied_before_names_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    """As on macOS, where fsync leaves bytes in it."""
    fcntl, seen = pytest.importorskip("fcntl"), []

    def full_sync(_: int, command: int) -> None:
        if not supported:
            raise OSError(errno.ENOTSUP, "not on this file system")
        assert command == 51
        seen.append("through")

    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(files, "_THROUGH", 51)
    monkeypatch.setattr(fcntl, "fcntl", full_sync)
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append("fsync"), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda *a: (seen.append("name"), replace(*a))[1])
    through = "through" if supported else "fsync"
    folder = DurableFolder(tmp_path)
    for key in ("0/a", "0/b"):
        folder.put(key, b"x", 0)
    folder.commit()
    folder.close()
    synced, names = ["fsync", "fsync", through], ["name", "name"]
    assert seen[:5] == [*synced, *names]
    assert seen[-1] == through
    seen.clear()
    JournalWriter(tmp_path).append(np.array([[0, 0]]))
    assert seen == [through] * 3
    seen.clear()
    write_durably(tmp_path / "state.json", b"x")
    assert seen == [through, "name", through]
