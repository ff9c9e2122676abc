"""`view` runs the window as a program of its own; here another program stands for it."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from napari_wsiseg.cli import view
from napari_wsiseg.cli.app import run


@pytest.fixture
def installed(monkeypatch):
    """Say what is installed, whatever is: (*names)."""

    def only(*names: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in names or None)

    only("napari", "PySide6")
    return only


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Have a program run in the window's place: (its code) -> the file it may write to."""
    start = subprocess.Popen

    def instead(code: str) -> Path:
        def begin(command):
            assert command[:4] == [sys.executable, "-m", "napari_wsiseg._napari", "--"]
            return start([sys.executable, "-c", code, *command[4:]], cwd=tmp_path)

        monkeypatch.setattr(view.subprocess, "Popen", begin)
        return tmp_path / "said"

    return instead


def test_paths_are_handed_on(installed, program, slide, tmp_path) -> None:
    said = program("import sys; open('said', 'w').write('|'.join(sys.argv[1:]))")
    dashed = tmp_path / "-a slide.svs"
    dashed.touch()
    assert run(["view", str(slide), str(dashed)]) == 0
    assert said.read_text() == f"{slide}|{dashed}"


@pytest.mark.parametrize("status", [0, 3])
def test_its_exit_status_is_ours(installed, program, slide, status) -> None:
    program(f"raise SystemExit({status})")
    assert run(["view", str(slide)]) == status


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such signal")
def test_one_that_is_killed_is_no_success(installed, program, slide) -> None:
    program("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert run(["view", str(slide)]) == 128 + signal.SIGKILL


def test_a_missing_path_is_one_sentence(installed, tmp_path, capsys) -> None:
    assert run(["view", str(tmp_path / "none.svs")]) == 2
    assert capsys.readouterr().err == (
        f"Error: There is nothing at {tmp_path / 'none.svs'}; check the name.\n"
    )


@pytest.mark.parametrize(
    ("there", "missing"),
    [((), "napari and Qt"), (("PyQt6",), "napari"), (("napari",), "Qt (PyQt6 or PySide6)")],
)
def test_without_a_window_it_says_what_to_install(there, missing, installed, slide, capsys) -> None:
    installed(*there)
    assert run(["view", str(slide)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"Error: The window needs {missing}")
    assert 'pip install "napari-wsiseg[all]"' in err


def test_ctrl_c_waits_for_the_window(installed, slide, monkeypatch) -> None:
    waits = iter([KeyboardInterrupt, 0])

    class Window:
        def wait(self) -> int:
            answer = next(waits)
            if answer is KeyboardInterrupt:
                raise answer
            return answer

    monkeypatch.setattr(view.subprocess, "Popen", lambda _: Window())
    assert run(["view", str(slide)]) == 130
    assert next(waits, None) is None
