"""`AreaTable`: what was measured, row by row; knows not how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from napari_wsiseg.geometry import YX
    from napari_wsiseg.slides.base import MppSource

UNCLASSIFIED = "Unclassified tissue"
NOT_ANALYSED = "Not analysed"
TOTAL = "Total tissue"


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
        reaches it: how much hangs on the threshold. Empty after a clean-up and after
        corrections: each would need its own.
    """

    name: str
    threshold: float
    mean: float | None
    beside: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class AreaTable:
    """What `measure` finds in a slide, or in a region of it.

    Analysed tissue is what lies inside the tissue mask (anywhere, where no mask was used)
    and is covered by the model; of corrected labels, also what has a label.

    Parameters
    ----------
    rows
        A row a class (the background has none), in the model's order; then the analysed
        tissue of no class, the tissue that is not analysed, and all tissue.
    stains
        For stain models, a row a class.
    mpp, mpp_source
        µm per map pixel that the areas rest on, or None, and where that came from.
    region, region_class
        Name and class of the region; None for the whole slide.
    estimated
        Whether the numbers are an estimate, for the eye alone: files never hold them.
    corrected
        Whether a person has corrected the labels.
    """

    rows: tuple[AreaRow, ...]
    stains: tuple[StainRow, ...]
    mpp: YX | None
    mpp_source: MppSource | None
    region: str | None = None
    region_class: str | None = None
    estimated: bool = False
    corrected: bool = False

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


class ResultRow(NamedTuple):
    """A row of the one table of many results."""

    result: str
    table: AreaTable
    row: AreaRow


def table_rows(tables: Iterable[tuple[str, AreaTable]]) -> Iterator[ResultRow]:
    """The rows of many tables as those of one: result, then region, then class.

    Parameters
    ----------
    tables
        Each with what its result is called.
    """
    for result, table in tables:
        for row in table.rows:
            yield ResultRow(result, table, row)
