"""Outlines follow pixel edges, whatever the seams, and lie where the slide's pixels do."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from rasterio.features import shapes

from maps import STAIN, map_of
from napari_wsiseg.errors import ExportError
from napari_wsiseg.export import outlines as outlining
from napari_wsiseg.export import tracing
from napari_wsiseg.export.outlines import (
    SlideGrid,
    invalid,
    outlines,
    simplified,
    tolerance_px,
)
from napari_wsiseg.export.spool import Spool
from napari_wsiseg.export.tracing import Tracer
from napari_wsiseg.geometry import YX, Region, Size, size_at
from outline_cases import (
    DOWNSAMPLES,
    even_odd,
    exclusive,
    independent,
    layered,
    numbered,
    request_of,
)

CHUNKS = st.integers(2, 8).map(lambda half: 2 * half)


def objects(request):
    """All that is found, as (code, polygon, pixels, mean)."""
    found = []
    for some in outlines(request):
        rows = (some.codes, some.polygons, some.pixels, some.means)
        found += zip(*rows, strict=True)
    return found


def check_outlines(found, labels):
    """Rasterised they are the labels, each once, and each is valid and as large as it says."""
    drawn = np.zeros(labels.shape, int)
    for code, polygon, pixels, _ in found:
        assert polygon.geom_type == "Polygon"
        assert polygon.is_valid, shapely.is_valid_reason(polygon)
        assert polygon.area == pixels
        inside = even_odd(polygon, labels.shape)
        assert inside.sum() == pixels
        assert not drawn[inside].any()
        drawn[inside] = code
    np.testing.assert_array_equal(drawn, labels)
    assert len(found) == numbered(labels)


@given(labels=layered(), chunk=CHUNKS)
def test_outlines_rasterised_are_the_labels(labels, chunk):
    pm, stored = exclusive(labels, chunk=chunk)
    with pm:
        found = objects(request_of(pm))
    check_outlines(found, labels)
    for _, polygon, _, mean in found:
        assert mean == pytest.approx(stored[even_odd(polygon, labels.shape)].mean() / 255)


@given(labels=layered(), rows=st.integers(1, 9))
def test_seams_leave_no_corner(labels, rows):
    """What is traced by strips is what another program traces in the whole array."""
    height, width = labels.shape
    tracer, mine = Tracer(width), []
    for top in range(0, height, rows):
        strip = labels[top : top + rows]
        for traced in tracer.add(strip, strip.astype(float), last=top + rows >= height):
            mine += traced.polygons.tolist()
    theirs = shapes(labels.astype(np.int16), labels > 0, connectivity=4)
    theirs = [shapely.geometry.shape(geometry) for geometry, _ in theirs]
    assert {shapely.normalize(p).wkb for p in mine} == {shapely.normalize(p).wkb for p in theirs}
    for polygon in mine:
        for ring in shapely.get_rings(polygon):
            steps = np.diff(shapely.get_coordinates(ring), axis=0) != 0
            # Every corner turns, the first too.
            assert (steps[:, 0] != steps[:, 1]).all()
            assert (steps != np.roll(steps, 1, axis=0)).all()


@given(first=layered(1), chunk=CHUNKS)
def test_classes_that_overlap_are_traced_one_by_one(first, chunk):
    second = first[::-1, ::-1]
    with independent(first, second, chunk=chunk) as pm:
        found = objects(request_of(pm))
        only = objects(request_of(pm, codes=(2,)))
    for code, mask in ((1, first), (2, second)):
        check_outlines([one for one in found if one[0] == code], (mask > 0) * code)
    check_outlines(only, (second > 0) * 2)
    assert all(mean == pytest.approx(204 / 255) for *_, mean in found)


@given(labels=layered(), chunk=CHUNKS, codes=st.sets(st.sampled_from((1, 2, 3))))
def test_classes_that_are_left_out_are_background(labels, chunk, codes):
    pm, _ = exclusive(labels, chunk=chunk)
    with pm:
        found = objects(request_of(pm, codes=tuple(sorted(codes))))
    check_outlines(found, np.where(np.isin(labels, list(codes)), labels, 0))


@given(labels=layered(), rows=st.integers(1, 9), dtype=st.sampled_from((np.uint8, np.float16)))
def test_runs_are_counted_as_pixels_are(labels, rows, dtype):
    """In whole rows and in single pixels, over seams: as a count pixel by pixel gives it."""
    height, width = labels.shape
    values = np.random.default_rng(0).integers(0, 256, labels.shape).astype(dtype)
    tracer, found = Tracer(width), []
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        for some in tracer.add(labels[part], values[part], last=top + rows >= height):
            found += zip(some.codes, some.polygons, some.pixels, some.sums, strict=True)
    for code, polygon, pixels, total in found:
        inside = even_odd(polygon, labels.shape)
        assert (labels[inside] == code).all()
        assert (pixels, total) == (inside.sum(), values[inside].astype(float).sum())


@given(labels=layered(), dtype=st.sampled_from((np.uint8, np.float16, np.float32)))
def test_values_of_a_pixels_class_are_those_looked_up(labels, dtype):
    values = np.random.default_rng(0).integers(0, 256, (3, *labels.shape)).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlining, "_STRIP", 7)
        found = outlining._of_its_class(values, labels, (1, 2, 3))
    index = np.maximum(labels, 1).astype(int)[None] - 1
    wanted = np.where(labels > 0, np.take_along_axis(values, index, 0)[0], 0)
    np.testing.assert_array_equal(found, wanted)


def test_snapping_may_spoil_a_polygon():
    thin = shapely.Polygon([(0, 0), (4, 0), (4, 3), (2, 0.001), (0, 3)])
    assert thin.is_valid
    assert "not valid" in invalid(np.array([thin]))
    assert not invalid(np.array([shapely.box(0, 0, 1.001, 1)]))


@given(labels=layered())
def test_batches_do_not_matter(labels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "_AT_ONCE", 9)
        tracer = Tracer(labels.shape[1])
        traced = list(tracer.add(labels, labels.astype(float), last=True))
    found = [
        row
        for some in traced
        for row in zip(some.codes, some.polygons, some.pixels, some.sums, strict=True)
    ]
    check_outlines(found, labels)
    assert all(total == code * pixels for code, _, pixels, total in found)


def test_a_hole_that_touches_the_outline_at_a_corner_stays_a_hole():
    labels = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1]], np.uint8)
    for chunk in (2, 4):
        pm, _ = exclusive(labels, chunk=chunk)
        with pm:
            found = objects(request_of(pm))
        check_outlines(found, labels)
        assert sorted(len(polygon.interiors) for _, polygon, *_ in found) == [0, 1]


def test_only_objects_that_go_on_are_kept():
    """Of a pillar through a thousand strips: nothing a strip; of specks beside it: nothing."""
    tracer, strip = Tracer(7), np.array([[0, 1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 2, 0]], np.uint8)
    ended = []
    for _ in range(1000):
        ended += list(tracer.add(strip, strip.astype(float), last=False))
    assert sum(len(some.codes) for some in ended) == 999
    assert len(tracer._open) == 2
    (last,) = tracer.add(strip[:1], strip[:1].astype(float), last=True)
    assert sorted(last.pixels) == [1, 4002]
    assert shapely.get_num_coordinates(last.polygons).tolist() == [5, 5]


def test_nothing_labelled_has_no_outlines():
    pm, _ = exclusive(np.zeros((20, 30), np.uint8), chunk=8)
    with pm:
        found = list(outlines(request_of(pm)))
    assert [len(some.codes) for some in found] == [0, 0, 0]
    assert found[-1].part == 1


def test_stains_have_mean_densities():
    values = np.zeros((2, 6, 6))
    values[0, 1:3, 1:3] = 51 / 255
    values[1, 4:] = 0.4
    for dtype in ("uint8", "float32"):
        with map_of(values, STAIN, chunk=4, dtype=dtype) as pm:
            found = objects(request_of(pm))
        assert [(code, pixels) for code, _, pixels, _ in found] == [(1, 4), (2, 12)]
        assert [mean for *_, mean in found] == pytest.approx([0.4, 0.8])


@given(labels=layered(), downsample=st.sampled_from(DOWNSAMPLES), corner=st.integers(0, 50))
def test_pixels_lie_where_the_slide_has_them(labels, downsample, corner):
    map_size, slide = (
        Size(*labels.shape),
        [round(n * d) for n, d in zip(labels.shape, downsample, strict=True)],
    )
    assume(min(slide) > 0 and size_at(Size(*slide), downsample) == map_size)
    pm, _ = exclusive(labels, chunk=8, downsample=downsample)
    with pm:
        pm.layout = replace(pm.layout, slide_bounds=Region(corner, 2 * corner, Size(9, 9)))
        for origin, offset in (("slide", 0), ("bounds", corner)):
            request = request_of(pm, origin=origin)
            grid = SlideGrid(request)
            for some in outlines(request):
                placed = grid.place(some.polygons)
                assert not len(placed) or not invalid(placed)
                traced, found = (shapely.get_coordinates(p) for p in (some.polygons, placed))
                size = pm.slide_size
                wanted = np.minimum(
                    traced * (downsample.x, downsample.y), (size.width, size.height)
                )
                np.testing.assert_allclose(found, wanted - (2 * offset, offset), atol=0.005001)
                np.testing.assert_array_equal(found, np.round(found, 2))
                np.testing.assert_array_equal(grid.pixels(placed), some.pixels)


def test_what_is_off_the_grid_is_noticed():
    pm, _ = exclusive(np.ones((8, 8), np.uint8), chunk=8, downsample=YX(2, 2))
    with pm:
        grid = SlideGrid(request_of(pm))
    with pytest.raises(ExportError, match="edges"):
        grid.pixels(np.array([shapely.box(0, 0, 3, 2)], object))


@given(labels=layered(), um=st.sampled_from((0.3, 1.0, 4.0)))
def test_simplified_outlines_are_valid_and_near(labels, um):
    pm, _ = exclusive(labels, chunk=8, downsample=YX(2.0, 2.0))
    with pm:
        request = request_of(pm)
        tolerance = tolerance_px(request, um)
        # A map pixel has 0.5 µm and 2 level-0 px.
        assert tolerance == pytest.approx(um * 4)
        for some in outlines(request):
            if not len(some.codes):
                continue
            exact = SlideGrid(request).place(some.polygons)
            simple = simplified(exact, tolerance)
            assert not invalid(simple)
            assert (shapely.get_num_coordinates(simple) <= shapely.get_num_coordinates(exact)).all()
            near = shapely.hausdorff_distance(shapely.boundary(simple), shapely.boundary(exact))
            assert (shapely.area(simple) > 0).all()
            assert near.max() < 4 * tolerance + 10
            np.testing.assert_array_equal(
                shapely.get_coordinates(simple).round(2), shapely.get_coordinates(simple)
            )


def test_simplification_in_micrometres_needs_a_scale():
    pm, _ = exclusive(np.ones((8, 8), np.uint8), chunk=8, mpp=None)
    with pm:
        assert tolerance_px(request_of(pm), 0) == 0
        with pytest.raises(ExportError, match=r"simplify_um is 2 µm.*no scale"):
            tolerance_px(request_of(pm), 2)


@given(seed=st.integers(0, 2**32), tolerance=st.sampled_from((1.0, 3.0)))
def test_simplified_neighbours_of_a_class_become_one_valid_geometry(
    tmp_path_factory, seed, tolerance
):
    """An island near the edge of its hole, and rings around it."""
    rng = np.random.default_rng(seed)
    labels = (np.kron(rng.random((8, 8)) < 0.6, np.ones((4, 4))) > 0) ^ (rng.random((32, 32)) < 0.1)
    pm, _ = exclusive(labels.astype(np.uint8), chunk=8)
    folder = tmp_path_factory.mktemp("spool")
    with pm, closing(Spool(folder / "spool", may_overlap=True)) as spool:
        kept = []
        for some in outlines(request_of(pm)):
            simple = simplified(some.polygons, tolerance)
            kept += simple.tolist()
            spool.add(some, simple)
        parts = [part for batch in spool.batches(1) for part in batch]
        assert len(parts) == spool.parts(1)
        assert spool.tallies[1].objects == numbered(labels.astype(int))
    whole = shapely.multipolygons(parts)
    assert whole.is_valid, shapely.is_valid_reason(whole)
    assert shapely.area(shapely.symmetric_difference(whole, shapely.union_all(kept))) < 0.5
