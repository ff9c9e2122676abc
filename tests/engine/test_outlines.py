"""A region's rows are y and its columns x, from a job's polygon or a GeoJSON file."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import napari_wsiseg as ws
from engine.engine_cases import picture
from napari_wsiseg.cli.app import run as command_line
from napari_wsiseg.engine import fields
from napari_wsiseg.grid import PatchGrid

CHUNK = 16
SIZE = ws.Size(64, 112)
# (y, x), in level-0 pixels: low and wide, off the diagonal, on no chunk's edge.
TRIANGLE = ((2.5, 20.5), (2.5, 100.5), (41.5, 36.5))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=CHUNK))


def met(side: int) -> NDArray[np.bool_]:
    """The chunks of so many level-0 pixels that hold a point of the triangle, point by point."""
    step = 0.25
    y, x = (np.arange(step / 2, length, step) for length in (SIZE.height, SIZE.width))
    inside = np.ones((len(y), len(x)), bool)
    for (y0, x0), (y1, x1) in zip(TRIANGLE, (*TRIANGLE[1:], TRIANGLE[0]), strict=True):
        inside &= (x1 - x0) * (y[:, None] - y0) - (y1 - y0) * (x[None, :] - x0) > 0
    chunks = np.zeros((-(-SIZE.height // side), -(-SIZE.width // side)), bool)
    rows, columns = np.nonzero(inside)
    chunks[(y[rows] // side).astype(int), (x[columns] // side).astype(int)] = True
    return chunks


@pytest.mark.parametrize("factor", [1, 2])
def test_a_polygon_is_given_in_y_and_x(factor: int) -> None:
    job = ws.SegmentationJob(resolution=f"baseline {1 / factor}", tissue="none", region=TRIANGLE)
    *_, last = ws.segment(job, picture(SIZE.height, SIZE.width))
    expected = met(CHUNK * factor)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(last.result.finished, expected)


def test_a_geojson_file_is_given_in_x_and_y(tmp_path: Path) -> None:
    slide = tmp_path / "slide.png"
    Image.fromarray(picture(SIZE.height, SIZE.width)).save(slide)
    ring = [[x, y] for y, x in (*TRIANGLE, TRIANGLE[0])]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {},
    }
    drawn = tmp_path / "drawn.geojson"
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    options = ["--tissue", "none", "--resolution", "baseline 1", "--region", str(drawn)]
    assert (
        command_line(["segment", str(tmp_path / "slide.png"), "-o", str(tmp_path), *options]) == 0
    )
    with ws.ProbabilityMap.open(tmp_path / "slide.ome.zarr") as result:
        np.testing.assert_array_equal(result.finished, met(CHUNK))
