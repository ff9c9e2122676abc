"""The commands and examples of the README and of the pages for users work."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import napari_wsiseg as ws
from maps import SOFTMAX, STAIN, map_of
from napari_wsiseg.engine.words import plan_words
from napari_wsiseg.notice import RESEARCH_USE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WITH_A_SLIDE = ("README.md", "docs/index.md", "docs/command-line.md")
WITH_RESULTS = ("docs/thresholds.md", "docs/exports.md")


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines()]


def uses(page: str) -> list[str]:
    """Its commands, in order; the demo has a test of its own."""
    found = [line for line in commands(page) if line.startswith("napari-wsiseg ")]
    assert found
    return [line for line in found if line != "napari-wsiseg demo"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_slide: Path) -> Path:
    (tmp_path / "slide.svs").write_bytes(real_slide.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages speak of: results, annotations and a preset, in the current folder.

    The slide's labels were corrected.
    """
    values = np.zeros((3, 64, 96))
    values[0, :, :40], values[1, :, 40:] = 0.9, 0.7
    for name, spec in (("slide", SOFTMAX), ("stain", STAIN)):
        map_of(values[: len(spec.classes)], spec, path=tmp_path / f"{name}.ome.zarr").close()
    with ws.ProbabilityMap.open(tmp_path / "slide.ome.zarr") as slide:
        ws.correct(slide, ws.Region(0, 0, ws.Size(9, 9)), np.full((9, 9), 2))
    (tmp_path / "results").mkdir()
    map_of(values, SOFTMAX, path=tmp_path / "results" / "other.ome.zarr").close()
    (tmp_path / "tables").mkdir()
    (tmp_path / "agreement").mkdir()
    ws.save_preset(ws.DecisionRule({"Tumour": 0.6}), SOFTMAX, tmp_path / "lab.json")
    square = [[[0, 0], [30, 0], [30, 30], [0, 30], [0, 0]]]
    kind = {"classification": {"name": "Tumour"}}
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": square},
        "properties": kind,
    }
    (tmp_path / "annotations.geojson").write_text(json.dumps(feature))
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
    assert commands("README.md")[:2] == ["./scripts/demo", "./scripts/test"]


@pytest.mark.parametrize(
    "script", ["scripts/demo", "scripts/test", "scripts/screenshots", ".ci/run"]
)
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


@pytest.mark.parametrize("page", WITH_A_SLIDE)
def test_the_commands_work_in_order(page: str, folder: Path) -> None:
    for command in uses(page):
        assert run(command), command


@pytest.mark.parametrize("page", WITH_RESULTS)
def test_the_commands_on_results_work(page: str, results: Path) -> None:
    for command in uses(page):
        assert run(command), command


def run_example(page: str) -> None:
    for example in blocks(page, "python"):
        answer = subprocess.run(
            [sys.executable, "-W", "error", "-c", example],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )
        assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_python_example_works(page: str, folder: Path) -> None:
    run_example(page)
    with ws.ProbabilityMap.open(folder / "slide.ome.zarr") as result:
        assert result.status == "complete"


@pytest.mark.parametrize("page", WITH_RESULTS)
def test_the_python_example_on_results_works(page: str, results: Path) -> None:
    (results / "lab.json").unlink()
    run_example(page)


def test_the_plan_is_told_as_it_stands_there(folder: Path) -> None:
    (shown,) = blocks("docs/command-line.md", "text")
    job = ws.SegmentationJob(slide="slide.svs", model="he-stain")
    (printed,) = re.findall(r"µm/px -> .* patches", plan_words(ws.plan(job)))
    assert printed in shown


def test_the_job_file_works(tmp_path: Path) -> None:
    (example,) = blocks("docs/command-line.md", "yaml")
    (tmp_path / "job.yaml").write_text(example, encoding="utf-8")
    job = ws.SegmentationJob.from_yaml(tmp_path / "job.yaml")
    assert job.model in ws.models()
    assert job.region == (ws.Region(0, 0, ws.Size(20000, 20000)),)
    assert (job.tissue.mpp, job.memory_limit) == (8, 4 * 10**9)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_the_research_use_sentence_stands_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert RESEARCH_USE in " ".join(text.split())


def test_every_page_is_in_the_navigation_and_in_the_readme() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert [page for page in pages if f": {page}\n" not in navigation] == []
    assert [page for page in pages if f"(docs/{page})" not in README] == []


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs" / "images" / "overlay.png").stat().st_size < 150_000
