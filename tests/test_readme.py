"""The README's commands work as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from napari_wsiseg.notice import RESEARCH_USE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_slide: Path) -> Path:
    (tmp_path / "slide.svs").write_bytes(real_slide.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> str:
    """What `napari-wsiseg ...` prints."""
    program, *options = shlex.split(command)
    assert program == "napari-wsiseg"
    answer = subprocess.run(
        [sys.executable, "-m", "napari_wsiseg", *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["./scripts/demo", "./scripts/test"]


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test", ".ci/run"])
@pytest.mark.skipif(os.name == "nt", reason="the scripts are for Debian and Ubuntu")
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


def test_continuous_integration_runs_the_same() -> None:
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[
        -1
    ] == "exec ./scripts/test"


def test_the_demo_needs_no_network_and_shows_areas_a_picture_and_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (ROOT / "scripts" / "demo").read_text(encoding="utf-8")
    assert script.splitlines()[-1].endswith('/napari-wsiseg" demo "$@"')
    monkeypatch.chdir(tmp_path)
    # A proxy that does not answer: any request would fail.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    printed = run("napari-wsiseg demo")
    assert "%" in printed
    assert list((tmp_path / "wsiseg-demo").glob("*.png"))
    assert list((tmp_path / "wsiseg-demo").glob("*.ome.zarr/zarr.json"))


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c.startswith("napari-wsiseg ") and c != "napari-wsiseg demo"],
)
def test_a_command_for_users_works(command: str, folder: Path) -> None:
    assert run(command)


def test_the_python_example_works(folder: Path) -> None:
    (example,) = blocks("python")
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert answer.returncode == 0, answer.stderr
    assert "complete" in answer.stdout


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_the_research_use_sentence_stands_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert RESEARCH_USE in " ".join(text.split())
