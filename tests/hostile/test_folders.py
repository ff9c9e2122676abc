"""Results and Zarr slides of strangers: pipes, devices and links where files and folders belong."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tracemalloc
from functools import partial
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from imagecodecs import zstd_encode

import napari_wsiseg as ws
from engine.engine_cases import PositionModel, picture, slide_of
from hostile import targets
from napari_wsiseg._napari.kept_view import HIDDEN, keep_hidden, kept_hidden
from napari_wsiseg.documents import UnreadableError
from napari_wsiseg.engine import fields
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.slides import zarr_chunks
from napari_wsiseg.slides.zarr_chunks import bounded
from napari_wsiseg.slides.zarr_files import PlainFiles
from napari_wsiseg.store.lock import is_written
from napari_wsiseg.store.owner import Owner
from napari_wsiseg.tissue import load_tissue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pipes, devices and links there")
MODEL = PositionModel(Size(20, 20), Size(20, 20), Size(20, 20))
BOX = Region(0, 0, Size(8, 8))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A result of several chunks and levels, of which a half is computed, and corrected."""
    path = tmp_path_factory.mktemp("half") / "a.ome.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))
        go_on(path, region=Region(0, 0, Size(20, 60)))
    return path


@pytest.fixture
def result(half, tmp_path, monkeypatch):
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))
    return shutil.copytree(half, tmp_path / "a.ome.zarr")


@pytest.fixture(autouse=True)
def _nothing_hangs():
    def late(*_):
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def go_on(path, **fields):
    job = ws.SegmentationJob(tissue="none", output=path, **fields)
    ws.run(job, slide_of(picture(60, 60)), MODEL).close()


def look(path):
    with ws.ProbabilityMap.open(path) as pm:
        _ = pm.status, pm.finished
        for level, size in enumerate(pm.layout.sizes):
            pm.read(Region(0, 0, size), level)


def paint(path):
    with ws.ProbabilityMap.open(path) as pm:
        ws.correct(pm, BOX, np.full((8, 8), 2, np.uint8))


def discard(path):
    with ws.ProbabilityMap.open(path) as pm:
        ws.discard_corrections(pm)


def in_place_of(path, make):
    """Put something where a file or folder is."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    make(path)


def device(path):
    path.symlink_to("/dev/zero")


def large(path):
    with path.open("wb") as file:
        file.truncate(2**31)  # takes no room on the disk


NO_FILES = {"pipe": os.mkfifo, "device": device, "far too large": large}
FILES = ("zarr.json", "0/zarr.json", "mask/c/0/0", "0/c/0/0/0", "coverage/0/c/0/0", "state.json")


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_of_that_size_is_refused(name, make, result):
    in_place_of(result / name, make)
    with pytest.raises(ws.StoreError, match="damaged") as caught:
        look(result)
    if name.startswith(("0/c", "coverage")):
        assert name in str(caught.value)
        assert any(word in str(caught.value) for word in ("pipe or a device", "at the most"))


@pytest.mark.parametrize("make", [os.mkfifo, device])
def test_a_journal_of_such_is_refused(make, result):
    in_place_of(result / "journal" / "7", make)
    with pytest.raises(ws.StoreError, match=r"journal .* is damaged .*pipe or a device"):
        look(result)


def test_a_journal_without_end_takes_no_memory(result):
    with ws.ProbabilityMap.open(result) as pm:
        expected = pm.finished
    in_place_of(result / "journal" / "7", large)
    tracemalloc.start()
    try:
        with ws.ProbabilityMap.open(result) as pm:
            np.testing.assert_array_equal(pm.finished, expected)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_a_pipe_in_place_of_a_lock_is_not_waited_for(result):
    dead = Owner(2**22 + 1, 1.0, Owner.this().host)
    in_place_of(result / "lock" / dead.name, os.mkfifo)
    assert not is_written(result)


def test_a_folder_in_place_of_a_lock_is_told(result):
    """And our own lock is given back."""
    dead = Owner(2**22 + 1, 1.0, Owner.this().host)
    in_place_of(result / "lock" / dead.name, Path.mkdir)
    with pytest.raises(ws.StoreError, match=f"{dead.name} cannot be written"):
        go_on(result)
    assert [path.name for path in (result / "lock").iterdir()] == [dead.name]


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", ["labels/zarr.json", "labels/corrected/zarr.json"])
def test_corrected_labels_neither(name, make, result):
    paint(result)
    in_place_of(result / name, make)
    with pytest.raises(ws.StoreError, match=r"cannot be read|are damaged"):
        paint(result) if "corrected" in name else discard(result)


def test_a_chunk_of_corrected_labels_makes_no_more_than_its_shape(result, monkeypatch):
    paint(result)
    (result / "labels" / "corrected" / "0" / "c" / "0" / "0").write_bytes(zstd_encode(bytes(2**24)))
    room, decode = [], zarr_chunks._DECODERS["zstd"]

    def noting(data, most):
        room.append(most)
        return decode(data, most)

    monkeypatch.setitem(zarr_chunks._DECODERS, "zstd", noting)
    with ws.ProbabilityMap.open(result) as pm, pytest.raises(ws.StoreError, match="are damaged"):
        ws.labels_to_correct(pm, BOX)
    assert room[-1] < 2**17


@pytest.mark.parametrize("text", [b"[" * 10**5, b'{"attributes": 3}'], ids=["deep", "number"])
def test_a_list_of_labels_that_is_none_is_left_alone(text, result):
    (result / "labels").mkdir()
    (result / "labels" / "zarr.json").write_bytes(text)
    with pytest.raises(ws.StoreError, match="the list stays as it is"):
        paint(result)
    assert (result / "labels" / "zarr.json").read_bytes() == text


@pytest.mark.parametrize("make", [os.mkfifo, device])
def test_a_copy_of_what_has_no_end_is_refused(make, result, tmp_path):
    in_place_of(result / "0/c/0/0/0", make)
    with ws.ProbabilityMap.open(result) as pm, pytest.raises(ws.StoreError, match="damaged"):
        pm.save(tmp_path / "copy.ome.zarr")
    assert [path.name for path in tmp_path.iterdir()] == [result.name]


LINKS = ("0", "0/c/0", "0/c/0/0", "coverage", "journal", "lock", "labels", "1/c")


@pytest.mark.parametrize(
    ("name", "act"),
    [*((name, act) for name in LINKS for act in (go_on, paint)), ("labels", discard)],
)
def test_nothing_is_written_or_removed_through_a_link(name, act, result, tmp_path):
    foreign = tmp_path / "foreign"
    for kept in ("letters/precious", "corrected/precious", "0/c/precious"):
        (foreign / kept).parent.mkdir(parents=True)
        (foreign / kept).write_text("x")
    before = sorted(foreign.rglob("*"))
    in_place_of(result / name, lambda path: path.symlink_to(foreign))
    with pytest.raises(ws.StoreError, match=r"is a link|damaged|cannot be read"):
        act(result)
    assert sorted(foreign.rglob("*")) == before


def test_what_was_hidden_is_kept_in_the_result_alone(result, tmp_path):
    other = tmp_path / "other"
    other.write_text("precious")
    (result / HIDDEN).symlink_to(other)
    with ws.ProbabilityMap.open(result) as pm:
        keep_hidden(pm, {1})
        assert kept_hidden(pm) == {1}
    assert other.read_text() == "precious"


def test_a_torn_chunk_is_told_when_the_run_goes_on(result):
    (result / "1/c/0/0/0").write_bytes(b"nothing of ours")
    with pytest.raises(ws.StoreError, match="the result is damaged"):
        go_on(result)


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json", "0/c/0/0/0"])
def test_an_ome_zarr_slide_neither(name, make, tmp_path):
    targets._zarrs(tmp_path)
    path = tmp_path / "v3-0.zarr"
    in_place_of(path / name, make)
    with pytest.raises(ws.SlideError), ws.open_slide(path) as slide:
        slide.read_level(0, Region(0, 0, Size(32, 32)))


@pytest.mark.parametrize("make", [os.mkfifo, device])
@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
@pytest.mark.parametrize("in_folder", [False, True], ids=["a file", "in a folder"])
def test_a_tissue_mask_neither(suffix, make, in_folder, tmp_path):
    slide = slide_of(picture(60, 60)).info
    path = tmp_path / f"{slide.stem}.{suffix}"
    make(path)
    with pytest.raises(ws.JobError, match=r"cannot be read .*a pipe or a device"):
        load_tissue(tmp_path if in_folder else path, slide)


def test_parts_of_shards_are_bounded_each(tmp_path):
    """An index may point anywhere: to all of a file with holes."""
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    zarr.create_array(
        tmp_path / "a", data=pixels, chunks=(16, 16), shards=(64, 64), compressors=None
    )
    array = bounded(zarr.open_array(PlainFiles(tmp_path / "a"), mode="r"))
    np.testing.assert_array_equal(array[:], pixels)
    np.testing.assert_array_equal(array[:16, :16], pixels[:16, :16])
    (shard,) = (path for path in (tmp_path / "a" / "c").rglob("*") if path.is_file())
    index = np.frombuffer(shard.read_bytes()[-4 - 16 * 16 : -4], np.uint64).copy()
    index[1] = 2**30
    with shard.open("wb") as file:
        file.truncate(2**31)
        file.seek(0, 2)
        file.write(index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little"))
    with pytest.raises(UnreadableError, match=f"it takes {2**30} bytes"):
        array[:16, :16]
