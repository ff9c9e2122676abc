"""Nobody is let in who would spoil what is there, and that is said before anything is computed."""

from __future__ import annotations

import os
import re
import shutil
from collections import namedtuple
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.engine_cases import PositionModel, picture
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import fields, plan, run, segment
from napari_wsiseg.errors import StoreError
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.store import ProbabilityMap, create
from napari_wsiseg.store.lock import LOCKS
from napari_wsiseg.store.owner import Owner

PIXELS = picture(64, 40)
TISSUE = np.arange(64 * 40).reshape(64, 40) > 500
DISK = namedtuple("DISK", "total used free")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))


def model_of(**attributes: str) -> PositionModel:
    model = PositionModel(Size(12, 44), Size(8, 40), Size(6, 40))
    for name, value in {"weights_sha256": "a" * 64, "precision": "float32", **attributes}.items():
        setattr(model, name, value)
    return model


def another_model() -> PositionModel:
    model = PositionModel(Size(20, 50), Size(8, 30), Size(8, 30))
    model.spec = replace(model.spec, name="other")
    return model


def slide(mpp: float = 0.5, pixels: np.ndarray = PIXELS) -> Slide:
    return open_slide(pixels, mpp=mpp)


@pytest.fixture
def job(tmp_path: Path) -> SegmentationJob:
    return SegmentationJob(output=tmp_path / "a.ome.zarr", batch_size=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def begun(job: SegmentationJob) -> SegmentationJob:
    """Its result has a row, and lacks the last: a patch a batch, the writer cannot be so late."""
    steps = segment(job.model_copy(update={"batch_size": 1}), slide(), model_of(), TISSUE)
    while next(steps).kind != "row":
        pass
    steps.close()
    return job


OTHERS = {
    "another slide": ({}, {"slide": slide(pixels=picture(64, 40, seed=1))}, "slide"),
    "a slide of another size": ({}, {"slide": slide(pixels=picture(80, 56))}, "slide"),
    "another scale": ({}, {"slide": slide(0.25)}, r"mpp \(\[0\.5, 0\.5\] there"),
    "other weights": ({}, {"model": model_of(weights_sha256="b" * 64)}, "model weights_sha256"),
    "another precision": (
        {},
        {"model": model_of(precision="bfloat16")},
        r"model precision \('float32' there, 'bfloat16' here\)",
    ),
    "another backend": ({}, {"model": model_of(backend="mine")}, "model backend"),
    "another mask": ({}, {"tissue": ~TISSUE}, "kept patches.*tissue"),
    "another model": ({}, {"model": another_model()}, r"model name \('position' there, 'other'"),
    "a level": ({"resolution": "baseline 0.5"}, {}, "downsample"),
    "a stride": ({"stride_shape": (8, 40)}, {}, "stride"),
    "a save resolution": ({"save_resolution": "baseline 0.5"}, {}, r"scale \(1 there, 2 here\)"),
    "a window": ({"window": "gaussian"}, {}, r"window \('\w+' there, 'gaussian' here\)"),
    "a dtype": ({"dtype": "float16"}, {}, r"dtype \('uint8' there, 'float16' here\)"),
    "a mask ratio": ({"min_mask_ratio": 0.9}, {}, "kept patches"),
}


@pytest.mark.parametrize("which", OTHERS)
def test_every_difference_is_refused_and_named(begun: SegmentationJob, which: str) -> None:
    values, inputs, words = OTHERS[which]
    given = {"slide": slide(), "model": model_of(), "tissue": TISSUE} | inputs
    given["model"].calls.clear()
    before = contents(begun.output)
    other = SegmentationJob(**begun.model_dump() | values)
    with pytest.raises(StoreError) as refused:
        run(other, **given)
    assert refused.match(rf"cannot be continued: it differs in .*{words}")
    assert str(refused.value).endswith(
        "choose another output, or segment the slide anew with on_exists='overwrite' "
        "(--on-exists overwrite)."
    )
    assert "\n" not in str(refused.value)
    assert given["model"].calls == []
    assert contents(begun.output) == before


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 3},
        {"region": [Region(0, 0, Size(64, 40))]},
        {"memory_threshold": 50},
        {"memory_limit": 10**9},
        {"strict": True},
    ],
    ids=str,
)
def test_what_changes_no_number_is_gone_on_with(
    begun: SegmentationJob, values: dict[str, object]
) -> None:
    other = SegmentationJob(**begun.model_dump() | values)
    with run(other, slide(), model_of(), TISSUE) as result:
        assert result.status == "complete"
        assert result.finished.all()


@pytest.mark.parametrize("newer", [True, False])
def test_another_format_is_refused_by_name(
    begun: SegmentationJob, newer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    if newer:
        path = begun.output / "zarr.json"
        path.write_text(path.read_text().replace('"format": 1', '"format": 7'))
        words = "is in format 7, and this version reads up to 1; update napari-wsiseg"
    else:
        monkeypatch.setattr(create, "FORMAT", 2)
        words = "cannot be continued: it is in format 1, and this version writes 2; choose"
    with pytest.raises(StoreError, match=words):
        run(begun, slide(), model, TISSUE)
    assert model.calls == []


@pytest.mark.parametrize("on_exists", ["overwrite", "resume"])
@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_is_not_ours_is_refused_at_once(
    job: SegmentationJob, on_exists: str, kind: str
) -> None:
    if kind == "folder":
        job.output.mkdir()
        (job.output / "thesis.txt").write_text("thesis")
    elif kind == "file":
        job.output.write_text("thesis")
    elif on_exists == "overwrite":
        job.output.symlink_to(job.output.parent / "nowhere")
    else:
        pytest.skip("a link to nothing is nothing to go on with")
    model, before = model_of(), contents(job.output.parent)
    job = job.model_copy(update={"on_exists": on_exists})
    for act in (plan, run):
        with pytest.raises(StoreError, match="no result of napari-wsiseg"):
            act(job, slide(), model)
    assert model.calls == []
    assert contents(job.output.parent) == before
    assert [path.name for path in job.output.parent.iterdir()] == ["a.ome.zarr"]


@pytest.mark.parametrize("on_exists", ["overwrite", "resume"])
def test_a_result_that_is_written_is_refused_at_once(
    begun: SegmentationJob, on_exists: str
) -> None:
    (begun.output / LOCKS).mkdir()
    (begun.output / LOCKS / Owner(7, 1.0, "far-away").name).touch()
    model, before = model_of(), contents(begun.output)
    with pytest.raises(StoreError, match=r"process 7 on far-away; wait .*, or remove .*7_1\.00"):
        run(begun.model_copy(update={"on_exists": on_exists}), slide(), model, TISSUE)
    assert model.calls == []
    assert contents(begun.output) == before


def test_a_disk_without_room_is_refused_at_once(
    job: SegmentationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, foretold = model_of(), plan(job, slide(), model_of())
    job = job.model_copy(update={"output": job.output.parent / "new" / "a.ome.zarr"})
    needed, least = int(foretold.disk_bytes * 1.1), int(foretold.disk_bytes * 0.55)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: DISK(10**9, 0, least - 1))
        with pytest.raises(StoreError, match=r"needs about .* in .*new, where .* are free; make"):
            run(job, slide(), model)
        assert model.calls == []
        assert list(job.output.parent.parent.iterdir()) == []
        # Where it may fit it is said, once and in no result.
        patch.setattr(shutil, "disk_usage", lambda _: DISK(10**9, 0, least))
        *steps, last = segment(job, slide(), model)
        (told,) = [step.message for step in steps if "disk" in (step.message or "")]
        assert re.search(r"may fill up: .* are free, and .* take up to .*; make room", told)
        assert told not in last.result.warnings
        shutil.rmtree(job.output.parent)
        patch.setattr(shutil, "disk_usage", lambda _: DISK(10**9, 0, needed))
        again = [step.message or "" for step in segment(job, slide(), model)]
        assert not [message for message in again if "disk" in message]
        # What is there already takes no more room, and what is replaced gives its own.
        patch.setattr(shutil, "disk_usage", lambda _: DISK(10**9, 0, 0))
        run(job, slide(), model).close()
        run(job.model_copy(update={"on_exists": "overwrite"}), slide(), model).close()


def test_what_is_left_must_have_room_and_no_more(
    begun: SegmentationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    foretold = plan(begun, slide(), model_of(), TISSUE)
    assert 0 < foretold.patches < foretold.patches_in_all
    least = int(foretold.disk_bytes * 0.55)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DISK(10**9, 0, least - 1))
    with pytest.raises(StoreError, match="make room"):
        run(begun, slide(), model_of(), TISSUE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DISK(10**9, 0, least))
    run(begun, slide(), model_of(), TISSUE).close()


def test_a_drive_that_does_not_tell_its_room_is_written_to(
    job: SegmentationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As file systems in user space may: they answer 0 to all that is asked."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DISK(0, 0, 0))
    run(job, slide(), model_of()).close()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes where others may not"
)
def test_a_folder_that_cannot_be_written_is_refused_at_once(job: SegmentationJob) -> None:
    folder, model = job.output.parent, model_of()
    folder.chmod(0o555)
    try:
        with pytest.raises(StoreError, match=f"The folder {folder} cannot be written to"):
            run(job, slide(), model)
    finally:
        folder.chmod(0o755)
    assert model.calls == []


def test_a_result_that_vanishes_is_not_made_anew_where_it_was(job: SegmentationJob) -> None:
    """As when a drive is unmounted while a run writes: its folder is then one of another disk."""
    steps = segment(job, slide(), model_of(), TISSUE)
    while next(steps).kind != "row":
        pass
    drive = job.output.parent / "unmounted"
    job.output.rename(drive)
    with pytest.raises(StoreError, match="cannot be written"):
        list(steps)
    assert not job.output.exists()
    drive.rename(job.output)
    with ProbabilityMap.open(job.output) as result:
        assert result.finished.any()
    with (
        run(job, slide(), model_of(), TISSUE) as result,
        run(SegmentationJob(batch_size=2), slide(), model_of(), TISSUE) as whole,
    ):
        np.testing.assert_array_equal(result.levels[0], whole.levels[0])
