"""The project itself: what an import costs, who may import whom, what is packaged."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import napari_wsiseg as ws

HEAVY = ("torch", "napari", "qtpy", "zarr", "dask", "scipy", "skimage", "tifffile", "openslide")


def run_python(code: str) -> str:
    """Run code in a fresh interpreter; its output."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    loaded = run_python(
        f"import sys, napari_wsiseg; print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert loaded == "[]"


def test_a_name_loads_only_its_own_module() -> None:
    loaded = run_python(
        "import sys, napari_wsiseg as ws; ws.Size(1, 2); ws.JobError;"
        f"print([m for m in {(*HEAVY, 'pydantic')} if m in sys.modules])"
    )
    assert loaded == "[]"


@pytest.mark.parametrize("name", ws.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(ws, name) is not None
    assert name in dir(ws)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segmnet'"):
        _ = ws.segmnet


@pytest.mark.parametrize(
    "first",
    [
        "ws.load_model",
        "ws.models",
        "import napari_wsiseg.models",
        "from napari_wsiseg import models",
        "from napari_wsiseg.models import load_model",
    ],
)
def test_models_is_a_function_and_a_module_however_it_was_imported(first: str) -> None:
    assert "he-stain" in run_python(
        f"import napari_wsiseg as ws\n{first}\n"
        "import napari_wsiseg.models as module\n"
        "assert ws.models is module and ws.models.load_model is ws.load_model\n"
        "print(*ws.models())"
    )


def test_measure_is_a_function_and_a_module() -> None:
    with pytest.raises(TypeError, match=r"measure\(\) missing"):
        ws.measure()
    assert ws.measure.measure.__name__ == "measure"


def test_version_stands_in_one_place(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert metadata.version("napari-wsiseg") == ws.__version__
    assert ws.__version__ in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_manifest_is_packaged_as_it_stands_at_the_top(root: Path) -> None:
    packaged = root / "src" / "napari_wsiseg" / "napari.yaml"
    assert (root / "napari.yaml").read_bytes() == packaged.read_bytes()
    assert not packaged.is_symlink()


def test_constraints_pin_every_requirement(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    pinned = {normal(pin.partition("==")[0]) for pin in pins}

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    names = {normal(re.match(r"[\w.-]+", r)[0]) for rs in wanted for r in rs if isinstance(r, str)}
    assert names <= pinned
    assert "torchvision" not in pinned


def test_every_import_is_a_declared_dependency(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {normal(re.match(r"[\w.-]+", r)[0]) for r in project["dependencies"]}
    owners = metadata.packages_distributions()
    imported = set()
    for path in (root / "src" / "napari_wsiseg").rglob("*.py"):
        if "_napari" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add(node.module.partition(".")[0])
    others = imported - sys.stdlib_module_names - {"napari_wsiseg"}
    assert "numpy" in others
    assert {n for n in others if not declared & {normal(d) for d in owners.get(n, ())}} == set()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.skipif(
    os.environ.get("TOX_ENV_NAME") != "engine", reason="only tox's engine environment is bare"
)
@pytest.mark.parametrize("name", ["napari", "qtpy", "PyQt6", "PySide6", "magicgui", "superqt"])
def test_the_engine_is_tested_without_a_window(name: str) -> None:
    assert importlib.util.find_spec(name) is None


class TestLayers:
    """The contracts hold, and can fail."""

    @pytest.fixture
    def copy(self, root: Path, tmp_path: Path) -> Path:
        shutil.copy(root / "pyproject.toml", tmp_path)
        shutil.copytree(
            root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__")
        )
        return tmp_path

    @staticmethod
    def lint(folder: Path) -> subprocess.CompletedProcess[str]:
        code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
        return subprocess.run(
            [sys.executable, "-c", code, "--no-cache"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder / "src")},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_contracts_are_kept(self, copy: Path) -> None:
        answer = self.lint(copy)
        assert answer.returncode == 0, answer.stdout + answer.stderr

    @pytest.mark.parametrize(
        ("module", "line"),
        [
            ("geometry.py", "from napari_wsiseg import config"),
            ("merge.py", "from napari_wsiseg import store"),
            ("slides/base.py", "from napari_wsiseg.models.base import Segmenter"),
            ("engine/__init__.py", "import napari"),
            ("cli/__init__.py", "from qtpy.QtWidgets import QWidget"),
        ],
    )
    def test_an_import_upwards_or_of_the_window_breaks_one(
        self, copy: Path, module: str, line: str
    ) -> None:
        path = copy / "src" / "napari_wsiseg" / module
        path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
        answer = self.lint(copy)
        assert answer.returncode == 1
        assert "BROKEN" in answer.stdout
