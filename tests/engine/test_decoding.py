"""Every tile of a slide is decoded about once in a run, not once a patch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile

from engine.engine_cases import PositionModel, picture
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import run
from napari_wsiseg.geometry import Size
from napari_wsiseg.slides import open_slide
from napari_wsiseg.slides.tiff import TiffSlide

TILE = 240


@pytest.fixture
def slide_file(tmp_path: Path) -> Path:
    path = tmp_path / "slide.svs"
    pixels = np.ascontiguousarray(picture(1300, 1100))
    tifffile.imwrite(path, pixels, tile=(TILE, TILE), compression="jpeg", photometric="ycbcr")
    return path


@pytest.mark.parametrize("resolution", ["baseline 1.0", "baseline 0.6", "baseline 2"])
def test_tiles_are_decoded_once_a_run(
    slide_file: Path, resolution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[tuple[int, int, int]] = Counter()
    decode = TiffSlide._decode

    def counted(self: TiffSlide, level: int, row: int, column: int) -> np.ndarray:
        decoded[level, row, column] += 1
        return decode(self, level, row, column)

    monkeypatch.setattr(TiffSlide, "_decode", counted)
    model = PositionModel(Size(256, 256), Size(200, 200), Size(100, 100))
    job = SegmentationJob(resolution=resolution, tissue="none")
    with open_slide(slide_file) as slide:
        run(job, slide, model).close()
    assert len(decoded) == 6 * 5
    assert decoded.total() <= 1.1 * len(decoded)
