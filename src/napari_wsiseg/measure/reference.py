"""What annotations say of each pixel of a map; knows no prediction."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.regions import (
    EXCLUDE,
    QUPATH_CLASSES,
    REGION,
    NamedRegion,
    Shape,
    extent_of,
    is_class,
    mask_of,
)
from napari_wsiseg.spec import ModelSpec

_NO_CLASS = "(no class)"
# Chunks painted at once: fewer cost more calls, more take memory.
_GROUP = 8


@dataclass(frozen=True, slots=True)
class Painted:
    """The reference in a part of a map.

    Parameters
    ----------
    area
        (height, width) bool: what is compared, where it was analysed.
    labels
        (layers, height, width) uint8: 0 for none of the classes, i + 1 for class i. One
        layer for classes that exclude each other, else one a class but the background.
    """

    area: NDArray[np.bool_]
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Shapes of one meaning, in the order in which they are painted."""

    shapes: tuple[Shape, ...]
    codes: tuple[int, ...]
    extents: tuple[Region, ...]
    tree: shapely.STRtree = field(repr=False)

    def near(self, box: shapely.Geometry) -> list[int]:
        return sorted(int(index) for index in self.tree.query(box))


class Reference:
    """Annotations as labels of a map's pixels, by the pixels' centres.

    Annotations of the class "Exclude" are taken out of everything. Where there are some of
    QuPath's class "Region*", those are what is compared, and what nobody annotated in them
    is of none of the model's classes; else only annotated pixels are compared. Of
    annotations that overlap, the smaller lies on top; independent classes may overlap.
    The model's background is no class; where it lies on top, there is none.

    Parameters
    ----------
    annotations
        In level-0 pixels of the whole slide. Classes are the model's in any case.
    spec
        The model's.
    aliases
        By class of an annotation, the class of the model that is meant; beside those for
        QuPath's own names.
    size, downsample
        The map's, and level-0 pixels per pixel of it.

    Raises
    ------
    JobError
        If an alias leads to no class of the model, or if no annotation is of one.
    """

    def __init__(
        self,
        annotations: Sequence[NamedRegion],
        spec: ModelSpec,
        aliases: Mapping[str, str],
        size: Size,
        downsample: YX,
    ) -> None:
        self._size, self._downsample, self._spec = size, downsample, spec
        meanings = _Meanings(spec, aliases)
        found = [(region, meanings.code(region.kind)) for region in annotations]
        classes = [(region, code) for region, code in found if code is not None]
        if not classes:
            raise _nothing_known(found, spec)
        # Stable: of equals, the later one lies on top.
        classes.sort(key=lambda pair: -shapely.area(pair[0].shape))
        self._classes = self._shapes(classes)
        self._regions = self._shapes([(r, 0) for r, _ in found if is_class(r.kind, REGION)])
        self._excluded = self._shapes([(r, 0) for r, _ in found if is_class(r.kind, EXCLUDE)])
        counts = Counter(code for _, code in classes)
        self.used = {name: counts[i + 1] for i, name in enumerate(spec.classes) if counts[i + 1]}
        self.regions = len(self._regions.shapes)
        self.excluded = len(self._excluded.shapes)
        self.left_out = dict(
            Counter(r.kind or _NO_CLASS for r, code in found if code is None and not _is_tool(r))
        )
        whole = Region(0, 0, size)
        self.outside = sum(
            extent_of(region.shape, downsample).intersection(whole).is_empty
            for region, _ in classes
        )

    def _shapes(self, pairs: Sequence[tuple[NamedRegion, int]]) -> _Shapes:
        shapes = tuple(region.shape for region, _ in pairs)
        return _Shapes(
            shapes,
            tuple(code for _, code in pairs),
            tuple(extent_of(shape, self._downsample) for shape in shapes),
            shapely.STRtree(shapes),
        )

    def parts(self, side: int) -> Iterator[tuple[Region, ...]]:
        """Row by row, the parts of the map that hold anything to compare.

        Parameters
        ----------
        side
            Of the map's chunks.
        """
        compared = self._regions if self.regions else self._classes
        width = self._size.width
        for top in range(0, self._size.height, side):
            strip = Region.from_bounds(top, 0, min(top + side, self._size.height), width)
            wanted = np.zeros(-(-width // side), bool)
            for index in compared.near(self._box(strip)):
                part = compared.extents[index].intersection(strip)
                if not part.is_empty:
                    wanted[part.left // side : -(-part.right // side)] = True
            yield tuple(
                Region.from_bounds(top, first * side, strip.bottom, min(end * side, width))
                for first, end in _groups(wanted)
            )

    def paint(self, region: Region) -> Painted:
        """The reference in a region of the map."""
        shape = (region.size.height, region.size.width)
        labels = np.zeros((self._layers, *shape), np.uint8)
        area = np.zeros(shape, bool)
        for code, here, mask in self._masks(self._classes, region):
            part = labels[:, *here]
            if code - 1 == self._spec.background:
                part[:, mask] = 0
            else:
                part[self._layer(code), mask] = code
            area[here] |= mask
        if self.regions:
            area = self._union(self._regions, region)
        area &= ~self._union(self._excluded, region)
        return Painted(area, labels)

    @property
    def _layers(self) -> int:
        return 1 if self._spec.exclusive else self._layer(len(self._spec.classes)) + 1

    def _layer(self, code: int) -> int:
        """Where the label of a class lies."""
        background = self._spec.background
        if self._spec.exclusive:
            return 0
        return code - 1 - (background is not None and background < code)

    def _union(self, shapes: _Shapes, region: Region) -> NDArray[np.bool_]:
        union = np.zeros((region.size.height, region.size.width), bool)
        for _, here, mask in self._masks(shapes, region):
            union[here] |= mask
        return union

    def _masks(
        self, shapes: _Shapes, region: Region
    ) -> Iterator[tuple[int, tuple[slice, slice], NDArray[np.bool_]]]:
        """Each shape that meets the region: its label, where it lies there, its pixels."""
        for index in shapes.near(self._box(region)):
            part = shapes.extents[index].intersection(region)
            if not part.is_empty:
                mask = mask_of(shapes.shapes[index], part, self._downsample)
                yield shapes.codes[index], part.shifted(-region.top, -region.left).slices, mask

    def _box(self, region: Region) -> shapely.Geometry:
        y, x = self._downsample
        return shapely.box(region.left * x, region.top * y, region.right * x, region.bottom * y)


class _Meanings:
    """Which label the class of an annotation stands for."""

    def __init__(self, spec: ModelSpec, aliases: Mapping[str, str]) -> None:
        self._codes = {
            theirs.casefold(): spec.classes.index(meant) + 1
            for meant, theirs in QUPATH_CLASSES.items()
            if meant in spec.classes
        }
        self._codes |= {name.casefold(): i + 1 for i, name in enumerate(spec.classes)}
        codes = dict(self._codes)
        for name, meant in aliases.items():
            if meant.casefold() not in codes:
                turned = f"{meant}={name}" if name.casefold() in codes else "ANNOTATED=MODEL'S"
                raise JobError(
                    f"The alias {name}={meant} leads to no class of model {spec.name!r}; "
                    f"write {turned}; the model's classes are {', '.join(spec.classes)}."
                )
            self._codes[name.casefold()] = codes[meant.casefold()]

    def code(self, kind: str | None) -> int | None:
        """The label, or None where the model has no such class."""
        return None if kind is None else self._codes.get(kind.casefold())


def _groups(wanted: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Neighbours that are wanted, as [first, end), a few at a time."""
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    for first, end in edges.reshape(-1, 2).tolist():
        for start in range(first, end, _GROUP):
            yield start, min(start + _GROUP, end)


def _is_tool(region: NamedRegion) -> bool:
    return is_class(region.kind, REGION) or is_class(region.kind, EXCLUDE)


def near_classes(kind: str, spec: ModelSpec) -> list[str]:
    """The model's classes whose names are like this one."""
    folded = {name.casefold(): name for name in spec.classes}
    return [
        folded[name] for name in difflib.get_close_matches(kind.casefold(), folded, n=1, cutoff=0.5)
    ]


def _nothing_known(found: Sequence[tuple[NamedRegion, int | None]], spec: ModelSpec) -> JobError:
    kinds = sorted({region.kind for region, _ in found if region.kind is not None})
    near = [f"{kind}={meant}" for kind in kinds for meant in near_classes(kind, spec)]
    hint = f"an alias such as {near[0]} says what is meant" if near else "aliases say what is meant"
    return JobError(
        f"No annotation is of a class of model {spec.name!r} ({', '.join(spec.classes)}); the "
        f"annotations are of {', '.join(kinds) or 'no class at all'}; {hint}."
    )
