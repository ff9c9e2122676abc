"""What a result says of its making: enough to repeat it, and no folder's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import napari_wsiseg as ws
from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import identity, run
from napari_wsiseg.geometry import Size
from napari_wsiseg.models.zoo import STAINS

SECRET = "name-of-a-patient"


def test_no_path_is_in_a_result(tmp_path: Path) -> None:
    """Slide, weights, mask and output lie in a folder that must not be told."""
    folder = tmp_path / SECRET
    folder.mkdir()
    Image.fromarray(picture(64, 64)).save(folder / "slide.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(folder / "mask.png")
    stains = "\n".join(f"{k}: {v}" for k, v in STAINS["H&E"].provenance().items())
    (folder / "stains.yaml").write_text(stains)
    job = SegmentationJob(
        slide=folder / "slide.png",
        model="he-stain",
        weights=folder / "stains.yaml",
        tissue=folder / "mask.png",
        output=folder / "a.ome.zarr",
        resolution="baseline 1",
    )
    with run(job) as result:
        assert result.status == "complete"
        assert result.job["weights"] == "stains.yaml"
        assert result.job["tissue"] == "mask.png"
        assert result.provenance["slide"]["stem"] == "slide"
        assert result.provenance["versions"]["napari-wsiseg"] == ws.__version__
    for path in (folder / "a.ome.zarr").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_models_device_may_be_torchs_own_type() -> None:
    model = PositionModel(Size(20, 20), Size(20, 20), Size(20, 20))
    model.device = torch.device("cpu")  # type: ignore[attr-defined]
    result = run(SegmentationJob(tissue="none"), slide_of(picture(30, 30)), model)
    assert result.provenance["device"] == "cpu"


def test_a_copy_without_metadata_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_PACKAGES", ("numpy", "no-such-package"))
    model = PositionModel(Size(20, 20), Size(20, 20), Size(20, 20))
    result = run(SegmentationJob(tissue="none"), slide_of(picture(30, 30)), model)
    assert result.provenance["versions"] == {
        "numpy": np.__version__,
        "no-such-package": "unknown",
    }
