"""Slides and results to open, and napari's settings and our caches in folders of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_wsiseg as ws


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Iterator[None]:
    """Nothing is read from the user's settings and caches, and nothing is left there."""
    from napari import settings

    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("NAPARI_WSISEG_CACHE", str(folder / "cache"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: folder / "cache")
    monkeypatch.setattr(settings, "_CFG_PATH", str(folder / "settings.yaml"))
    monkeypatch.setattr(settings, "_SETTINGS", settings.NapariSettings(config_path=None))
    settings._clear_plugin_settings_cache()
    yield
    settings._clear_plugin_settings_cache()


@pytest.fixture
def told(monkeypatch) -> list[tuple[str, str]]:
    """What notifications say: (severity, message), as they come."""
    from napari.utils.notifications import notification_manager

    heard: list[tuple[str, str]] = []
    monkeypatch.setattr(
        notification_manager,
        "dispatch",
        lambda note: heard.append((str(note.severity), note.message)),
    )
    return heard


def write_slide(path: Path, side: int = 600, *, mpp: float | None = 0.5) -> Path:
    """A tiled TIFF of one level; above 512 px it needs an averaged one to be shown."""
    rng = np.random.default_rng(side)
    coarse = rng.integers(100, 250, (side // 20 + 1, side // 20 + 1, 3), np.uint8)
    pixels = coarse.repeat(20, 0).repeat(20, 1)[:side, :side]
    scale = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None, **scale)
    return path


@pytest.fixture
def make_slide(tmp_path: Path) -> Callable[..., Path]:
    """Write a slide: (name="slide.svs", side=600, mpp=0.5) -> path."""

    def make(name: str = "slide.svs", side: int = 600, *, mpp: float | None = 0.5) -> Path:
        return write_slide(tmp_path / name, side, mpp=mpp)

    return make


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result beside its slide, `case.tif`."""
    slide = write_slide(tmp_path / "case.tif")
    output = tmp_path / "case.ome.zarr"
    job = ws.SegmentationJob(slide=slide, model="he-stain", output=output, tissue="none")
    ws.run(job).close()
    return output
