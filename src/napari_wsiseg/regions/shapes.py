"""`NamedRegion`: a region of a slide, made valid, named, without what is excluded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_wsiseg.errors import JobError, shown
from napari_wsiseg.geometry import YX, Polygon, Region, Size
from napari_wsiseg.regions.qupath import EXCLUDE, is_class

Shape = shapely.Polygon | shapely.MultiPolygon

CORNER = YX(0.0, 0.0)
WHOLE_SLIDE = "Whole slide"
# Farther out lies no pixel of any slide, and sums of squares stay exact enough.
_FARTHEST = 1e9
# Where they are all over an outline, making that valid takes seconds for so many, and minutes for
# four times as many; as small loops they would take seconds still.
_MOST_CROSSINGS = 5_000
# Of edges that are compared at once, however many of them cross.
_PAIRS_AT_ONCE = 2**24


@dataclass(frozen=True, slots=True)
class NamedRegion:
    """A region of a slide.

    Parameters
    ----------
    name
        What it is called; no two regions of a file share a name.
    kind
        Its class, as QuPath has it; None where it has none.
    shape
        Polygon or MultiPolygon, valid, with holes; may be empty. Vertices are (x, y), in
        level-0 pixels of the whole slide.
    """

    name: str
    kind: str | None
    shape: Shape


def named(regions: Iterable[NamedRegion | Region | Polygon]) -> tuple[NamedRegion, ...]:
    """Boxes and outlines as regions too: "Region 1", "Region 2" by their position.

    Raises
    ------
    JobError
        If an outline has less than three vertices, or one that is no finite number.
    """
    return distinct(
        [
            region if isinstance(region, NamedRegion) else _unnamed(region, number)
            for number, region in enumerate(regions, 1)
        ]
    )


def excluding(regions: Iterable[NamedRegion], slide: Size) -> tuple[NamedRegion, ...]:
    """The regions without what regions of the class "Exclude" (in any case) cover of them.

    Those themselves are dropped. Where there are no others, one region is left: the whole
    slide without them, named "Whole slide".

    Parameters
    ----------
    regions
        As drawn.
    slide
        Level-0 size of the slide.
    """
    regions = tuple(regions)
    kept = [region for region in regions if not is_class(region.kind, EXCLUDE)]
    away = shapely.union_all([region.shape for region in regions if is_class(region.kind, EXCLUDE)])
    if away.is_empty:
        return tuple(kept)
    if not kept:
        kept = [NamedRegion(WHOLE_SLIDE, None, shapely.box(0, 0, slide.width, slide.height))]
    return tuple(
        replace(region, shape=areas_of(shapely.difference(region.shape, away))) for region in kept
    )


def ring_of(points: Iterable[Sequence[float]]) -> NDArray[np.float64]:
    """(n, 2) x and y; a height is left out.

    Raises
    ------
    ValueError, TypeError
        If these are no points, or not of a slide.
    """
    found = np.array([point[:2] for point in points])
    if found.dtype.kind not in "iuf" or found.ndim != 2 or found.shape[1] != 2:
        raise ValueError("a ring is a list of [x, y]")
    ring = found.astype(np.float64)
    # False for NaN as well.
    if not (np.abs(ring) <= _FARTHEST).all():
        raise ValueError("a coordinate is no pixel of a slide")
    return ring


def valid(polygons: Sequence[shapely.Polygon], offset: YX) -> Shape:
    """One shape of all; where they overlap or cross themselves, what they cover together.

    Raises
    ------
    JobError
        If one crosses itself thousands of times.
    """
    shape: Shape = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    if not shape.is_valid:
        parts = [areas_of(made_valid(polygon)) for polygon in polygons]
        shape = areas_of(shapely.union_all(parts))
    # Moved last: far from (0, 0), moving may round what touches into what overlaps.
    by = np.array([offset.x, offset.y])
    moved = shapely.transform(shape, lambda xy: xy + by)
    return areas_of(moved if shapely.is_valid(moved) else shapely.make_valid(moved))


def made_valid(polygon: shapely.Polygon) -> shapely.Geometry:
    """What a polygon covers, with the points and lines that are left of it.

    Raises
    ------
    JobError
        If it crosses itself thousands of times.
    """
    if polygon.is_valid:
        return polygon
    crossings = 0
    for ring in shapely.get_rings(polygon):
        xy = shapely.get_coordinates(ring)
        edges = np.asarray(shapely.linestrings(np.stack([xy[:-1], xy[1:]], axis=1)))
        tree, at_once = shapely.STRtree(edges), 1 + _PAIRS_AT_ONCE // len(edges)
        for start in range(0, len(edges), at_once):
            some, other = tree.query(edges[start : start + at_once], predicate="crosses")
            crossings += int(np.count_nonzero(other > some + start))
            if crossings > _MOST_CROSSINGS:
                raise JobError(
                    f"An outline of {len(xy)} points crosses itself more than {_MOST_CROSSINGS} "
                    "times; draw it anew."
                )
    return shapely.make_valid(polygon)


def areas_of(shape: shapely.Geometry) -> Shape:
    """The polygons of a shape alone, without points and lines."""
    if isinstance(shape, Shape):
        return shape
    parts = [part for part in shapely.get_parts(shape) if shapely.area(part) > 0]
    return areas_of(shapely.union_all(parts)) if parts else shapely.Polygon()


def _unnamed(region: Region | Polygon, number: int) -> NamedRegion:
    name = f"Region {number}"
    if isinstance(region, Region):
        box = shapely.box(region.left, region.top, region.right, region.bottom)
        return NamedRegion(name, None, shapely.Polygon() if region.is_empty else box)
    try:
        outline = shapely.Polygon(ring_of([(x, y) for y, x in region]))
        return NamedRegion(name, None, valid([outline], CORNER))
    except (ValueError, TypeError) as error:
        raise JobError(
            f"{name} cannot be {shown(region)}; give (y, x) of three or more vertices."
        ) from error


def distinct(regions: Iterable[NamedRegion]) -> tuple[NamedRegion, ...]:
    """The same, with "(2)", "(3)" after names that were there before."""
    regions = tuple(regions)
    # A name that is in the file goes to who has it.
    taken, seen = {region.name for region in regions}, set[str]()
    found = []
    for region in regions:
        name, number = region.name, 2
        while name in seen or (number > 2 and name in taken):
            name, number = f"{region.name} ({number})", number + 1
        seen.add(name)
        found.append(replace(region, name=name))
    return tuple(found)
