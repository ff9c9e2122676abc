"""What holds for exports in every format: where they go, what they say, what they leave."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import sys
import uuid
from contextlib import closing, nullcontext
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

import napari_wsiseg as ws
from maps import SIGMOID, SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import ExportError, JobError
from napari_wsiseg.export import FORMATS, Step, export, export_steps
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.export.target import new_target
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import Cleanup, DecisionRule, LabelMap
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.slides import open_slide
from napari_wsiseg.store import ProbabilityMap, is_export, is_result
from napari_wsiseg.store.lock import LOCKS, WriterLock, is_written
from napari_wsiseg.store.owner import Owner

if sys.platform != "win32":
    import fcntl

SHAPE = (40, 60)


def values(classes=3):
    """Thirds of the height, a class each."""
    found = np.zeros((classes, *SHAPE))
    for index, rows in enumerate(np.array_split(np.arange(SHAPE[0]), classes)):
        found[index, rows] = 1
    return found


@pytest.fixture
def result(tmp_path):
    path = tmp_path / "slide.ome.zarr"
    with map_of(values(), SOFTMAX, path=path):
        pass
    with ProbabilityMap.open(path) as pm:
        yield pm


def options_of(name):
    return {"slide": open_slide(np.full((*SHAPE, 3), 200, np.uint8))} if name == "png" else {}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_beside_the_result_and_leaves_nothing_else(tmp_path, result, name):
    before = names_in(tmp_path)
    path = export(result, format=name, **options_of(name))
    assert path.exists()
    if FORMATS[name].is_folder:
        assert path == result.path / "labels" / "tissue-classes"
        assert names_in(tmp_path) == before
        assert set(names_in(path.parent)) == {"tissue-classes", "zarr.json"}
    else:
        assert path == tmp_path / f"slide{FORMATS[name].suffixes[0]}"
        assert not [left for left in names_in(tmp_path) if "partial" in left]
        beside = {"slide.groovy"} if name == "ome-tiff" else set()
        assert set(names_in(tmp_path)) == {*before, path.name, *beside}


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_covered_is_exported_as_nothing(tmp_path, name):
    covered = np.zeros(SHAPE, bool)
    with map_of(values(), SOFTMAX, coverage=covered) as pm:
        path = export(pm, tmp_path / f"a{FORMATS[name].suffixes[0]}", name, **options_of(name))
    assert path.exists()


@pytest.mark.parametrize("name", FORMATS)
def test_names_that_are_no_unicode_are_written_as_far_as_they_can_be(tmp_path, name):
    """Linux has names of files in any encoding; Python keeps such bytes as lone surrogates."""
    made_from = {"slide": {"stem": "caf\udce9"}}
    with map_of(values(), SOFTMAX, provenance=made_from) as pm:
        path = tmp_path / f"caf\udce9{FORMATS[name].suffixes[0]}"
        export(pm, path, name, aliases={"Tumour": "T\udce9"}, **options_of(name))
    assert path.exists()
    told = provenance(ExportRequest(LabelMap(pm), (1,), {1: "T\udce9"}, "slide"))
    assert told["slide"]["stem"] == "caf?"
    json.dumps(told, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_there_is_kept_unless_told(tmp_path, result, name):
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    export(result, path, name, **options_of(name))
    with pytest.raises(ExportError, match="is there already"):
        export(result, path, name, **options_of(name))
    export(result, path, name, overwrite=True, **options_of(name))
    assert not [left for left in names_in(tmp_path) if "partial" in left or "old" in left]


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_is_broken_off_leaves_what_was_there(tmp_path, result, name):
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    before = names_in(tmp_path)
    steps = export_steps(result, path, name, **options_of(name))
    assert isinstance(next(steps), Step)
    steps.close()
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in FORMATS if not FORMATS[name].is_folder])
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, result, name):
    resource = pytest.importorskip("resource", reason="only POSIX limits a file's size")
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    before = names_in(tmp_path)
    options = options_of(name)
    list(export_steps(result, path, name, **options))  # everything is loaded
    path.unlink()
    (tmp_path / "a.groovy").unlink(missing_ok=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(ExportError, match="cannot be written"):
            export(result, path, name, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("look", [1, 2])
def test_what_is_written_late_goes_too(tmp_path, monkeypatch, look):
    """Zarr's threads may still write when one of its writes has failed."""
    partials, late, looks = [], [], []

    def wait(_):
        looks.append(1)
        if len(looks) == look:
            late.append(partials[0] / "c" / "0")
            late[0].mkdir(parents=True)

    def break_off():
        target = tmp_path / "[a] copy.ome.zarr"
        with new_target(target, is_folder=True, overwrite=False) as partial:
            partials.append(partial)
            partial.mkdir()
            partial.with_name(f"{partial.name}-beside").mkdir()
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_wsiseg.store.files.time.sleep", wait)
    with pytest.raises(ExportError, match="No space"):
        break_off()
    assert late
    assert names_in(tmp_path) == []


def draft_left(folder, owner, name="slide.csv"):
    """What an export leaves whose process was killed, and its lock's file."""
    draft = folder / f".{name}.{uuid.uuid4().hex}.partial"
    (draft / LOCKS).mkdir(parents=True)
    (draft / name).touch()
    lock = draft / LOCKS / owner.name
    lock.touch()
    return draft, lock


def test_what_a_killed_export_left_goes_with_the_next_and_others_stay(tmp_path, result):
    dead, elsewhere = Owner(os.getpid(), 1.0, Owner.this().host), Owner(1, 1.0, "far-away")
    draft_left(tmp_path, dead)
    others = [draft_left(tmp_path, elsewhere), draft_left(tmp_path, dead, "other.csv")]
    export(result, format="csv")
    left = [draft.name for draft, _ in others]
    assert names_in(tmp_path) == sorted([*left, "slide.csv", "slide.ome.zarr"])


def test_one_that_is_written_stays(tmp_path, result):
    first = export_steps(result, format="csv", overwrite=True)
    next(first)
    export(result, format="csv")
    list(first)
    assert names_in(tmp_path) == ["slide.csv", "slide.ome.zarr"]


def files_in(path):
    files = [path] if path.is_file() else (found for found in path.rglob("*") if found.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def made(path, kind):
    """What somebody puts there while an export is written."""
    if kind == "file":
        path.write_text("thesis")
    elif kind == "result":
        map_of(values(), SOFTMAX, path=path).close()
    else:
        zarr.create_group(path, attributes={"napari_wsiseg": {"export": kind}})
    return path


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("kind", ["file", "result", "export"])
def test_what_came_meanwhile_is_left_unless_it_may_be_replaced(
    tmp_path, is_folder, overwrite, kind
):
    path = tmp_path / "a.ome.zarr"
    replaced = overwrite and kind == ("export" if is_folder else "file")
    with (
        nullcontext() if replaced else pytest.raises(ExportError),
        new_target(path, is_folder=is_folder, overwrite=overwrite) as partial,
    ):
        if is_folder:
            partial.mkdir()
        (partial / "zarr.json" if is_folder else partial).write_text("ours")
        before = files_in(made(path, kind))
    assert (files_in(path) != before) == replaced
    assert names_in(tmp_path) == ["a.ome.zarr"]


@pytest.mark.parametrize("kind", ["file", "result", "export"])
def test_nor_is_a_folder_moved_that_came_at_the_last_moment(tmp_path, kind, monkeypatch):
    path = tmp_path / "a.ome.zarr"
    made(path, "export")
    before, rename = [], Path.rename

    def late(self, name):
        monkeypatch.setattr(Path, "rename", rename)
        shutil.rmtree(path)
        before.append(files_in(made(path, kind)))
        return rename(self, name)

    def replace():
        with new_target(path, is_folder=True, overwrite=True) as partial:
            partial.mkdir()
            (partial / "zarr.json").write_text("ours")
            monkeypatch.setattr(Path, "rename", late)

    with nullcontext() if kind == "export" else pytest.raises(ExportError, match="meanwhile"):
        replace()
    assert (files_in(path) == before[0]) == (kind != "export")
    assert names_in(tmp_path) == ["a.ome.zarr"]


def test_of_two_folders_at_the_very_last_moment_one_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.ome.zarr"
    made(path, "export")
    rename = Path.rename

    def late(self, name):
        moved = rename(self, name)
        if self == path:
            monkeypatch.setattr(Path, "rename", rename)
            made(path, "another")
        return moved

    def replace():
        with new_target(path, is_folder=True, overwrite=True) as partial:
            partial.mkdir()
            (partial / "zarr.json").write_text("ours")
            monkeypatch.setattr(Path, "rename", late)

    with pytest.raises(ExportError, match="meanwhile"):
        replace()
    assert zarr.open_group(path).attrs["napari_wsiseg"] == {"export": "another"}
    assert names_in(tmp_path) == ["a.ome.zarr"]


@pytest.mark.skipif(sys.platform == "win32", reason="no file is held there")
def test_an_export_that_cannot_be_seen_stays_while_it_lives(tmp_path, result):
    """In another container of the same host name: its process is not to be seen from here."""
    draft, lock = draft_left(tmp_path, Owner(os.getpid(), 1.0, Owner.this().host))
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        export(result, format="csv")
        assert (draft / "slide.csv").exists()
    export(result, format="csv", overwrite=True)
    assert not draft.exists()


def test_a_result_is_never_replaced_by_an_export(tmp_path, result):
    other = tmp_path / "other.ome.zarr"
    shutil.copytree(result.path, other)
    foreign = tmp_path / "foreign.ome.zarr"
    foreign.mkdir()
    (foreign / "precious").write_text("mine")
    for path in (other, foreign, result.path):
        with pytest.raises(ExportError, match="is no export"):
            export(result, path, "ome-zarr", overwrite=True)
    assert is_result(other)
    assert names_in(foreign) == ["precious"]


@pytest.mark.parametrize("name", [name for name in FORMATS if not FORMATS[name].is_folder])
def test_no_file_is_written_into_a_result(tmp_path, result, name):
    other, link = tmp_path / "other.ome.zarr", tmp_path / "link"
    shutil.copytree(result.path, other)
    link.symlink_to(result.path)
    before = sorted(tmp_path.rglob("*"))
    suffix = FORMATS[name].suffixes[-1].removesuffix(".gz")
    for folder in (result.path, result.path / "labels", other / "0", link):
        for path in (folder / f"{stem}{suffix}" for stem in ("zarr", "state", "a")):
            with pytest.raises(ExportError, match="is inside the result"):
                export(result, path, name, overwrite=True, **options_of(name))
    assert sorted(tmp_path.rglob("*")) == before
    assert is_result(result.path)


def test_through_a_link_labels_are_those_of_the_result(tmp_path):
    path, link = tmp_path / "a.ome.zarr", tmp_path / "link.ome.zarr"
    with map_of(values(2), SIGMOID, path=path):
        pass
    link.symlink_to(path)
    with ProbabilityMap.open(path) as pm:
        export(pm, link / "labels" / "mine", "ome-zarr")
    listed = json.loads((path / "labels" / "zarr.json").read_text())["attributes"]["ome"]
    assert listed["labels"] == ["mine-Nuclei", "mine-Glands"]


def test_a_run_that_begins_meanwhile_is_not_given_labels(tmp_path, result):
    steps = export_steps(result, format="ome-zarr")
    next(steps)
    lock = WriterLock.acquire(result.path)
    with pytest.raises(ws.StoreError, match="being written by process"):
        list(steps)
    lock.release()
    assert names_in(result.path / "labels") == []
    export(result, format="ome-zarr")
    assert not is_written(result.path)


def test_the_tissue_mask_is_never_replaced(tmp_path):
    path = tmp_path / "a.ome.zarr"
    with map_of(values(), SOFTMAX, tissue=np.ones(SHAPE, bool), path=path):
        pass
    with ProbabilityMap.open(path) as pm, pytest.raises(ExportError, match="tissue mask"):
        export(pm, path / "labels" / "tissue", "ome-zarr", overwrite=True)


def test_an_exported_copy_is_no_result(tmp_path, result):
    copy = export(result, tmp_path / "copy.ome.zarr", "ome-zarr")
    assert is_export(copy)
    assert not is_result(copy)
    with pytest.raises(ws.StoreError, match="no result"):
        ProbabilityMap.open(copy)


def test_labels_inside_a_result_are_listed_beside_its_tissue(tmp_path):
    path = tmp_path / "a.ome.zarr"
    with map_of(values(2), SIGMOID, tissue=np.ones(SHAPE, bool), path=path):
        pass
    with ProbabilityMap.open(path) as pm:
        export(pm, format="ome-zarr")
        listed = json.loads((path / "labels" / "zarr.json").read_text())["attributes"]["ome"]
        assert listed["labels"] == ["tissue", "tissue-classes-Nuclei", "tissue-classes-Glands"]
        assert ProbabilityMap.open(path).tissue is not None


def test_a_result_that_is_not_complete_says_so(tmp_path):
    with map_of(values(), SOFTMAX) as pm:
        pm._home.set_state(ws.store.state.State("cancelled"))
        steps = list(export_steps(pm, tmp_path / "a.csv", "csv"))
    assert "The result is cancelled: 12 of 12 chunks are finished." in [s.remark for s in steps]
    assert '"status": "cancelled"' in (tmp_path / "a.csv").read_text()


def request_of(pm, rule=None, **changes):
    labels = LabelMap(pm, rule or DecisionRule(), Cleanup(smooth_um=1))
    names = {1: "Tumor"}
    return ExportRequest(labels, (1,), names, **{"origin": "slide", **changes})


@pytest.mark.parametrize("name", ["csv", "png"])
def test_measuring_for_a_file_tells_how_far_it_is_and_can_be_stopped(tmp_path, monkeypatch, name):
    monkeypatch.setattr("napari_wsiseg.measure.count._BATCH", 1)
    with map_of(values(), SOFTMAX) as pm:
        path = tmp_path / f"a.{name}"
        steps = export_steps(pm, path, name, **options_of(name))
        parts = [step.part for step in steps if step.stage == "writing"]
        assert parts == sorted(parts)
        assert len(set(parts)) >= 3
        path.unlink()
        steps = export_steps(pm, path, name, **options_of(name))
        assert 0 < next(steps).part < 1
        steps.close()
    assert names_in(tmp_path) == []


def test_the_provenance_tells_what_was_done_and_no_path(tmp_path, result):
    told = provenance(request_of(result, DecisionRule({"Tumour": 0.6})))
    json.dumps(told, allow_nan=False)
    assert told["notice"] == RESEARCH_USE
    assert told["mode"] == "softmax"
    assert told["thresholds"] == {"Tumour": 0.6, "Stroma": 0.0, "Other": 0.0}
    assert told["cleanup"] == {"min_object_um2": 0, "fill_hole_um2": 0, "smooth_um": 1}
    assert told["classes"] == {"Tumor": "Tumour"}
    assert told["origin"] == {"at": "slide", "offset": [0, 0]}
    assert told["mpp_source"] == "metadata"
    assert told["status"] == "complete"
    assert str(tmp_path) not in json.dumps(told)
    told = provenance(request_of(result, with_paths=True))
    assert told["paths"] == {"result": str(result.path)}


def test_thresholds_of_stains_are_told_in_optical_density():
    told = provenance(request_of(map_of(values(2), STAIN)))
    assert told["thresholds"] == {"Hematoxylin": 0.1, "DAB": 0.25}
    assert told["threshold_unit"] == "optical density"


def test_the_origin_is_the_scanned_part_where_it_is_asked_for(result):
    object.__setattr__(result.layout, "slide_bounds", Region(7, 3, Size(20, 20)))
    assert request_of(result).offset == YX(0, 0)
    assert request_of(result, origin="bounds").offset == YX(7, 3)


def test_the_scanned_part_is_kept_in_a_result(tmp_path):
    from dataclasses import replace

    from napari_wsiseg.memory import Workspace
    from napari_wsiseg.store import MapWriter, RunInfo

    bounds = Region(7, 3, Size(20, 20))
    layout = replace(map_of(values(), SOFTMAX).layout, slide_bounds=bounds)
    path = tmp_path / "a.ome.zarr"
    MapWriter.create(path, layout, RunInfo({}), Workspace(10**9, tmp_path)).close()
    assert ProbabilityMap.open(path).slide_bounds == bounds


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"format": "shapefile"}, ExportError, "there are geojson, ome-tiff"),
        ({"format": "csv", "path": "a.txt"}, ExportError, r"end in \.csv"),
        ({"format": "csv", "per": "class"}, ExportError, "no field 'per'"),
        ({"format": "geojson", "per": "slide"}, ExportError, "per cannot be 'slide'"),
        ({"format": "png"}, ExportError, "slide"),
        ({"classes": ["Tumor"]}, JobError, "did you mean 'Tumour'"),
        ({"classes": []}, ExportError, "at least one class"),
        ({"classes": "Tumour"}, ExportError, "give a list"),
        ({"aliases": {"Tumor": "T"}}, JobError, "did you mean 'Tumour'"),
        ({"aliases": {"Tumour": ""}}, ExportError, "cannot be called ''"),
        ({"rule": DecisionRule({"tumour": 0.5})}, JobError, "did you mean 'Tumour'"),
        ({"origin": "corner"}, ExportError, "origin cannot be 'corner'"),
        (
            {"origin": "bounds", "format": "ome-tiff", "path": "a.ome.tif"},
            ExportError,
            "The origin of ome-tiff cannot be 'bounds'",
        ),
        (
            {"origin": "bounds", "format": "csv", "path": "a.csv"},
            ExportError,
            "begins at the slide",
        ),
        ({"path": "none/a.geojson"}, ExportError, "There is no folder"),
    ],
    ids=str,
)
def test_bad_questions_are_one_error_before_any_work(
    tmp_path, monkeypatch, result, arguments, error, words
):
    monkeypatch.chdir(tmp_path)
    before = names_in(tmp_path)
    with pytest.raises(error, match=words):
        export(result, **{"path": "a.geojson", **arguments})
    assert names_in(tmp_path) == before


def test_a_map_in_memory_needs_a_path(tmp_path):
    with map_of(values(), SOFTMAX, mpp=None) as pm:
        with pytest.raises(ExportError, match="in memory"):
            export(pm)
        with pytest.raises(JobError, match="no scale"):
            export(pm, tmp_path / "a.csv", "csv", cleanup=Cleanup(min_object_um2=3))


def test_qupaths_names_are_known(tmp_path):
    path = export(map_of(values(), SOFTMAX), tmp_path / "a.geojson", aliases="qupath")
    names = {
        feature["properties"]["classification"]["name"]
        for feature in json.loads(path.read_text())["features"]
    }
    assert names == {"Tumor", "Stroma", "Other"}


def corrected(tmp_path, spec, **options):
    """A result of which the upper left was painted over, glass and all."""
    tissue = np.ones(SHAPE, bool)
    tissue[:5] = False
    path = tmp_path / "corrected.ome.zarr"
    pm = map_of(values(len(spec.classes)), spec, path=path, tissue=tissue, **options)
    ws.correct(pm, Region(0, 0, Size(20, 30)), np.full((20, 30), 2))
    return pm


@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID, STAIN], ids=lambda spec: spec.name)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_corrected_labels_and_says_so(tmp_path, name, spec):
    with corrected(tmp_path, spec) as pm:
        with LabelMap(pm, corrected=True) as labels:
            found = labels.read(Region(0, 0, pm.size)).labels[0]
        path = tmp_path / f"out{FORMATS[name].suffixes[0]}"
        export(pm, path, name, corrected=True, **options_of(name))
        (record,) = [correction.json() for correction in ws.corrections(pm)]
    assert np.count_nonzero(found == 2) >= 600
    made = provenance_in(path, name)
    assert made["corrections"] == [record]
    pixels = {i + 1: int((found == i + 1).sum()) for i in range(len(spec.classes))}
    match name:
        case "geojson":
            features = json.loads(path.read_text())["features"]
            areas = {f["properties"]["classification"]["name"]: measured(f) for f in features}
            assert areas == {
                spec.classes[code - 1]: count * 0.25 for code, count in pixels.items() if count
            }
            assert "predicted)" not in path.read_text()
        case "ome-zarr":
            root = zarr.open_group(path, mode="r")
            np.testing.assert_array_equal(root["labels/classes/0"][:], found)
        case "ome-tiff":
            with tifffile.TiffFile(path) as tiff:
                np.testing.assert_array_equal(tiff.asarray(), found)
                assert "labels corrected by hand" in tiff.ome_metadata
        case "csv":
            rows = csv.DictReader(
                line for line in path.read_text().splitlines() if not line.startswith("#")
            )
            counted = {row["class"]: int(row["pixels"]) for row in rows}
            assert [counted[name] for name in spec.classes] == list(pixels.values())


def measured(feature):
    return feature["properties"]["measurements"]["Area µm^2 (corrected)"]


def provenance_in(path, name):
    """As a reader of that format finds it."""
    match name:
        case "geojson":
            return json.loads(path.read_text())["napari_wsiseg"]
        case "ome-zarr":
            return zarr.open_group(path, mode="r").attrs["napari_wsiseg"]
        case "csv":
            return json.loads(path.read_text().splitlines()[1].removeprefix("# "))
        case "png":
            with Image.open(path) as picture:
                return json.loads(picture.text["napari_wsiseg"])
        case "annotation-store":
            with closing(sqlite3.connect(path)) as database:
                query = "SELECT value FROM metadata WHERE key = 'napari_wsiseg'"
                return json.loads(database.execute(query).fetchone()[0])
    with tifffile.TiffFile(path) as tiff:
        root = ET.fromstring(tiff.ome_metadata)
    (entry,) = (entry for entry in root.iter() if entry.get("K") == "corrections")
    return {"corrections": json.loads(entry.text)}


def test_corrected_labels_go_into_the_result_as_one_image(tmp_path):
    with corrected(tmp_path, SIGMOID) as pm:
        path = export(pm, format="ome-zarr", corrected=True)
        group = zarr.open_group(path, mode="r")
        with LabelMap(pm, corrected=True) as labels:
            found = labels.read(Region(0, 0, pm.size)).labels[0]
    assert path.name == "tissue-classes"
    np.testing.assert_array_equal(group["0"][:], found)


def test_what_was_corrected_is_replaced_by_no_export(tmp_path, result):
    for overwrite in (False, True):
        with pytest.raises(ExportError, match="corrected by hand"):
            export(result, result.path / "labels" / "corrected", "ome-zarr", overwrite=overwrite)
    assert not ws.has_corrections(result)
    with corrected(tmp_path, SOFTMAX) as pm, pytest.raises(ExportError, match="not corrected"):
        export(pm, tmp_path / "p.ome.tif", "ome-tiff", corrected=True, content="probabilities")


def test_labels_of_the_model_say_that_nobody_corrected_them(tmp_path):
    with corrected(tmp_path, SOFTMAX) as pm:
        path = export(pm, tmp_path / "out.geojson")
    assert provenance_in(path, "geojson")["corrections"] == []
    assert "(predicted)" in path.read_text()
    assert "(corrected)" not in path.read_text()
