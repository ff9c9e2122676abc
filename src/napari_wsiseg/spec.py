"""`ModelSpec`: what a model answers and how it wants to be asked; plain data.

Knows no network, no weights and no torch, so that a result can carry its spec
to a machine that has none of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import ModelError
from napari_wsiseg.geometry import Resolution
from napari_wsiseg.validation import raises

Activation = Literal["softmax", "sigmoid", "stain"]
# As large as a slide's side can be: beyond it numbers do not fit where they are computed with.
_Side = Annotated[int, Field(ge=1, le=2**22)]
Shape = tuple[_Side, _Side]
ResolutionText = Annotated[
    Resolution,
    BeforeValidator(Resolution.parse),
    PlainSerializer(str, return_type=str),
]

FULL_DENSITY = 2.0
"""The optical density that a "stain" model answers 1 for: its answers times this are densities."""

# Apart from each other, from glass and from the stains of H&E and H-DAB, to the colour-blind
# too (a test measures it): no reds or pinks, which vanish on eosin, and no blues, which do on
# hematoxylin where red is not seen. An eighth such colour was searched for and is not there.
_PALETTE = (
    "#009E73",
    "#F0E442",
    "#111111",
    "#00DD99",
    "#BB9900",
    "#555555",
    "#003300",
)


def as_shape(value: Any) -> Any:
    """Let one whole number stand for a square."""
    return (value, value) if isinstance(value, int) else value


@raises(ModelError, "A model's spec")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ModelSpec:
    """What a model answers and how it wants to be asked.

    Parameters
    ----------
    name
        The model's name; results carry it.
    classes
        Class names, in the order of the model's output channels.
    resolution
        The resolution that the model was trained at, as `Resolution.parse` reads it.
    patch_input_shape, patch_output_shape, stride_shape
        Height and width in pixels of what goes in, of what comes out (centred on
        the input) and from one patch to the next. A whole number means a square.
        `stride_shape` is the output's shape where it is not given.
    background
        Index of the class that never gets a label, or None.
    activation
        "softmax": classes exclude each other; "sigmoid": each class is judged by
        itself; "stain": a measured optical density / 2, judged by itself.
    shift_period
        A fully convolutional network moves its answer with its input for shifts by
        multiples of this; None where it does not. With it, patches may be widened.
    colors
        A colour "#RRGGBB" a class.
    thresholds
        Default thresholds by class name, in 0..1 (for "stain": optical density / 2).
    stain
        The stain of the slides that the model is for: "H&E" or "H-DAB"; None: any, or not known.
    description, intended_use, license, citation
        Texts shown beside the model.

    Raises
    ------
    ModelError
        If shapes, classes or colours contradict each other.
    """

    name: str
    classes: tuple[str, ...]
    resolution: ResolutionText = Resolution(1.0, "baseline")
    patch_input_shape: Annotated[Shape, BeforeValidator(as_shape)] = (1024, 1024)
    patch_output_shape: Annotated[Shape, BeforeValidator(as_shape)] = (512, 512)
    stride_shape: Annotated[Shape | None, BeforeValidator(as_shape)] = None
    background: int | None = None
    activation: Activation = "softmax"
    shift_period: _Side | None = None
    colors: tuple[Annotated[str, Field(pattern="^#[0-9A-Fa-f]{6}$")], ...] | None = None
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    stain: Literal["H&E", "H-DAB"] | None = None
    description: str | None = None
    intended_use: str | None = None
    license: str | None = None
    citation: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ModelError(
                f"Model {self.name!r} has the classes {self.classes}; give each a name of its own."
            )
        if len(self.classes) > 254:
            raise ModelError(
                f"Model {self.name!r} has {len(self.classes)} classes; labels hold at most 254."
            )
        if self.background is not None and not 0 <= self.background < len(self.classes):
            raise ModelError(
                f"Model {self.name!r} names class {self.background} as background; "
                f"its classes are 0 to {len(self.classes) - 1}."
            )
        if self.colors is not None and len(self.colors) != len(self.classes):
            raise ModelError(
                f"Model {self.name!r} has {len(self.classes)} classes and {len(self.colors)} "
                "colours; give one each."
            )
        if unknown := set(self.thresholds) - set(self.classes):
            raise ModelError(
                f"Model {self.name!r} has thresholds for {sorted(unknown)}; "
                f"its classes are {self.classes}."
            )
        for small, large in zip(self.patch_output_shape, self.patch_input_shape, strict=True):
            if small > large:
                raise ModelError(
                    f"Model {self.name!r} has a patch_output_shape {self.patch_output_shape} "
                    f"larger than its patch_input_shape {self.patch_input_shape}; "
                    "the output lies inside the input."
                )
        return self

    @property
    def class_colors(self) -> tuple[str, ...]:
        """A colour "#RRGGBB" a class: the model's own, else seven for the colour-blind in turn."""
        if self.colors is not None:
            return self.colors
        return tuple(_PALETTE[i % len(_PALETTE)] for i in range(len(self.classes)))

    @property
    def exclusive(self) -> bool:
        """Whether a pixel belongs to one class at most."""
        return self.activation == "softmax"
