"""Slides made here, and the command line as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.data import immunohistochemistry


def _write_slide(path: Path, side: int = 1024, *, mpp: float | None = 0.5) -> Path:
    """A tiled TIFF of stained tissue with a strip of glass."""
    picture = immunohistochemistry()
    tiles = -(-side // len(picture))
    pixels = np.tile(picture, (tiles, tiles, 1))[:side, :side].copy()
    pixels[:, -side // 4 :] = 245
    scale = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None, **scale)
    return path


@pytest.fixture(scope="session")
def make_slide() -> Callable[..., Path]:
    """Write a slide: (path, side=1024, mpp=0.5) -> path."""
    return _write_slide


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small slide with 0.5 µm/px."""
    return _write_slide(tmp_path_factory.mktemp("slides") / "small.tif")


Process = subprocess.CompletedProcess[str]


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Process]:
    """Run `python -m napari_wsiseg` in a process of its own, in a folder of its own."""

    def start(*arguments: object, **environment: str) -> Process:
        return subprocess.run(
            [sys.executable, "-m", "napari_wsiseg", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )

    return start
