"""OME-Zarr labels: what other readers see, inside a result and as a copy of their own."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from maps import SIGMOID, SOFTMAX, map_of
from napari_wsiseg.errors import ExportError, StoreError
from napari_wsiseg.export.omezarr import OmeZarrWriter, folder_names
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import DecisionRule, LabelMap
from napari_wsiseg.labels.pyramid import LabelPyramid
from napari_wsiseg.store import ProbabilityMap, is_export, is_result
from napari_wsiseg.store.label_images import list_label
from napari_wsiseg.store.lock import WriterLock

with warnings.catch_warnings():
    # Their own: pydantic's `json_encoders`, deprecated, and more of the kind.
    warnings.simplefilter("ignore")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models.v05 import Image, ImageLabel
    from ome_zarr_models.v05.labels import Labels

SHAPE = (70, 101)
CHUNK = 16


def random_map(spec=SOFTMAX, path=None, **options):
    rng = np.random.default_rng(3)
    values = np.kron(rng.random((len(spec.classes), 18, 26)), np.ones((4, 4)))
    covered = np.kron(rng.random((5, 7)) < 0.7, np.ones((16, 16), bool))[: SHAPE[0], : SHAPE[1]]
    tissue = np.kron(rng.random((9, 13)) < 0.8, np.ones((8, 8), bool))[: SHAPE[0], : SHAPE[1]]
    return map_of(
        values[:, : SHAPE[0], : SHAPE[1]], spec, coverage=covered, tissue=tissue, chunk=CHUNK,
        path=path, **options,
    )  # fmt: skip


def request_of(pm, codes=None, origin="slide"):
    codes = codes or tuple(range(1, len(pm.classes) + 1))
    names = {code: pm.classes[code - 1] for code in codes}
    return ExportRequest(LabelMap(pm, DecisionRule(default=0.3)), codes, names, origin)


def write(request, target, **options):
    """As `export` does it: to another name first."""
    partial = target.with_name(f".{target.name}.partial")
    steps = list(OmeZarrWriter(**options).write(request, partial, target))
    partial.rename(target)
    for stage in ("writing", "checking"):
        parts = [step.part for step in steps if step.stage == stage]
        assert parts == sorted(parts)
        assert parts[-1] == 1
    return zarr.open_group(target, mode="r")


def layers_of(request):
    read = request.labels.read(Region(0, 0, request.labels.size))
    return [request.exported(labels) for labels in read.labels], read.block


@pytest.fixture
def result(tmp_path):
    with random_map(path=tmp_path / "map.ome.zarr") as pm:
        yield pm


def test_inside_a_result_models_and_readers_accept_it(result):
    request = request_of(result)
    group = write(request, result.path / "labels" / "mine")
    list_label(result.path, "mine")
    root = zarr.open_group(result.path, mode="r")
    assert root["labels"].attrs["ome"] == {"version": "0.5", "labels": ["tissue", "mine"]}
    Image.from_zarr(root)
    Labels.from_zarr(root["labels"])
    label = ImageLabel.from_zarr(group).attributes.ome
    assert len(label.multiscales[0].datasets) == len(result.levels)
    assert label.image_label.source.image == "../../"
    (expected,), _ = layers_of(request)
    nodes = {node.zarr.basename(): node for node in Reader(parse_url(result.path))()}
    mine = nodes["mine"]
    np.testing.assert_array_equal(mine.data[0].compute(), expected)
    assert [level.shape for level in mine.data] == [level.shape[1:] for level in result.levels]
    assert mine.metadata["color"][2] == [v / 255 for v in (*request.rgb(2), 255)]
    assert mine.metadata["properties"][2]["name"] == "Stroma"
    # The result is as good a result as it was.
    assert ProbabilityMap.open(result.path).layout == result.layout


def test_a_result_lists_a_label_once_and_keeps_what_it_says_else(result):
    path = result.path / "labels" / "zarr.json"
    group = json.loads(path.read_text())
    group["attributes"]["other"] = 1
    path.write_text(json.dumps(group))
    for name in ("a", "b", "a"):
        list_label(result.path, name)
    group["attributes"]["ome"]["labels"] = ["tissue", "a", "b"]
    assert json.loads(path.read_text()) == group
    assert sorted(file.name for file in path.parent.iterdir()) == ["tissue", "zarr.json"]


def test_a_result_without_labels_gets_a_list(tmp_path):
    with map_of(np.ones((3, 20, 20)), SOFTMAX, path=tmp_path / "m.ome.zarr") as pm:
        (pm.path / "labels").mkdir()
        write(request_of(pm), pm.path / "labels" / "mine")
        list_label(pm.path, "mine")
        Labels.from_zarr(zarr.open_group(pm.path / "labels", mode="r"))
        names = [node.zarr.basename() for node in Reader(parse_url(pm.path))()]
    assert "mine" in names


@pytest.mark.parametrize("text", ["", "[]", '{"attributes": {"ome": {"labels": 3}}}'])
def test_a_damaged_list_is_said_and_left(result, text):
    path = result.path / "labels" / "zarr.json"
    path.write_text(text)
    with pytest.raises(StoreError, match="list of the result's label images"):
        list_label(result.path, "mine")
    assert path.read_text() == text


def test_a_copy_is_an_image_of_the_coverage_with_labels(tmp_path):
    with random_map() as pm:
        request = request_of(pm, codes=(1, 3))
        root = write(request, tmp_path / "copy.ome.zarr")
        (expected,), block = layers_of(request)
        assert set(np.unique(expected)) == {0, 1, 3}
        image = Image.from_zarr(root)
        assert image.attributes.ome.multiscales[0].datasets[1].path == "coverage/1"
        assert Labels.from_zarr(root["labels"]).label_paths == ["classes"]
        ImageLabel.from_zarr(root["labels/classes"])
        nodes = {
            node.zarr.basename(): node for node in Reader(parse_url(tmp_path / "copy.ome.zarr"))()
        }
        np.testing.assert_array_equal(nodes["classes"].data[0].compute(), expected)
        np.testing.assert_array_equal(nodes["copy.ome.zarr"].data[0].compute(), block.coverage)
        for level, coverage in enumerate(pm.coverage):
            array = root[f"coverage/{level}"]
            assert array.dtype == bool
            np.testing.assert_array_equal(array[:], coverage.compute())
        assert root.attrs["napari_wsiseg"] == json.loads(json.dumps(provenance(request)))
    assert is_export(tmp_path / "copy.ome.zarr")
    assert not is_result(tmp_path / "copy.ome.zarr")
    assert str(tmp_path) not in (tmp_path / "copy.ome.zarr" / "zarr.json").read_text()


def test_overlapping_classes_have_an_image_each(tmp_path):
    spec = replace(SIGMOID, classes=("A/B", "a b"))
    with random_map(spec) as pm:
        request = request_of(pm)
        root = write(request, tmp_path / "copy.zarr")
        expected, _ = layers_of(request)
    names = Labels.from_zarr(root["labels"]).label_paths
    assert names == ["A-B", "a-b-2"]
    both = np.ones(SHAPE, bool)
    for code, (name, labels) in enumerate(zip(names, expected, strict=True), 1):
        np.testing.assert_array_equal(root[f"labels/{name}/0"][:], labels)
        (entry,) = root[f"labels/{name}"].attrs["ome"]["image-label"]["properties"]
        assert (entry["label-value"], entry["name"]) == (code, spec.classes[code - 1])
        both &= labels == code
    assert both.any()


def test_inside_a_result_overlapping_classes_come_one_by_one(tmp_path):
    with random_map(SIGMOID, tmp_path / "m.ome.zarr") as pm:
        target = pm.path / "labels" / "mine"
        with pytest.raises(ExportError, match="Nuclei, Glands may overlap"):
            write(request_of(pm), target)
        request = request_of(pm, codes=(2,))
        group = write(request, target.with_name("mine-Glands"))
        (_, expected), _ = layers_of(request)
    np.testing.assert_array_equal(group["0"][:], expected)
    assert set(np.unique(expected)) == {0, 2}


def test_arrays_are_as_the_format_says(result, tmp_path):
    inside = write(request_of(result), result.path / "labels" / "mine")
    copy = write(request_of(result), tmp_path / "copy.zarr")
    for group in (inside, copy["labels/classes"]):
        for level, dataset in enumerate(group.attrs["ome"]["multiscales"][0]["datasets"]):
            array = group[dataset["path"]]
            assert array.metadata.dimension_names == ("y", "x")
            assert array.chunks == (CHUNK, CHUNK)
            assert array.dtype == np.uint8
            factor = 2**level
            scale, *rest = dataset["coordinateTransformations"]
            assert scale == {"type": "scale", "scale": [0.5 * factor, 0.5 * factor]}
            shift = 0.5 * (factor - 1) / 2
            moved = [{"type": "translation", "translation": [shift, shift]}]
            assert rest == (moved if level else [])
    files = {file.name for file in (result.path / "labels" / "mine" / "0" / "c").rglob("*")}
    assert files
    assert not list(result.path.rglob("*.partial"))


def test_chunks_without_a_label_have_no_file(tmp_path):
    values = np.zeros((2, 64, 64))
    values[0, :16, :16] = 1
    with map_of(values, SIGMOID) as pm:
        write(request_of(pm), tmp_path / "copy.zarr")
    chunks = tmp_path / "copy.zarr" / "labels" / "Nuclei" / "0" / "c"
    assert [
        file.relative_to(chunks).as_posix() for file in chunks.rglob("*") if file.is_file()
    ] == ["0/0"]


def test_areas_are_those_of_level_0(tmp_path):
    with random_map(mpp=YX(0.5, 0.25)) as pm:
        request = request_of(pm)
        root = write(request, tmp_path / "copy.zarr")
        (expected,), _ = layers_of(request)
    for entry in root["labels/classes"].attrs["ome"]["image-label"]["properties"]:
        pixels = int((expected == entry["label-value"]).sum())
        assert entry["pixels"] == pixels
        assert entry["area_mm2"] == pytest.approx(pixels * 0.125e-6)


def test_without_a_scale_no_area_is_given(tmp_path):
    with random_map(mpp=None, downsample=YX(4.0, 2.0)) as pm:
        root = write(request_of(pm), tmp_path / "copy.zarr")
    group = root["labels/classes"]
    ImageLabel.from_zarr(group)
    properties = group.attrs["ome"]["image-label"]["properties"]
    assert all(set(entry) == {"label-value", "name", "pixels"} for entry in properties)
    multiscale = group.attrs["ome"]["multiscales"][0]
    assert all("unit" not in axis for axis in multiscale["axes"])
    assert multiscale["datasets"][0]["coordinateTransformations"][0]["scale"] == [4.0, 2.0]


def test_what_was_not_analysed_may_be_told_apart(tmp_path):
    with random_map() as pm:
        request = request_of(pm)
        root = write(request, tmp_path / "copy.zarr", not_analysed=255)
        (expected,), block = layers_of(request)
    expected[~block.analysed] = 255
    assert (expected == 0).any()
    group = root["labels/classes"]
    np.testing.assert_array_equal(group["0"][:], expected)
    last = ImageLabel.from_zarr(group).attributes.ome.image_label.properties[-1]
    assert (last.label_value, last.name) == (255, "Outside the analysed tissue")


@pytest.mark.parametrize("mpp", [YX(0.5, 0.25), None])
def test_a_copy_from_the_bounds_corner_is_moved(tmp_path, monkeypatch, mpp):
    with random_map(mpp=mpp, downsample=YX(2.0, 4.0)) as pm:
        bounds = Region(30, 44, Size(100, 300))
        monkeypatch.setattr(type(pm), "slide_bounds", bounds)
        root = write(request_of(pm, origin="bounds"), tmp_path / "copy.zarr")
    # In map pixels the corner is 15 down, 11 to the right.
    pixel = mpp or YX(2.0, 4.0)
    for group in (root, root["labels/classes"]):
        for level, dataset in enumerate(group.attrs["ome"]["multiscales"][0]["datasets"]):
            _, moved = dataset["coordinateTransformations"]
            shift = (2**level - 1) / 2
            expected = [(shift - 15) * pixel.y, (shift - 11) * pixel.x]
            np.testing.assert_allclose(moved["translation"], expected)


def test_inside_a_result_labels_lie_as_the_map(result, monkeypatch):
    monkeypatch.setattr(type(result), "slide_bounds", Region(30, 44, Size(40, 40)))
    with pytest.raises(ExportError, match="origin 'slide'"):
        write(request_of(result, origin="bounds"), result.path / "labels" / "mine")
    write(request_of(result), result.path / "labels" / "mine")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("labels/tissue", "tissue mask"),
        ("mine.ome.zarr", "inside the result"),
        ("labels/tissue/mine", "inside the result"),
    ],
)
def test_nothing_else_of_a_result_is_touched(result, place, words):
    before = sorted(result.path.rglob("*"))
    with pytest.raises(ExportError, match=words):
        write(request_of(result), result.path / place)
    assert sorted(result.path.rglob("*")) == before


def test_a_result_takes_no_labels_of_another(result, tmp_path):
    other = tmp_path / "other.ome.zarr"
    shutil.copytree(result.path, other)
    with pytest.raises(ExportError, match="another result"):
        write(request_of(result), other / "labels" / "mine")
    # A relative path, or a link to the result, is the result.
    link = tmp_path / "link.ome.zarr"
    link.symlink_to(result.path)
    write(request_of(result), link / "labels" / "mine")


def test_a_result_that_is_being_written_takes_no_labels(result):
    lock = WriterLock.acquire(result.path)
    with pytest.raises(ExportError, match=r"being written by a run.*copy"):
        write(request_of(result), result.path / "labels" / "mine")
    write(request_of(result), result.path.with_name("copy.zarr"))
    lock.release()


def test_a_map_of_nothing_covered_gives_empty_labels(tmp_path):
    nothing = np.zeros((40, 50), bool)
    with map_of(np.ones((3, 40, 50)), SOFTMAX, coverage=nothing) as pm:
        root = write(request_of(pm), tmp_path / "copy.zarr")
    Image.from_zarr(root)
    assert not root["labels/classes/0"][:].any()
    assert not root["coverage/0"][:].any()
    properties = root["labels/classes"].attrs["ome"]["image-label"]["properties"]
    assert [entry["pixels"] for entry in properties] == [0, 0, 0]


def test_a_chunk_that_is_lost_is_noticed(tmp_path, monkeypatch):
    finish = LabelPyramid.finish

    def lose(self):
        finish(self)
        chunks = tmp_path / ".copy.zarr.partial" / "labels" / "classes" / "1" / "c"
        next(file for file in chunks.rglob("*") if file.is_file()).unlink()

    monkeypatch.setattr(LabelPyramid, "finish", lose)
    with (
        random_map() as pm,
        pytest.raises(ExportError, match=r"copy\.zarr.labels.classes.1 did not read back"),
    ):
        write(request_of(pm), tmp_path / "copy.zarr")


def test_bad_options():
    for options in ({"not_analysed": 254}, {"not_analysed": 0}, {"else": 1}):
        with pytest.raises(ExportError):
            OmeZarrWriter(**options)


@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=8))
def test_folder_names_are_safe_and_different(names):
    folders = folder_names(names)
    assert len({folder.casefold() for folder in folders}) == len(names)
    for folder in folders:
        assert folder
        assert not set(folder) & set('/\\:*?"<>| \n\0')
        assert folder.strip(".") == folder
        assert len(folder.encode()) <= 255


def test_ordinary_names_stay():
    assert len(folder_names(["ß" * 900])[0].encode()) <= 255
    names = ["Tumour", "DAB+", "Immune cells", "aux", "Drüse", "..", "tumour"]
    assert folder_names(names) == [
        "Tumour", "DAB+", "Immune-cells", "class-aux", "Drüse", "class", "tumour-2",
    ]  # fmt: skip
