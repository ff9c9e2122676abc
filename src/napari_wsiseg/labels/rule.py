"""`DecisionRule`: which probability makes a label; knows no pixel."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import JobError
from napari_wsiseg.spec import FULL_DENSITY, ModelSpec
from napari_wsiseg.validation import raises

Unit = Literal["probability", "optical density"]
Threshold = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

# A class for itself is likelier than not from here on.
_EVEN = 0.5


@raises(JobError, "A decision rule")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DecisionRule:
    """Which probability makes a label.

    Exclusive classes (softmax): a pixel is of its most probable class, of the first of
    equals, where that reaches its threshold. Two exclusive classes of which one is the
    background: of the other, where that reaches its threshold. Independent classes
    (sigmoid, stain): each class where it reaches its threshold; masks may overlap, and
    the label shows the most probable of those. The background never gets a label.

    Parameters
    ----------
    thresholds
        By class name, 0..1 (for stain models: optical density / 2).
    default
        For the classes not named. None: the model's own thresholds, and where it has
        none 0 for exclusive classes, 0.5 for independent ones and against a background.
    clip_to_tissue
        No label outside the tissue mask.

    Raises
    ------
    JobError
        If a threshold is outside 0..1.
    """

    thresholds: dict[str, Threshold] = Field(default_factory=dict)
    default: Threshold | None = None
    clip_to_tissue: bool = True

    def thresholds_for(self, spec: ModelSpec) -> tuple[float, ...]:
        """The threshold of each class of a model; the background's has no meaning.

        Raises
        ------
        JobError
            If the rule names a class that the model does not have, or its background.
        """
        for name in self.thresholds:
            label_of(name, spec)
        usual = 0.0 if by_rank(spec) else _EVEN

        def threshold(name: str) -> float:
            if name in self.thresholds:
                return self.thresholds[name]
            return spec.thresholds.get(name, usual) if self.default is None else self.default

        return tuple(threshold(name) for name in spec.classes)


MODELS_OWN = DecisionRule()
"""The model's own thresholds, within the tissue."""


def label_of(name: str, spec: ModelSpec) -> int:
    """The label of a class: its index + 1.

    Raises
    ------
    JobError
        If the model does not have the class, or if it is the background.
    """
    labelled = [known for i, known in enumerate(spec.classes) if i != spec.background]
    if name not in labelled:
        raise JobError(_no_such_class(name, spec, labelled))
    return spec.classes.index(name) + 1


def threshold_scale(spec: ModelSpec) -> float:
    """What a threshold is multiplied by where people see it: stains are in optical density."""
    return FULL_DENSITY if spec.activation == "stain" else 1.0


def threshold_unit(spec: ModelSpec) -> Unit:
    """What thresholds are where people see them."""
    return "optical density" if spec.activation == "stain" else "probability"


def by_rank(spec: ModelSpec) -> bool:
    """Whether classes compete; with one class and its background, nobody does."""
    against_background = len(spec.classes) == 2 and spec.background is not None
    return spec.exclusive and not against_background


def _no_such_class(name: str, spec: ModelSpec, labelled: list[str]) -> str:
    choice = f"its classes are {', '.join(labelled)}"
    if name in spec.classes:
        return f"{name!r} is the background of model {spec.name!r} and gets no label; {choice}."
    folded = {known.casefold(): known for known in labelled}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    if near:
        choice = f"did you mean {' or '.join(repr(folded[match]) for match in near)}?"
        return f"Model {spec.name!r} has no class {name!r}; {choice}"
    return f"Model {spec.name!r} has no class {name!r}; {choice}."
