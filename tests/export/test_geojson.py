"""GeoJSON that QuPath takes: its rules, read by orjson and shapely on the whole file."""

from __future__ import annotations

import gzip
import uuid
from collections import Counter

import numpy as np
import orjson
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from maps import STAIN, map_of
from napari_wsiseg.errors import ExportError
from napari_wsiseg.export import geojson
from napari_wsiseg.export.geojson import GeoJsonWriter
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.geometry import YX
from outline_cases import even_odd, exclusive, independent, layered, numbered, request_of

AREA, MEAN = "Area µm^2 (predicted)", "Mean probability (predicted)"


def written(request, folder, name="a.geojson", **options):
    """The file's bytes, and the remarks."""
    partial = folder / f"{name}.{uuid.uuid4().hex}.partial"
    steps = list(GeoJsonWriter(**options).write(request, partial, folder / name))
    assert all(0 <= step.part <= 1 for step in steps)
    assert steps[-1].stage == "checking"
    assert steps[-1].part == 1
    content = partial.read_bytes()
    partial.unlink()
    assert list(folder.iterdir()) == []
    return content, [step.remark for step in steps if step.remark]


def features(content, object_type="annotation"):
    """Its features, as far as QuPath's rules are kept."""
    root = orjson.loads(content)
    assert list(root) == ["type", "napari_wsiseg", "features"]
    assert root["type"] == "FeatureCollection"
    for feature in root["features"]:
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert set(feature) == {"type", "id", "properties", "geometry"}
        values = feature["properties"]
        assert values["objectType"] == object_type
        assert set(values["classification"]) == {"name", "color"}
        assert len(values["classification"]["color"]) == 3
        assert all(isinstance(part, int) for part in values["classification"]["color"])
        assert all(name.endswith(" (predicted)") for name in values["measurements"])
        assert feature["geometry"]["type"] in {"Polygon", "MultiPolygon"}
        polygons = feature["geometry"]["coordinates"]
        for polygon in [polygons] if feature["geometry"]["type"] == "Polygon" else polygons:
            for ring in polygon:
                assert len(ring) >= 4
                assert ring[0] == ring[-1]
                assert all(value == round(value, 2) for point in ring for value in point)
    ids = [feature["id"] for feature in root["features"]]
    assert len(set(ids)) == len(ids)
    return root["features"]


def geometry(feature):
    """As shapely sees it, snapped as QuPath does; valid as a whole."""
    found = shapely.geometry.shape(feature["geometry"])
    snapped = shapely.transform(found, lambda points: np.round(points * 100) / 100)
    for shape in (found, snapped):
        assert shape.is_valid, shapely.is_valid_reason(shape)
    return found


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
@settings(max_examples=40)
@given(labels=layered(), chunk=st.integers(2, 8).map(lambda half: 2 * half))
def test_a_multipolygon_a_class(tmp_path_factory, name, labels, chunk):
    pm, stored = exclusive(labels, chunk=chunk)
    with pm:
        content, _ = written(request_of(pm), tmp_path_factory.mktemp("a"), name)
    if name.endswith("gz"):
        content = gzip.decompress(content)
    found = features(content)
    codes = [code for code in (1, 2, 3) if (labels == code).any()]
    assert [f["properties"]["classification"]["name"] for f in found] == [
        pm.classes[code - 1] for code in codes
    ]
    for code, feature in zip(codes, found, strict=True):
        assert feature["geometry"]["type"] == "MultiPolygon"
        shape = geometry(feature)
        np.testing.assert_array_equal(even_odd(shape, labels.shape), labels == code)
        assert shape.area == (labels == code).sum()
        measured = feature["properties"]["measurements"]
        assert measured == {
            AREA: shape.area * 0.25,
            MEAN: pytest.approx(stored[labels == code].mean() / 255),
            "Objects (predicted)": numbered(labels == code),
        }


@settings(max_examples=40)
@given(
    labels=layered(),
    chunk=st.integers(2, 8).map(lambda half: 2 * half),
    kind=st.sampled_from(("annotation", "detection")),
)
def test_a_feature_an_object(tmp_path_factory, labels, chunk, kind):
    pm, stored = exclusive(labels, chunk=chunk)
    with pm:
        content, _ = written(
            request_of(pm), tmp_path_factory.mktemp("a"), per="object", object_type=kind
        )
    found = features(content, kind)
    assert len(found) == numbered(labels)
    drawn = np.zeros_like(labels)
    for feature in found:
        assert feature["geometry"]["type"] == "Polygon"
        inside = even_odd(geometry(feature), labels.shape)
        name = feature["properties"]["classification"]["name"]
        drawn[inside] = pm.classes.index(name) + 1
        measured = feature["properties"]["measurements"]
        assert set(measured) == {AREA, MEAN}
        assert measured[AREA] == inside.sum() * 0.25
        assert measured[MEAN] == pytest.approx(stored[inside].mean() / 255)
    np.testing.assert_array_equal(drawn, labels)


@settings(max_examples=30)
@given(labels=layered(1), um=st.sampled_from((0.5, 2.0)), per=st.sampled_from(("class", "object")))
def test_simplified_files_are_valid_and_their_areas_exact(tmp_path_factory, labels, um, per):
    with independent(labels, 1 - labels, chunk=8) as pm:
        content, _ = written(request_of(pm), tmp_path_factory.mktemp("a"), per=per, simplify_um=um)
    areas = Counter()
    for feature in features(content):
        geometry(feature)
        areas[feature["properties"]["classification"]["name"]] += feature["properties"][
            "measurements"
        ][AREA]
    assert areas["Nuclei"] == (labels > 0).sum() * 0.25
    assert areas["Glands"] == (labels == 0).sum() * 0.25


def one_object(**options):
    values = np.zeros((2, 8, 8))
    values[1, 2:4, 2:6] = 0.4
    return map_of(values, STAIN, chunk=8, **options)


def test_names_colours_and_provenance_are_the_requests(tmp_path):
    with one_object(provenance={"slide": {"stem": 'a "slide" µ'}}) as pm:
        plain = request_of(pm)
        name = 'DAB "brown", \\ geometry":[]} é'
        request = ExportRequest(plain.labels, (2,), {2: name}, "bounds")
        for per in ("class", "object"):
            content, remarks = written(request, tmp_path, per=per)
            (feature,) = features(content)
            expected = {"name": name, "color": list(request.rgb(2))}
            assert feature["properties"]["classification"] == expected
            assert feature["properties"]["measurements"]["Mean OD (predicted)"] == 0.8
            assert orjson.loads(content)["napari_wsiseg"] == orjson.loads(
                orjson.dumps(provenance(request))
            )
            assert remarks == []
            again, _ = written(request, tmp_path, per=per)
            assert again == content


def test_without_a_scale_areas_are_level_0_pixels(tmp_path):
    with one_object(mpp=None, downsample=YX(2, 3)) as pm:
        content, _ = written(request_of(pm), tmp_path)
        (feature,) = features(content)
        assert feature["properties"]["measurements"]["Area px^2 (predicted)"] == 8 * 6
        assert geometry(feature).bounds == (6, 4, 18, 8)
        with pytest.raises(ExportError, match="no scale"):
            written(request_of(pm), tmp_path, simplify_um=1)


@pytest.mark.parametrize("per", ["class", "object"])
def test_nothing_to_export_is_a_file_without_features(tmp_path, per):
    with one_object() as pm:
        assert features(written(request_of(pm, codes=(1,)), tmp_path, per=per)[0]) == []


def test_packed_files_hold_no_time(tmp_path):
    with one_object() as pm:
        content, _ = written(request_of(pm), tmp_path, "b.json.GZ")
    assert content[:2] == b"\x1f\x8b"
    assert content[3:8] == bytes(5)
    assert len(features(gzip.decompress(content))) == 1


def test_classes_may_share_a_name(tmp_path):
    labels = np.array([[1, 2, 0, 3]], np.uint8)
    pm, _ = exclusive(labels, chunk=4)
    with pm:
        plain = request_of(pm)
        request = ExportRequest(plain.labels, (1, 2, 3), {1: "A", 2: "A", 3: "B"}, "slide")
        for per in ("class", "object"):
            found = features(written(request, tmp_path, per=per)[0])
            names = [feature["properties"]["classification"]["name"] for feature in found]
            assert names == ["A", "A", "B"]


def test_many_annotations_are_remarked(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "MANY_ANNOTATIONS", 3)
    labels = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], np.uint8)
    pm, _ = exclusive(labels, chunk=4)
    with pm:
        request = request_of(pm)
        (remark,) = written(request, tmp_path, per="object")[1]
        assert "4 annotations" in remark
        assert "detection" in remark
        assert "smallest area of objects" in remark
        assert written(request, tmp_path, per="object", object_type="detection")[1] == []
        assert written(request, tmp_path)[1] == []


def test_numbers_that_are_not_finite_are_words():
    said = [geojson._number(value) for value in (float("nan"), float("inf"), -float("inf"), 0.1)]
    assert said == ['"NaN"', '"Infinity"', '"-Infinity"', "0.1"]


@pytest.mark.parametrize("per", ["class", "object"])
@pytest.mark.parametrize(
    ("what", "to"),
    [
        (b"[2,2]", b"[2,3]"),
        (b"[2,2]", b"[2,2"),
        (b"[2,2],[6,2]", b"[2,2],[6,2.01]"),
        (b"[2,4],[2,2]]", b"[2,4]]"),
        (b"]]]", b"]]],"),
        (b'"Feature"', b'"Feature'),
        (b"\n]}\n", b"\n]}\n]}\n"),
        (b"\n]}\n", b""),
        (b"optical density", b"optical densitY"),
        (b"[[[2,2],[6,2],[6,4],[2,4],[2,2]]]", b"[[[2,2],[6,4],[6,2],[2,4],[2,2]]]"),
    ],
)
def test_what_does_not_read_back_is_an_error(tmp_path, per, what, to):
    """The file is damaged between writing and reading."""
    partial = tmp_path / "partial"
    with one_object() as pm:
        steps = GeoJsonWriter(per=per).write(request_of(pm), partial, tmp_path / "a.geojson")
        while next(steps).part < 1 or not partial.read_bytes().endswith(b"\n]}\n"):
            pass
        content = partial.read_bytes()
        assert content.count(what) >= 1
        partial.write_bytes(content.replace(what, to, 1))
        with pytest.raises(ExportError, match=r"GeoJSON did not read back|edges of the map"):
            list(steps)


@pytest.mark.parametrize(
    "options", [{"per": "slide"}, {"object_type": "cell"}, {"simplify_um": -1}, {"simplify": 1}]
)
def test_bad_options(options):
    with pytest.raises(ExportError, match=next(iter(options))):
        GeoJsonWriter(**options)


def test_an_export_that_is_stopped_leaves_no_spool(tmp_path):
    with one_object() as pm:
        steps = GeoJsonWriter().write(request_of(pm), tmp_path / "partial", tmp_path / "a.geojson")
        next(steps)
        assert len(list(tmp_path.iterdir())) == 2
        steps.close()
    assert [path.name for path in tmp_path.iterdir()] == ["partial"]
