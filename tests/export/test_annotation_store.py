"""An AnnotationStore as TIAToolbox reads it: the schema by columns' places, WKB in zlib."""

from __future__ import annotations

import json
import sqlite3
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from maps import STAIN, map_of
from napari_wsiseg.errors import ExportError
from napari_wsiseg.export import annotation_store_check
from napari_wsiseg.export.annotation_store import AnnotationStoreWriter
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.geometry import YX
from outline_cases import even_odd, exclusive, independent, layered, numbered, request_of

CHUNKS = st.integers(2, 8).map(lambda half: 2 * half)


def written(request, folder, name="a.db", **options):
    """Path of the file, which is all that there is; and the remarks."""
    partial = folder / f"{name}.partial"
    partial.unlink(missing_ok=True)
    steps = list(AnnotationStoreWriter(**options).write(request, partial, folder / name))
    assert all(0 <= step.part <= 1 for step in steps)
    assert steps[-1].stage == "checking"
    assert steps[-1].part == 1
    assert list(folder.iterdir()) == [partial]
    return partial, [step.remark for step in steps if step.remark]


def rows(path):
    """All annotations, each as shapely geometry and properties; the rest is compared here."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found = list(database.execute("SELECT * FROM annotations ORDER BY id"))
        boxes = {row[0]: row[1:] for row in database.execute("SELECT * FROM rtree")}
    assert len(boxes) == len(found)
    assert len({row[1] for row in found}) == len(found)
    known = []
    for number, _, kind, cx, cy, blob, properties, area in found:
        wkb = zlib.decompress(blob)
        assert wkb[0] == 1
        shape = shapely.from_wkb(wkb)
        assert not shape.has_z
        assert shape.geom_type == kind
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert (cx, cy) == pytest.approx((shape.centroid.x, shape.centroid.y))
        assert area == pytest.approx(shape.area)
        left, low, right, high = shape.bounds
        assert boxes[number] == pytest.approx((left, right, low, high))
        values = json.loads(properties)
        assert properties == json.dumps(values, separators=(",", ":"), ensure_ascii=False)
        assert list(values) == ["type", "class", "color"]
        assert all(0 <= part <= 1 for part in values["color"])
        known.append((shape, values))
    return known


@settings(max_examples=40)
@given(labels=layered(), chunk=CHUNKS, per=st.sampled_from(("object", "class")))
def test_rows_rasterised_are_the_labels(tmp_path_factory, labels, chunk, per):
    pm, _ = exclusive(labels, chunk=chunk)
    with pm:
        path, _ = written(request_of(pm), tmp_path_factory.mktemp("a"), per=per)
    found = rows(path)
    drawn = np.zeros_like(labels)
    for shape, values in found:
        assert values["type"] == pm.classes[values["class"]]
        inside = even_odd(shape, labels.shape)
        assert shape.area == inside.sum()
        assert not drawn[inside].any()
        drawn[inside] = values["class"] + 1
    np.testing.assert_array_equal(drawn, labels)
    codes = set(labels.ravel()) - {0}
    assert len(found) == (len(codes) if per == "class" else numbered(labels))


@settings(max_examples=20)
@given(labels=layered(1), um=st.sampled_from((0.5, 2.0)), per=st.sampled_from(("class", "object")))
def test_simplified_rows_are_valid(tmp_path_factory, labels, um, per):
    with independent(labels, 1 - labels, chunk=8) as pm:
        folder = tmp_path_factory.mktemp("a")
        found = rows(written(request_of(pm), folder, per=per, simplify_um=um)[0])
    if per == "object":
        assert len(found) == numbered(labels) + numbered(1 - labels)


def one_object(**options):
    values = np.zeros((2, 8, 8))
    values[1, 2:4, 2:6] = 0.4
    return map_of(values, STAIN, chunk=8, **options)


def test_the_schema_is_the_toolboxs(tmp_path):
    with one_object(downsample=YX(2, 3)) as pm:
        request = request_of(pm)
        path, _ = written(request, tmp_path)
        made = provenance(request)
    with closing(sqlite3.connect(path)) as database:
        columns = {
            table: [
                (name, kind, required, key)
                for _, name, kind, required, _, key in database.execute(
                    "SELECT * FROM pragma_table_info(?)", (table,)
                )
            ]
            for table in ("annotations", "metadata")
        }
        names = [row[1] for row in database.execute("PRAGMA table_info(rtree)")]
        metadata = dict(database.execute("SELECT key, value FROM metadata"))
        (mode,) = database.execute("PRAGMA journal_mode").fetchone()
        (row,) = database.execute("SELECT * FROM annotations")
        with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE.*annotations\.key"):
            database.execute(
                "INSERT INTO annotations VALUES (9, ?, 'Point', 0, 0, NULL, '{}', 0)", (row[1],)
            )
    assert columns["annotations"] == [
        ("id", "INTEGER", 0, 1),
        ("key", "TEXT", 0, 0),
        ("objtype", "TEXT", 0, 0),
        ("cx", "FLOAT", 1, 0),
        ("cy", "FLOAT", 1, 0),
        ("geometry", "BLOB", 0, 0),
        ("properties", "TEXT", 0, 0),
        ("area", "FLOAT", 1, 0),
    ]
    assert columns["metadata"] == [("key", "TEXT", 0, 0), ("value", "TEXT", 0, 0)]
    assert names == ["id", "min_x", "max_x", "min_y", "max_y"]
    assert mode == "delete"
    assert metadata["version"] == '"1.0.1"'
    assert metadata["compression"] == '"zlib"'
    assert metadata["compression_level"] == "9"
    assert json.loads(metadata["napari_wsiseg"]) == json.loads(json.dumps(made))
    color = [part / 255 for part in request.rgb(2)]
    ((shape, values),) = rows(path)
    assert values == {"type": "DAB", "class": 1, "color": color}
    assert shape.bounds == (6, 4, 18, 8)


@pytest.mark.parametrize("per", ["object", "class"])
def test_names_with_quotes_are_text(tmp_path, per):
    with one_object() as pm:
        name = "DAB'); DROP TABLE annotations; -- \" é"
        request = ExportRequest(request_of(pm).labels, (2,), {2: name}, "slide")
        ((_, values),) = rows(written(request, tmp_path, per=per)[0])
        assert values["type"] == name


@pytest.mark.parametrize("per", ["object", "class"])
def test_nothing_to_export_is_an_empty_store(tmp_path, per):
    with one_object() as pm:
        assert rows(written(request_of(pm, codes=(1,)), tmp_path, per=per)[0]) == []


def test_equal_exports_are_equal_files(tmp_path):
    with one_object() as pm:
        contents = [written(request_of(pm), tmp_path)[0].read_bytes() for _ in range(2)]
    assert contents[0] == contents[1]


def test_a_name_without_the_slides_is_remarked(tmp_path):
    with one_object(provenance={"slide": {"stem": "S 1"}}) as pm:
        (remark,) = written(request_of(pm), tmp_path)[1]
        assert "'S 1'" in remark
        (tmp_path / "a.db.partial").unlink()
        assert written(request_of(pm), tmp_path, "of S 1.db")[1] == []
        (tmp_path / "of S 1.db.partial").unlink()
    with one_object() as pm:
        assert written(request_of(pm), tmp_path)[1] == []


def damaged(path, statement, values=()):
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement, values)
        database.commit()


OTHER = zlib.compress(shapely.to_wkb(shapely.box(2, 2, 6, 5), byte_order=1))
BOW = zlib.compress(shapely.Polygon([(2, 2), (6, 4), (6, 2), (2, 4)]).wkb)


@pytest.mark.parametrize("per", ["object", "class"])
@pytest.mark.parametrize("large", [1, 1 << 20], ids=["in pieces", "at once"])
@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("DELETE FROM rtree", ()),
        ("DELETE FROM annotations", ()),
        ("UPDATE metadata SET value = '1.0.1' WHERE key = 'version'", ()),
        ("UPDATE annotations SET geometry = substr(geometry, 1, length(geometry) - 9)", ()),
        ("UPDATE annotations SET geometry = ?", (OTHER,)),
        ("UPDATE annotations SET geometry = ?", (BOW,)),
        ("UPDATE annotations SET geometry = ?", (zlib.compress(b"\1nothing"),)),
        ("UPDATE annotations SET properties = ''", ()),
    ],
)
def test_what_does_not_read_back_is_an_error(tmp_path, monkeypatch, per, large, statement, values):
    """The file is damaged between writing and reading."""
    monkeypatch.setattr(annotation_store_check, "_LARGE", large)
    partial = tmp_path / "partial"
    with one_object(provenance={"slide": {"stem": "S"}}) as pm:
        steps = AnnotationStoreWriter(per=per).write(request_of(pm), partial, tmp_path / "a.db")
        # It comes when all is written.
        assert next(step.remark for step in steps if step.remark)
        damaged(partial, statement, values)
        with pytest.raises(ExportError, match=r"AnnotationStore did not read back|edges of the"):
            list(steps)


def test_what_is_read_in_pieces_is_checked_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(annotation_store_check, "_LARGE", 7)
    labels = np.indices((20, 20)).sum(0).astype(np.uint8) % 3
    pm, _ = exclusive(labels, chunk=8)
    with pm:
        for per in ("class", "object"):
            assert rows(written(request_of(pm), tmp_path, per=per)[0])


def test_a_disk_that_refuses_is_an_export_error(tmp_path):
    with one_object() as pm:
        (tmp_path / "partial").write_bytes(b"no database" * 1000)
        with pytest.raises(ExportError, match=r"a\.db cannot be written"):
            list(
                AnnotationStoreWriter().write(
                    request_of(pm), tmp_path / "partial", tmp_path / "a.db"
                )
            )


@pytest.mark.parametrize("per", ["object", "class"])
def test_an_export_may_be_given_up_in_another_thread(tmp_path, per):
    with one_object() as pm:
        partial = tmp_path / "partial"
        steps = AnnotationStoreWriter(per=per).write(request_of(pm), partial, tmp_path / "a.db")
        next(steps)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(steps.close).result()
    assert list(tmp_path.iterdir()) == [partial]


@pytest.mark.parametrize("options", [{"per": "slide"}, {"simplify_um": -1}, {"name": 1}])
def test_bad_options(options):
    with pytest.raises(ExportError, match=next(iter(options))):
        AnnotationStoreWriter(**options)
