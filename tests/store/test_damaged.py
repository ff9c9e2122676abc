"""A damaged result: the sentence says what helps, and it does."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr

import napari_wsiseg as ws
from engine.engine_cases import PositionModel, picture, slide_of
from napari_wsiseg.geometry import Size

MODEL = PositionModel(Size(20, 20), Size(20, 20), Size(20, 20))
JOB = ws.SegmentationJob(tissue="none")


def run(path, on_exists="resume"):
    job = JOB.model_copy(update={"output": path, "on_exists": on_exists})
    return ws.run(job, slide_of(picture(30, 30)), MODEL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.ome.zarr"
    run(path).close()
    return path


def mask_of(shape, dtype):
    def change(path):
        zarr.create_array(
            path / "mask", shape=shape, dtype=dtype, fill_value=0, zarr_format=3, overwrite=True
        )

    return change


def chunk_of_the_mask(path):
    (path / "mask" / "c" / "0" / "0").write_bytes(b"nothing of ours")


def another_level(path):
    zarr.create_array(path / "0", shape=(2, 3, 3), dtype="uint8", zarr_format=3, overwrite=True)


def other_failures(path):
    text = (path / "state.json").read_text()
    failed = '"failed_patches": [{"row": 9, "column": 0, "reason": "x"}]'
    (path / "state.json").write_text(text.replace('"failed_patches": []', failed))


def other_attributes(path):
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"stride": [', '"stride": [0, '))


def endless_state(path):
    numbers = b"0," * 2**23
    (path / "state.json").write_bytes(b'{"status": "complete", "warnings": [' + numbers + b"0]}")


DAMAGES = {
    "endless state": endless_state,
    "no mask": lambda path: shutil.rmtree(path / "mask"),
    "mask of numbers": mask_of((2, 2), "uint8"),
    "mask without patches": mask_of((0, 2), "bool"),
    "chunk of the mask": chunk_of_the_mask,
    "no level": lambda path: shutil.rmtree(path / "0"),
    "another level": another_level,
    "no state": lambda path: (path / "state.json").unlink(),
    "another grid's patches": other_failures,
    "other attributes": other_attributes,
    "half a state": lambda path: (path / "state.json").write_text('{"status":'),
    "another state": lambda path: (path / "state.json").write_text('{"status": "done"}'),
}


def test_a_state_is_counted_before_it_is_taken_apart(whole, tmp_path):
    path = tmp_path / "a.ome.zarr"
    shutil.copytree(whole, path)
    endless_state(path)
    with pytest.raises(ws.StoreError, match="more values than any run leaves"):
        ws.ProbabilityMap.open(path)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_it_says_what_helps_and_that_does(damage, whole, tmp_path):
    path = tmp_path / "a.ome.zarr"
    shutil.copytree(whole, path)
    damage(path)
    for ask in (ws.ProbabilityMap.open, run):
        with pytest.raises(ws.StoreError, match=r"damaged.*; segment the slide anew") as caught:
            ask(path)
        text = str(caught.value)
        assert text.endswith("with on_exists='overwrite' (--on-exists overwrite).")
        assert "\n" not in text
    with run(path, "overwrite") as again, ws.ProbabilityMap.open(whole) as expected:
        assert again.status == "complete"
        np.testing.assert_array_equal(again.levels[0].compute(), expected.levels[0].compute())
