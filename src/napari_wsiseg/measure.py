"""`measure`: the area of each class, in one pass over level 0.

Memory is that of a row of chunks, however high the slide. Knows no picture and no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import StoreError
from napari_wsiseg.geometry import YX, Region
from napari_wsiseg.labels import MODELS_OWN, DecisionRule, decide_masks
from napari_wsiseg.spec import FULL_DENSITY

if TYPE_CHECKING:
    import dask.array as da

    from napari_wsiseg.slides.base import MppSource
    from napari_wsiseg.spec import ModelSpec
    from napari_wsiseg.store import ProbabilityMap

UNCLASSIFIED = "Unclassified tissue"
NOT_ANALYSED = "Not analysed"
TOTAL = "Total tissue"

# Chunks read at once: fewer make dask's graphs dearer than the reading, more take memory.
_GROUP = 8
_MOST_WORKERS = 8
# How far beside the threshold a stain's area is given too, in optical density.
_BESIDE = 0.05


@dataclass(frozen=True, slots=True)
class AreaRow:
    """An area of a map.

    Parameters
    ----------
    name
        The class, "Unclassified tissue", "Not analysed" or "Total tissue".
    pixels
        Pixels of the map's level 0.
    area_mm2
        None where the slide has no scale.
    fraction
        Of the analysed tissue, 0..1. None for "Not analysed" and "Total tissue", which are
        no part of it, and where nothing was analysed.
    """

    name: str
    pixels: int
    area_mm2: float | None
    fraction: float | None


@dataclass(frozen=True, slots=True)
class StainRow:
    """How much of a stain there is. All densities are optical densities.

    Parameters
    ----------
    name
        The stain's class.
    threshold
        Where its area begins.
    mean
        Mean density within its area; None where that is empty.
    beside
        A lower and a higher threshold, each with the fraction of the analysed tissue that
        reaches it: how much hangs on the threshold.
    """

    name: str
    threshold: float
    mean: float | None
    beside: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class AreaTable:
    """What `measure` finds.

    Analysed tissue is what lies inside the tissue mask (anywhere, where no mask was used)
    and is covered by the model.

    Parameters
    ----------
    rows
        A row a class (the background has none), in the model's order; then the analysed
        tissue of no class, the tissue that is not analysed, and all tissue.
    stains
        For stain models, a row a class.
    mpp, mpp_source
        µm per map pixel that the areas rest on, or None, and where that came from.
    """

    rows: tuple[AreaRow, ...]
    stains: tuple[StainRow, ...]
    mpp: YX | None
    mpp_source: MppSource | None

    def __getitem__(self, name: str) -> AreaRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def analysed(self) -> int:
        """Pixels of analysed tissue."""
        return self[TOTAL].pixels - self[NOT_ANALYSED].pixels

    @property
    def classes(self) -> tuple[AreaRow, ...]:
        """The rows of the classes alone."""
        return self.rows[:-3]


def measure(pm: ProbabilityMap, rule: DecisionRule = MODELS_OWN) -> AreaTable:
    """Areas of a map's classes within the tissue, from level 0.

    Independent classes (sigmoid, stain) are measured one by one: they may overlap, and
    unclassified is what is in none of them.

    Parameters
    ----------
    pm
        The map; of one that still grows, what is there.
    rule
        What makes a label. Areas are within the tissue whether or not it clips labels.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have.
    StoreError
        If the map cannot be read.
    """
    spec = pm.spec
    count = _Counter(pm, rule)
    counts = _Counts.none(len(spec.classes))
    # Each worker holds a few chunks; what it hands back is a few numbers.
    with ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1)) as pool:
        for strip in _strips(pm):
            counts.tissue += strip.pixels
            for found in pool.map(count, strip.parts()):
                counts += found
    return _table(pm, rule, counts)


def in_digits(mm2: float) -> str:
    """An area to three digits, large ones to whole mm²: "0.00123", "1875"."""
    return f"{mm2:.3g}" if mm2 < 999.5 else f"{mm2:.0f}"


def stain_readout(areas: AreaTable) -> list[str]:
    """A stain model's areas in words, a sentence a class; empty for other models."""
    if not areas.stains or not areas.analysed:
        return []
    return [_sentence(areas, stain) for stain in areas.stains]


@dataclass
class _Counts:
    """Pixels found so far.

    `masks` and `values` go by class, `beside` by class and neighbouring threshold;
    `values` sums the stored values within each mask.
    """

    masks: NDArray[np.int64]
    values: NDArray[np.float64]
    beside: NDArray[np.int64]
    classified: int = 0
    analysed: int = 0
    tissue: int = 0

    @classmethod
    def none(cls, classes: int) -> _Counts:
        return cls(np.zeros(classes, np.int64), np.zeros(classes), np.zeros((classes, 2), np.int64))

    def __iadd__(self, other: _Counts) -> _Counts:
        self.masks += other.masks
        self.values += other.values
        self.beside += other.beside
        self.classified += other.classified
        self.analysed += other.analysed
        self.tissue += other.tissue
        return self


@dataclass(frozen=True)
class _Strip:
    """A row of chunks: its tissue (None: all of it), and the parts that may be covered."""

    region: Region
    tissue: NDArray[np.bool_] | None
    covered: tuple[Region, ...]

    @property
    def pixels(self) -> int:
        return self.region.size.area if self.tissue is None else int(np.count_nonzero(self.tissue))

    def parts(self) -> Iterator[tuple[Region, NDArray[np.bool_] | None]]:
        """The parts that may hold analysed tissue, with their tissue."""
        for region in self.covered:
            if self.tissue is None:
                yield region, None
                continue
            tissue = self.tissue[:, region.left : region.right]
            if tissue.any():
                yield region, tissue


def _strips(pm: ProbabilityMap) -> Iterator[_Strip]:
    """Chunk rows from the top; a chunk that no patch reaches is never looked at."""
    size, side = pm.size, pm.grid.chunk
    for row, owed in enumerate(pm.grid.owed):
        bottom = min((row + 1) * side, size.height)
        region = Region.from_bounds(row * side, 0, bottom, size.width)
        tissue = None if pm.tissue is None else _read(pm.tissue[0], region)
        covered = tuple(
            Region.from_bounds(region.top, first * side, bottom, min(end * side, size.width))
            for first, end in _groups(owed > 0)
        )
        yield _Strip(region, tissue, covered)


def _groups(wanted: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Neighbours that are wanted, as [first, end), a few at a time."""
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    for first, end in edges.reshape(-1, 2).tolist():
        for start in range(first, end, _GROUP):
            yield start, min(start + _GROUP, end)


class _Counter:
    """Counts the pixels of a few chunks."""

    def __init__(self, pm: ProbabilityMap, rule: DecisionRule) -> None:
        self._values, self._coverage, self._spec = pm.levels[0], pm.coverage[0], pm.spec
        self._rule = rule
        self._beside = _rules_beside(pm.spec, rule) if pm.spec.activation == "stain" else ()
        # Fails here, not in a worker, where a class is unknown.
        rule.thresholds_for(pm.spec)

    def __call__(self, part: tuple[Region, NDArray[np.bool_] | None]) -> _Counts:
        region, tissue = part
        counts = _Counts.none(len(self._spec.classes))
        inside = _read(self._coverage, region)
        if tissue is not None:
            inside = inside & tissue
        counts.analysed = int(np.count_nonzero(inside))
        if not counts.analysed:
            return counts
        values = _read(self._values, region)
        masks = decide_masks(values, inside, None, self._spec, self._rule)
        counts.masks += [np.count_nonzero(mask) for mask in masks]
        counts.classified = int(np.count_nonzero(masks.any(axis=0)))
        for number, rule in enumerate(self._beside):
            wider = decide_masks(values, inside, None, self._spec, rule)
            counts.beside[:, number] = [np.count_nonzero(mask) for mask in wider]
        if self._beside:
            pairs = zip(values, masks, strict=True)
            counts.values += [value.sum(dtype=np.float64, where=mask) for value, mask in pairs]
        return counts


def _read(array: da.Array, region: Region) -> NDArray[Any]:
    part: Any = array[(..., *region.slices)]
    try:
        return np.asarray(part.compute(scheduler="synchronous"))
    # Zarr and its codecs fail in ways that nobody lists.
    except Exception as error:
        raise StoreError(
            f"The map cannot be read in its rows {region.top} to {region.bottom}, columns "
            f"{region.left} to {region.right} ({type(error).__name__}); "
            "the result is damaged, run again."
        ) from error


def _thresholds_beside(threshold: float) -> tuple[float, float]:
    """A lower and a higher one, as stored (optical density / 2)."""
    step = _BESIDE / FULL_DENSITY
    return max(threshold - step, 0.0), min(threshold + step, 1.0)


def _rules_beside(spec: ModelSpec, rule: DecisionRule) -> tuple[DecisionRule, ...]:
    own = rule.thresholds_for(spec)
    beside = {spec.classes[i]: _thresholds_beside(own[i]) for i in _labelled(spec)}
    return tuple(
        replace(rule, thresholds={name: pair[side] for name, pair in beside.items()})
        for side in (0, 1)
    )


def _labelled(spec: ModelSpec) -> list[int]:
    return [index for index in range(len(spec.classes)) if index != spec.background]


def _table(pm: ProbabilityMap, rule: DecisionRule, counts: _Counts) -> AreaTable:
    spec, mpp = pm.spec, pm.mpp

    def row(name: str, pixels: int, *, is_part: bool = True) -> AreaRow:
        area = None if mpp is None else pixels * mpp.y * mpp.x / 1e6
        fraction = pixels / counts.analysed if is_part and counts.analysed else None
        return AreaRow(name, pixels, area, fraction)

    rows = [row(spec.classes[i], int(counts.masks[i])) for i in _labelled(spec)]
    rows += [
        row(UNCLASSIFIED, counts.analysed - counts.classified),
        row(NOT_ANALYSED, counts.tissue - counts.analysed, is_part=False),
        row(TOTAL, counts.tissue, is_part=False),
    ]
    stains = _stain_rows(pm, rule, counts) if spec.activation == "stain" else ()
    return AreaTable(tuple(rows), stains, mpp, pm.mpp_source)


def _stain_rows(pm: ProbabilityMap, rule: DecisionRule, counts: _Counts) -> tuple[StainRow, ...]:
    full = FULL_DENSITY / 255 if pm.levels[0].dtype == np.uint8 else FULL_DENSITY
    rows = []
    thresholds = rule.thresholds_for(pm.spec)
    for index in _labelled(pm.spec):
        threshold = thresholds[index]
        pixels = int(counts.masks[index])
        mean = float(counts.values[index]) * full / pixels if pixels else None
        densities = (FULL_DENSITY * value for value in _thresholds_beside(threshold))
        fractions = (counts.beside[index] / max(counts.analysed, 1)).tolist()
        beside = tuple(zip(densities, fractions, strict=True))
        rows.append(StainRow(pm.spec.classes[index], FULL_DENSITY * threshold, mean, beside))
    return tuple(rows)


def _sentence(areas: AreaTable, stain: StainRow) -> str:
    row, analysed = areas[stain.name], areas.analysed
    mm2 = ""
    if row.area_mm2 is not None and areas.mpp is not None:
        whole = analysed * areas.mpp.y * areas.mpp.x / 1e6
        mm2 = f" ({in_digits(row.area_mm2)} of {in_digits(whole)} mm²)"
    # "DAB-positive", but "Eosin-dominant" as it stands.
    name, _, kind = stain.name.partition("-")
    kind = kind or "positive"
    (low, most), (high, least) = stain.beside
    mean = "" if stain.mean is None else f"; mean {name} OD in {kind} area {stain.mean:.2f}"
    return (
        f"{name}-{kind} area {100 * (row.fraction or 0):.1f} % of tissue{mm2} at {name} OD >= "
        f"{stain.threshold:.2f}{mean}; {100 * most:.1f}-{100 * least:.1f} % at "
        f"{low:.2f}-{high:.2f}"
    )
