"""Regions: read as they were drawn, and pixels in or out by their centres."""

from __future__ import annotations

import gzip
import json
import time

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely.affinity import rotate, scale, translate

from napari_wsiseg.engine.regions import chunks_meeting
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.regions import (
    WHOLE_SLIDE,
    NamedRegion,
    excluding,
    extent_of,
    mask_of,
    named,
    read_geojson,
    read_outlines,
)

SQUARE = [[0, 0], [40, 0], [40, 30], [0, 30], [0, 0]]
CORNER = YX(0.0, 0.0)
HOLE = [[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE, HOLE]}
SLIDE = Size(500, 400)


def feature(geometry=POLYGON, name=None, kind=None, **properties):
    if name is not None:
        properties["name"] = name
    if kind is not None:
        properties["classification"] = {"name": kind, "color": [1, 2, 3]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def box(left, top, right, bottom):
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [ring]}


def outline_of(points):
    return {"type": "Polygon", "coordinates": [[*points.tolist(), points[0].tolist()]]}


@pytest.fixture
def read(tmp_path):
    def read(content, offset=CORNER):
        path = tmp_path / "x.geojson"
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(raw)
        return read_geojson(path, offset)

    return read


class TestReading:
    @pytest.mark.parametrize(
        "content",
        [
            POLYGON,
            feature(),
            [feature()],
            {"type": "FeatureCollection", "features": [feature()]},
            {"type": "GeometryCollection", "geometries": [POLYGON]},
            [[[feature()]]],
            feature({"type": "GeometryCollection", "geometries": [POLYGON]}),
            feature({"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE]]}),
            feature({"type": "Polygon", "coordinates": [[[*p, 7] for p in SQUARE], HOLE]}),
            feature({"type": "Polygon", "coordinates": [SQUARE[:-1], HOLE]}),
            # As QuPath writes it: properties null, an id, an objectType.
            {"type": "Feature", "id": "PathRootObject", "geometry": POLYGON, "properties": None},
        ],
    )
    def test_every_form_of_one_polygon(self, read, content):
        (region,) = read(content)
        assert (region.name, region.kind) == ("Region 1", None)
        assert region.shape.equals(shapely.Polygon(SQUARE, [HOLE]))

    def test_gzipped_and_with_a_byte_order_mark(self, read):
        raw = json.dumps(feature(name="ü"), ensure_ascii=False).encode()
        for content in (gzip.compress(raw), b"\xef\xbb\xbf" + raw):
            assert [region.name for region in read(content)] == ["ü"]

    def test_names_and_classes(self, read):
        point = {"type": "Point", "coordinates": [1, 2]}
        line = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
        found = read(
            [
                feature(name="Front", kind="Tumor"),
                feature(kind="Tumor"),
                feature(kind="Tumor"),
                feature(name="Tumor (2)"),
                feature(point, name="Front"),
                feature(line),
                feature(name="  "),
                feature(name=7, classification=None),
                {"type": "Feature", "geometry": None, "properties": {}},
            ]
        )
        assert [(region.name, region.kind) for region in found] == [
            ("Front", "Tumor"),
            ("Tumor", "Tumor"),
            ("Tumor (3)", "Tumor"),
            ("Tumor (2)", None),
            ("Region 5", None),
            ("Region 6", None),
        ]

    def test_the_offset_is_added(self, read):
        (region,) = read(feature(), YX(1000, 20))
        assert region.shape.bounds == (20, 1000, 60, 1030)

    def test_crossed_and_overlapping_outlines_become_valid(self, read):
        bow = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
        twice = {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}
        spike = {"type": "Polygon", "coordinates": [[[0, 0], [5, 0], [5, 5], [9, 5], [5, 5],
                                                     [0, 5], [0, 0]]]}  # fmt: skip
        found = read([{"type": "Polygon", "coordinates": [bow]}, twice, spike])
        assert all(region.shape.is_valid for region in found)
        assert [region.shape.area for region in found] == [50, 1200, 25]

    def test_a_tangle_is_refused_at_once(self, read):
        """To make it valid took minutes, and gigabytes for a larger one."""
        tangle = np.random.default_rng(1).uniform(0, 2000, (1000, 2))
        with pytest.raises(JobError, match=r"x\.geojson .* crosses itself more than 5000 times"):
            read(outline_of(tangle))
        outline = tuple((y, x) for x, y in tangle.tolist())
        with pytest.raises(JobError, match="1001 points crosses itself"):
            named([outline])
        grid = PatchGrid(Size(2000, 2000), Size(500, 500), Size(500, 500), Size(500, 500))
        with pytest.raises(JobError, match="1001 points crosses itself"):
            chunks_meeting(grid, YX(1, 1), (outline,))

    def test_many_points_that_cross_here_and_there_are_none(self, read):
        turn = np.linspace(0, 2 * np.pi, 30_000, endpoint=False)
        ring = 900 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        ring += np.random.default_rng(1).normal(0, 0.07, ring.shape)
        assert not shapely.is_valid(shapely.Polygon(ring))
        (region,) = read(outline_of(ring))
        assert region.shape.area == pytest.approx(np.pi * 900**2, rel=1e-3)

    def test_a_polygon_without_area_is_none(self, read):
        flat = {"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [0, 0], [0, 0]]]}
        assert [region.name for region in read([feature(flat), feature()])] == ["Region 1"]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"\xff\xfe\xfd",
            b"\x1f\x8b\x08cut",
            gzip.compress(b"[]" * 100, mtime=0)[:-12],
            b"[" * 100_000,
            b'{"type":"FeatureCollection"}',
            b'{"type":"FeatureCollection","features":7}',
            b'{"type":"Polygon"}',
            b'{"type":"Polygon","coordinates":{"a":1}}',
            b'{"type":"Polygon","coordinates":[[1,2]]}',
            b'{"type":"Polygon","coordinates":[[[1,2],[3,4]]]}',
            b'{"type":"Polygon","coordinates":[[[1],[3],[4],[1]]]}',
            b'{"type":"Polygon","coordinates":[[["1","2"],["3","4"],["5","9"],["1","2"]]]}',
            b'{"type":"Polygon","coordinates":[["12","34","56","12"]]}',
            b'{"type":"Polygon","coordinates":[[[NaN,2],[3,4],[5,9],[1,2]]]}',
            b'{"type":"Polygon","coordinates":[[[1,2],[3,1e999],[5,9],[1,2]]]}',
            b'{"type":"Polygon","coordinates":[[[1,2],[3,1e30],[5,9],[1,2]]]}',
            b'{"type":"Polygon","coordinates":[[[1,2],[3,1%s],[5,9],[1,2]]]}' % (b"0" * 400),
            b'{"type":"Polygon","coordinates":[[[1,2],[3,null],[5,9],[1,2]]]}',
            b'{"type":"Feature","geometry":%s,"properties":7}' % json.dumps(POLYGON).encode(),
        ],
    )
    def test_a_bad_file_is_one_sentence(self, read, content):
        with pytest.raises(JobError, match=r"x\.geojson cannot be read as GeoJSON \(.*\); export"):
            read(content)

    @pytest.mark.parametrize(
        "content", [[], {}, 7, "Polygon", {"type": "Polygon", "coordinates": []}, [None, [[]]]]
    )
    def test_a_file_without_polygons(self, read, content):
        with pytest.raises(JobError, match=r"x\.geojson holds no Polygon"):
            read(content)

    def test_no_file(self, tmp_path):
        with pytest.raises(JobError, match=r"none\.geojson cannot be read"):
            read_geojson(tmp_path / "none.geojson")

    def test_a_deep_nest_of_collections(self, read):
        nest = b'{"type":"GeometryCollection","geometries":[' * 5000
        with pytest.raises(JobError, match="cannot be read as GeoJSON"):
            read(nest + b"]}" * 5000)

    @settings(max_examples=60)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["type", "features", "geometry", "geometries", "coordinates", "properties"]
                    ),
                    inner | st.sampled_from(["Feature", "Polygon", "FeatureCollection"]),
                    max_size=3,
                )
            ),
        )
    )
    def test_anything_else_is_a_job_error(self, tmp_path_factory, content):
        path = tmp_path_factory.getbasetemp() / "any.geojson"
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(JobError):
            read_geojson(path)

    def test_outlines_are_as_drawn(self, tmp_path):
        path = tmp_path / "x.geojson"
        twice = {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE, HOLE]]}
        path.write_text(json.dumps([twice, POLYGON]), encoding="utf-8")
        assert read_outlines(path) == (((0, 0), (0, 40), (30, 40), (30, 0)),) * 3


class TestNamed:
    def test_boxes_and_outlines(self):
        given = NamedRegion("Region 1", "Tumor", shapely.box(0, 0, 1, 1))
        triangle = ((10.0, 0.0), (10.0, 8.0), (14.0, 0.0))
        found = named([Region(2, 3, Size(4, 5)), triangle, given, Region(1, 1, Size(0, 4))])
        assert [region.name for region in found] == [
            "Region 1",
            "Region 2",
            "Region 1 (2)",
            "Region 4",
        ]
        assert found[0].shape.bounds == (3, 2, 8, 6)
        assert found[1].shape.bounds == (0, 10, 8, 14)
        assert found[2] == NamedRegion("Region 1 (2)", "Tumor", given.shape)
        assert found[3].shape.is_empty

    @pytest.mark.parametrize("outline", [(), ((1.0, 2.0),), ((1.0, float("nan")),) * 4, (1, 2, 3)])
    def test_no_outline(self, outline):
        with pytest.raises(JobError, match="Region 1 cannot be"):
            named([outline])


class TestExcluding:
    def test_what_is_excluded_is_taken_from_all_others(self, read):
        found = read(
            [
                feature(box(0, 0, 100, 100), name="A"),
                feature(box(50, 0, 60, 200), kind="EXCLUDE"),
                feature(box(0, 0, 40, 10), kind="Exclude", name="fold"),
                feature(box(52, 0, 58, 50), name="B"),
            ]
        )
        kept = excluding(found, SLIDE)
        assert [region.name for region in kept] == ["A", "B"]
        assert [region.shape.area for region in kept] == [10_000 - 1000 - 400, 0]
        assert not mask_of(kept[1].shape, Region(0, 0, SLIDE), YX(1.0, 1.0)).any()

    def test_without_any_nothing_changes(self, read):
        found = read([feature(name="A"), feature(kind="Excluded")])
        assert excluding(found, SLIDE) == found

    def test_excludes_alone_leave_the_rest_of_the_slide(self, read):
        (region,) = excluding(read(feature(box(-10, 10, 30, 20), kind="exclude")), SLIDE)
        assert (region.name, region.kind) == (WHOLE_SLIDE, None)
        assert region.shape.area == SLIDE.area - 300


@st.composite
def shapes(draw):
    """Star-shaped polygons with a hole, some of two parts, some far off."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    corners = draw(st.integers(3, 40))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(5, draw(st.sampled_from([15, 60, 400])), corners)
    middle = rng.uniform(-20, 120, 2)
    outer = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    star = shapely.make_valid(shapely.Polygon(outer + middle))
    ring = scale(rotate(star, 50), 0.4, 0.4)
    shape = shapely.difference(star, ring)
    if draw(st.booleans()):
        shape = shapely.union(shape, translate(star, *rng.uniform(-90, 90, 2)))
    parts = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon"]
    assume(parts)
    return shapely.union_all(parts)


regions_of_a_map = st.builds(
    lambda top, left, height, width: Region(top, left, Size(height, width)),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(1, 80),
    st.integers(1, 80),
)
downsamples = st.builds(YX, st.sampled_from([1.0, 2.0, 0.7, 3.0107]), st.sampled_from([1.0, 1.9]))


class TestMasks:
    @settings(max_examples=200)
    @given(shapes(), regions_of_a_map, downsamples)
    def test_a_pixel_is_in_where_its_centre_is(self, shape, region, downsample):
        rows, columns = np.mgrid[region.slices]
        x, y = (columns + 0.5) * downsample.x, (rows + 0.5) * downsample.y
        clear = shapely.distance(shapely.boundary(shape), shapely.points(x, y)) > 1e-6
        found = mask_of(shape, region, downsample)
        np.testing.assert_array_equal(found[clear], shapely.contains_xy(shape, x, y)[clear])
        assert clear.mean() > 0.9

    @settings(max_examples=100)
    @given(st.integers(0, 2**32), st.sampled_from([1, 2, 3]), st.integers(1, 9))
    def test_outlines_of_pixels_are_exact(self, seed, factor, strip):
        """Random pixels as squares with integer edges, read in strips, come out the same."""
        pixels = np.random.default_rng(seed).random((13, 17)) < 0.5
        rows, columns = np.nonzero(pixels)
        squares = shapely.box(
            columns * factor, rows * factor, (columns + 1) * factor, (rows + 1) * factor
        )
        shape = shapely.union_all(squares)
        assume(not shape.is_empty)
        parts = [
            mask_of(shape, Region(top, 0, Size(min(strip, 13 - top), 17)), YX(factor, factor))
            for top in range(0, 13, strip)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), pixels)

    @settings(max_examples=50)
    @given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12))
    def test_centres_on_an_edge_fall_to_one_side_whatever_the_cut(self, seed, height, width):
        """Two halves of a box, split through pixel centres, hold each pixel once."""
        rng = np.random.default_rng(seed)
        cut = rng.integers(0, 12) + 0.5
        halves = [shapely.box(0, 0, cut, 12), shapely.box(cut, 0, 12, 12)]
        halves += [shapely.box(0, 0, 12, cut), shapely.box(0, cut, 12, 12)]
        whole = Region(0, 0, Size(12, 12))
        first, second, third, fourth = (mask_of(half, whole, YX(1, 1)) for half in halves)
        assert (first ^ second).all()
        assert (third ^ fourth).all()
        top, left = rng.integers(0, 12, 2).tolist()
        part = Region(top, left, Size(height, width)).clipped(whole.size)
        for half in halves:
            np.testing.assert_array_equal(
                mask_of(half, part, YX(1, 1)), mask_of(half, whole, YX(1, 1))[part.slices]
            )

    @settings(max_examples=50)
    @given(st.integers(0, 2**32), regions_of_a_map)
    def test_neighbours_share_no_pixel_and_leave_none(self, seed, region):
        """Triangles that part a square, through pixels' centres too, in any cut."""
        rng = np.random.default_rng(seed)
        places = rng.integers(0, 200, (12, 2)) / 2
        corners = [(0, 0), (100, 0), (100, 100), (0, 100)]
        points = shapely.MultiPoint([*corners, *places.tolist()])
        parts = shapely.get_parts(shapely.delaunay_triangles(points))
        found = sum(mask_of(part, region, YX(1, 1)).astype(int) for part in parts)
        rows, columns = np.mgrid[region.slices]
        np.testing.assert_array_equal(found, (rows < 100) & (columns < 100))

    def test_as_gdal_fills(self):
        rasterio = pytest.importorskip("rasterio.features")
        ring = np.random.default_rng(0).uniform(0, 300, (40, 2))
        shape = shapely.make_valid(shapely.Polygon(ring))
        parts = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon"]
        expected = rasterio.rasterize(parts, out_shape=(300, 300)).astype(bool)
        found = mask_of(shapely.MultiPolygon(parts), Region(0, 0, Size(300, 300)), YX(1, 1))
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("away", [(0, 0), (10**6, 0), (-5000, 3), (9e8, -9e8)])
    def test_far_outside_and_nothing(self, away):
        shape = translate(shapely.box(0, 0, 5, 5), *away)
        found = mask_of(shape, Region(0, 0, Size(20, 30)), YX(1.0, 1.0))
        assert found.shape == (20, 30)
        assert found.sum() == (25 if away == (0, 0) else 0)
        assert not mask_of(shapely.Polygon(), Region(0, 0, Size(4, 4)), YX(1.0, 1.0)).any()
        assert mask_of(shape, Region(0, 0, Size(0, 4)), YX(1.0, 1.0)).shape == (0, 4)

    @given(shapes(), downsamples)
    def test_the_extent_holds_every_pixel(self, shape, downsample):
        whole = Region(-400, -400, Size(1200, 1200))
        rows, _ = np.nonzero(mask_of(shape, whole, downsample))
        extent = extent_of(shape, downsample).intersection(whole)
        assert rows.size == mask_of(shape, extent, downsample).sum()

    def test_an_outline_of_many_points_costs_little_a_strip(self):
        angles = np.linspace(0, 2 * np.pi, 400_000, endpoint=False)
        radius = 9000 + 500 * np.sin(angles * 5000)
        ring = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1) + 10_000
        shape = shapely.Polygon(ring)
        start = time.process_time()
        found = sum(
            int(mask_of(shape, Region(top, 0, Size(512, 20_000)), YX(1, 1)).sum())
            for top in range(9216, 11_264, 512)
        )
        assert time.process_time() - start < 5
        assert found == pytest.approx(4 * 512 * 18_000, rel=0.05)
