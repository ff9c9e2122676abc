"""What is written is what the formats say, by readers that are not ours."""

from __future__ import annotations

import json
import warnings
from datetime import datetime

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import MapWriter, ProbabilityMap, TissueImage
from napari_wsiseg.store.chunks import encoded
from store.helpers import INFO, Truth, layout_of, run, workspace

with warnings.catch_warnings():
    # Their own: pydantic's `json_encoders`, deprecated, and more of the kind.
    warnings.simplefilter("ignore")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models.v05 import Image, ImageLabel

CANVAS = (37, 26)
MASK = np.random.default_rng(0).random((7, 5)) < 0.5


@pytest.fixture(scope="module", params=["uint8", "float32"])
def result(request, tmp_path_factory):
    layout = layout_of(CANVAS, dtype=request.param, scale=2)
    target = tmp_path_factory.mktemp("formats") / "map.ome.zarr"
    tissue = TissueImage(MASK, {"max_density": 0.1}, "abc")
    writer = MapWriter.create(target, layout, INFO, workspace(), tissue=tissue)
    run(writer, Truth.random(layout, 0), writer.unfinished)
    writer.close()
    return writer.map


def test_ome_zarr_models_accepts_map_and_labels(result):
    group = zarr.open_group(result.path, mode="r")
    image = Image.from_zarr(group)
    multiscale = image.attributes.ome.multiscales[0]
    assert [axis.unit for axis in multiscale.axes] == [None, "micrometer", "micrometer"]
    labels = ImageLabel.from_zarr(group["labels/tissue"])
    assert len(labels.attributes.ome.multiscales[0].datasets) == len(multiscale.datasets)
    assert group["labels"].attrs["ome"] == {"version": "0.5", "labels": ["tissue"]}
    assert group["labels/tissue"].attrs["napari_wsiseg"] == {
        "parameters": {"max_density": 0.1},
        "sha256": "abc",
    }


def test_ome_zarr_reads_the_same_pixels(result):
    nodes = list(Reader(parse_url(result.path))())
    for ours, theirs in zip(result.levels, nodes[0].data, strict=True):
        np.testing.assert_array_equal(ours.compute(), theirs.compute())
    assert nodes[0].metadata["channel_names"] == list(result.classes)


def test_arrays_are_as_the_format_says(result):
    group = zarr.open_group(result.path, mode="r")
    chunk = result.grid.chunk
    for level, dataset in enumerate(group.attrs["ome"]["multiscales"][0]["datasets"]):
        values, coverage = group[dataset["path"]], group[f"coverage/{level}"]
        assert values.metadata.dimension_names == ("c", "y", "x")
        assert coverage.metadata.dimension_names == ("y", "x")
        assert values.chunks == (2, chunk, chunk)
        assert coverage.chunks == (chunk, chunk)
        assert coverage.dtype == bool
        assert values.shape[1:] == coverage.shape
        first, *rest = dataset["coordinateTransformations"]
        factor = 2**level
        assert first["scale"] == [1.0, 0.5 * factor, 0.25 * factor]
        shift = (factor - 1) / 2
        expected = [{"type": "translation", "translation": [0.0, 0.5 * shift, 0.25 * shift]}]
        assert rest == (expected if level else [])
    assert max(values.shape[1:]) <= chunk
    np.testing.assert_array_equal(group["mask"][:], result.grid.keep)


def test_window_colour_and_label_of_each_class(result):
    channels = zarr.open_group(result.path, mode="r").attrs["ome"]["omero"]["channels"]
    largest = 255.0 if result.levels[0].dtype == np.uint8 else 1.0
    assert [c["label"] for c in channels] == ["Class 0", "Class 1"]
    assert [f"#{c['color']}" for c in channels] == list(result.spec.class_colors)
    assert channels[0]["window"] == {"min": 0.0, "max": largest, "start": 0.0, "end": largest}


def test_a_slide_without_scale_is_in_slide_pixels_without_a_unit(tmp_path):
    writer = MapWriter.create(tmp_path / "map", layout_of(CANVAS, mpp=None), INFO, workspace())
    writer.close("cancelled")
    group = zarr.open_group(tmp_path / "map", mode="r")
    Image.from_zarr(group)
    multiscale = group.attrs["ome"]["multiscales"][0]
    assert all("unit" not in axis for axis in multiscale["axes"])
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, 2.0, 2.0]
    assert writer.map.mpp is None
    assert writer.map.tissue is None
    assert "labels" not in group


def test_tissue_is_the_mask_under_each_pixels_centre(result):
    for level, labels in enumerate(result.tissue):
        pixel, stored = 2 * 2**level, labels.compute()
        for y, x in np.ndindex(stored.shape):
            row = min(int((y + 0.5) * pixel / CANVAS[0] * 7), 6)
            column = min(int((x + 0.5) * pixel / CANVAS[1] * 5), 4)
            assert stored[y, x] == MASK[row, column]


def test_metadata_come_back(result):
    again = ProbabilityMap.open(result.path)
    assert again.layout == result.layout
    assert isinstance(again.spec, ModelSpec)
    assert again.job == dict(INFO.job)
    ended = again.provenance["ended"]
    assert datetime.fromisoformat(ended).tzinfo is not None
    assert again.provenance == {**INFO.provenance, "spilled": False, "ended": ended}
    ours = json.loads((result.path / "zarr.json").read_text())["attributes"]["napari_wsiseg"]
    assert ours["format"] == 1
    assert ours["identity"] == INFO.digest
    assert isinstance(again.levels[0], da.Array)
    assert again.levels[0].chunksize == (2, 4, 4)


@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9),
    st.sampled_from(["uint8", "float16", "float32", "bool"]), st.integers(0, 99),
)  # fmt: skip
def test_chunks_are_the_bytes_that_zarr_reads(classes, height, width, dtype, seed):
    pixels = np.random.default_rng(seed).integers(0, 2, (classes, height, width)).astype(dtype)
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(
        store, shape=pixels.shape, chunks=(classes, 9, 9), dtype=dtype, fill_value=0,
        compressors=zarr.codecs.ZstdCodec(level=1),
    )  # fmt: skip
    data = encoded(pixels[:, ::-1][:, ::-1], (classes, 9, 9))
    zarr.core.sync.sync(store.set("c/0/0/0", zarr.core.buffer.cpu.Buffer.from_bytes(data)))
    np.testing.assert_array_equal(array[:], pixels)
