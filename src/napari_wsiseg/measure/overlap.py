"""`Agreement`: how labels and annotations agree, class by class; knows not how it was counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsiseg.geometry import YX
from napari_wsiseg.labels import DecisionRule

if TYPE_CHECKING:
    from napari_wsiseg.slides.base import MppSource


NONE = "none of the classes"
"""What pixels are called that no class has, in the reference or in the prediction."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """A class in the reference and in the prediction, in pixels that were compared.

    Parameters
    ----------
    reference, predicted, both
        Pixels.
    """

    reference: int
    predicted: int
    both: int

    @property
    def dice(self) -> float | None:
        """2 * both / (reference + predicted); None where there is neither.

        Dice 1945, "Measures of the amount of ecologic association between species",
        Ecology 26, 297.
        """
        return _ratio(2 * self.both, self.reference + self.predicted)

    @property
    def precision(self) -> float | None:
        """Part of the predicted that is right; None where nothing is predicted."""
        return _ratio(self.both, self.predicted)

    @property
    def recall(self) -> float | None:
        """Part of the reference that is found; None where there is none."""
        return _ratio(self.both, self.reference)


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A class at one threshold.

    Parameters
    ----------
    threshold
        0..1; of stain models an optical density.
    overlap
        What it gives.
    """

    threshold: float
    overlap: Overlap


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """How a class agrees.

    Parameters
    ----------
    name
        The class.
    in_use
        The row of the rule's threshold.
    sweep
        Rows by ascending threshold, `in_use` among them: this class's threshold varied,
        the rest of the rule as it is.
    best
        The row of the highest Dice, of equals the one in use, then the lowest. None where
        there is nothing to choose by: no reference, no pixel that is not of the class, or
        nothing found at all.
    """

    name: str
    in_use: SweepRow
    sweep: tuple[SweepRow, ...]
    best: SweepRow | None

    @property
    def overlap(self) -> Overlap:
        """What the rule gives."""
        return self.in_use.overlap


@dataclass(frozen=True, slots=True)
class Agreement:
    """What `agreement` finds.

    Parameters
    ----------
    rule
        The rule in use.
    threshold_unit
        "probability" or "optical density".
    classes
        A row a class (the background has none), in the model's order.
    confusion
        Of exclusive classes: pixels by reference (rows) and prediction (columns), both in
        the order of `classes`, then none of them. None for independent classes.
    area, evaluated
        Pixels of what was to be compared, and of those the analysed ones, which were.
    used
        Number of annotations by the model's class; the background's are among them.
    regions
        Number of regions "Region*" that bound what is compared; 0: annotated pixels alone.
    left_out
        Number of annotations by their class, where the model has no such class.
    remarks
        What one must know to read the figures, a sentence each.
    mpp, mpp_source
        µm per map pixel that areas rest on, or None, and where that came from.
    """

    rule: DecisionRule
    threshold_unit: str
    classes: tuple[ClassAgreement, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    area: int
    evaluated: int
    used: Mapping[str, int]
    regions: int
    left_out: Mapping[str, int]
    remarks: tuple[str, ...]
    mpp: YX | None
    mpp_source: MppSource | None

    def __getitem__(self, name: str) -> ClassAgreement:
        for row in self.classes:
            if row.name == name:
                return row
        raise KeyError(name)

    def mm2(self, pixels: int) -> float | None:
        """An area in mm²; None without a scale."""
        return None if self.mpp is None else pixels * self.mpp.y * self.mpp.x / 1e6

    @property
    def accuracy(self) -> float | None:
        """Part of the compared pixels whose label is the reference's, none counted as one.

        None for independent classes.
        """
        if self.confusion is None:
            return None
        return _ratio(sum(row[i] for i, row in enumerate(self.confusion)), self.evaluated)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of the confusion table, pixels as cases, none as a class.

        (p - e) / (1 - e) with the agreement p and what e of it chance would give. None for
        independent classes, and where e is 1: all in one class.

        Cohen 1960, "A coefficient of agreement for nominal scales", Educational and
        Psychological Measurement 20, 37.
        """
        found = self.accuracy
        if self.confusion is None or found is None:
            return None
        columns: list[int] = [sum(column) for column in zip(*self.confusion, strict=True)]
        by_chance = sum(
            sum(row) * column for row, column in zip(self.confusion, columns, strict=True)
        )
        if by_chance == self.evaluated * self.evaluated:
            return None
        expected = by_chance / (self.evaluated * self.evaluated)
        return (found - expected) / (1 - expected)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
