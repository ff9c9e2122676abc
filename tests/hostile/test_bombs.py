"""A few kilobytes that claim to be gigabytes: refused before there is room made for them."""

from __future__ import annotations

import gzip
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

import napari_wsiseg as ws
from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.regions import geojson, read_geojson
from napari_wsiseg.slides import zarr_chunks
from napari_wsiseg.tissue import load_tissue

ZEROS = bytes(2 * 10**7)
BOMBS = {
    "deflate": (8, zlib.compress(ZEROS)),
    "zstd": (50000, imagecodecs.zstd_encode(ZEROS)),
    "lzma": (34925, imagecodecs.lzma_encode(ZEROS)),
    "packbits": (32773, imagecodecs.packbits_encode(ZEROS[: 10**7])),
    "lzw": (5, imagecodecs.lzw_encode(ZEROS[: 10**7])),
    "webp": (50001, imagecodecs.webp_encode(np.zeros((4000, 4000, 3), np.uint8))),
}


@pytest.mark.parametrize(("code", "data"), BOMBS.values(), ids=BOMBS)
def test_a_tile_makes_no_more_than_its_pixels(code, data, tmp_path):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path, iter([data]), shape=(64, 64, 3), dtype=np.uint8, photometric="rgb", tile=(64, 64),
        compression=code,
    )  # fmt: skip
    with ws.open_slide(path) as slide:
        try:
            read = slide.read_level(0, Region(0, 0, Size(64, 64)))
        except ws.SlideError:
            return
        assert read.nbytes == 64 * 64 * 3


def test_a_compression_that_cannot_be_bounded_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(64, 64), compression="png"
    )
    with pytest.raises(ws.SlideError, match=r"compression .* is not supported"):
        ws.open_slide(path)


CODECS = {
    "zstd": (3, {"compressors": zarr.codecs.ZstdCodec()}, imagecodecs.zstd_encode),
    "blosc": (3, {"compressors": zarr.codecs.BloscCodec()}, imagecodecs.blosc_encode),
    "gzip": (3, {"compressors": zarr.codecs.GzipCodec()}, gzip.compress),
    "zlib of Zarr 2": (2, {"compressors": {"id": "zlib"}}, zlib.compress),
    "zstd of Zarr 2": (2, {"compressors": {"id": "zstd"}}, imagecodecs.zstd_encode),
}


@pytest.mark.parametrize(("version", "options", "encode"), CODECS.values(), ids=CODECS)
def test_a_chunk_makes_no_more_than_its_shape(version, options, encode, tmp_path, monkeypatch):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    zarr.create_array(tmp_path / "a", data=pixels, chunks=(8, 8), zarr_format=version, **options)
    sound = zarr_chunks.bounded(zarr.open_array(tmp_path / "a", mode="r"))
    np.testing.assert_array_equal(sound[:], pixels)
    (chunk,) = (p for p in (tmp_path / "a").rglob("*") if p.is_file() and "z" not in p.name)
    chunk.write_bytes(encode(ZEROS))
    room = []

    def noted(decode):
        def noting(data, most):
            room.append(most)
            return decode(data, most)

        return noting

    for name, decode in zarr_chunks._DECODERS.items():
        monkeypatch.setitem(zarr_chunks._DECODERS, name, noted(decode))
    array = zarr_chunks.bounded(zarr.open_array(tmp_path / "a", mode="r"))
    with pytest.raises(Exception, match=r"(?i)space|small|error|returned|reshape"):
        array[:]
    assert 0 < max(room) <= 64 + zarr_chunks._SLACK


def test_a_chunk_of_a_result_neither(tmp_path):
    model = PositionModel(Size(20, 20), Size(20, 20), Size(20, 20))
    path = tmp_path / "a.ome.zarr"
    ws.run(ws.SegmentationJob(tissue="none", output=path), slide_of(picture(30, 30)), model).close()
    (path / "0/c/0/0/0").write_bytes(imagecodecs.zstd_encode(ZEROS))
    with ws.ProbabilityMap.open(path) as pm, pytest.raises(ws.StoreError, match="damaged"):
        pm.read(Region(0, 0, Size(30, 30)))


def test_packed_geojson(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "_LARGEST", 10**6)
    path = tmp_path / "a.geojson.gz"
    path.write_bytes(gzip.compress(ZEROS))
    with pytest.raises(ws.JobError, match="unpacked it is larger than 1 MB"):
        read_geojson(path)


def test_geojson_of_empty_parts_is_refused_before_it_is_taken_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "_MOST_PARTS", 100)
    monkeypatch.setattr(geojson.json, "loads", lambda _: pytest.fail("it is taken apart"))
    path = tmp_path / "a.geojson"
    path.write_bytes(b"[" + b"{}," * 60 + b"[]," * 60 + b"1]")
    with pytest.raises(ws.JobError, match="more than 100 points, rings and objects"):
        read_geojson(path)


@pytest.mark.parametrize("shape", [(10**6, 10**6), (10**5, 10**5)])
def test_a_mask_that_claims_to_be_huge(shape, tmp_path):
    path = tmp_path / "m.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        # A sparse file: it has the length, and takes no room.
        file.truncate(file.tell() + 10**10)
    slide = ws.open_slide(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ws.JobError, match="cannot be read"):
        load_tissue(path, slide.info)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(c)}: &{chr(c)} [{', '.join([f'*{chr(c - 1)}'] * 8)}]\n" for c in range(98, 110)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: &a [*a]",
        "slide: !!python/object/apply:os.system ['touch ran']",
        "mpp: 0x" + "f" * 9000,
        "[" * 5000,
        "mpp: 2001-99-99",
        "x: y\n" * 10**6,
    ],
    ids=["laughs", "cycle", "code", "number", "deep", "date", "long"],
)
def test_yaml_is_data_of_a_sensible_size(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(ws.JobError) as caught:
        ws.SegmentationJob.from_yaml(path)
    assert len(str(caught.value)) < 600
    assert [p.name for p in tmp_path.iterdir()] == ["job.yaml"]
