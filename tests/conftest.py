"""Fixtures that every test may ask for."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# A shared machine stalls at times: a deadline would make failures of it.
_common = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _common)
settings.register_profile("ci", _common, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


HAS_WINDOW = importlib.util.find_spec("napari") is not None


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return None if HAS_WINDOW else "tests/gui is left out: napari is not installed"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the window's tests without napari, and helpers.

    `--doctest-modules` would import helpers a second time, under another name.
    """
    no_window = collection_path.is_relative_to(ROOT / "tests" / "gui") and not HAS_WINDOW
    is_helper = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if no_window or is_helper else None


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not there; it holds a real slide and reference numbers")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real slides and of the networks' state-dict keys."""
    return _shared("data")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference outputs and of the weights that made them."""
    return _shared("golden")


@pytest.fixture(scope="session")
def real_slide() -> Path:
    """A real Aperio slide: H&E skin, 20x, 0.499 µm/px, 2220 wide x 2967 high, one level."""
    return _shared("data/CMU-1-Small-Region.svs")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
