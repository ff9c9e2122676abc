"""The models known by name: a table, read without torch and without the network."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Literal

import yaml

from napari_wsiseg.errors import ModelError
from napari_wsiseg.models.stains import DAB, EOSIN, HEMATOXYLIN, QUPATH_EOSIN, StainVectors
from napari_wsiseg.models.weights import find_cached
from napari_wsiseg.spec import ModelSpec

Network = Literal["unmixed", "dominant", "mean_density", "unet"]

STAINS = {
    "H-DAB": StainVectors(HEMATOXYLIN, DAB, source="Ruifrok and Johnston 2001"),
    "H&E": StainVectors(HEMATOXYLIN, QUPATH_EOSIN, source="QuPath's defaults for H&E"),
    "H&E (Ruifrok and Johnston)": StainVectors(
        HEMATOXYLIN, EOSIN, source="Ruifrok and Johnston 2001"
    ),
}
"""Stain vectors by name; each stain model of the zoo names its own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the zoo.

    Parameters
    ----------
    spec
        What the model answers.
    network
        What is built.
    decoder_block
        Kernel sizes of a decoder stage, for "unet".
    stains
        Name of the default stain vectors, for the others.
    """

    spec: ModelSpec
    network: Network
    decoder_block: tuple[int, ...] = ()
    stains: str = ""

    @property
    def measures_stains(self) -> bool:
        """Whether it is one of the stain models: a measurement, no trained network."""
        return self.network != "unet"

    @property
    def measures_glass(self) -> bool:
        """Whether it measures against the slide's glass, and no stain plays a part."""
        return self.network == "mean_density"

    @property
    def standard(self) -> StainVectors:
        """The stains of a stain model, where no others are chosen."""
        own = STAINS[self.stains]
        return replace(own, source="white") if self.measures_glass else own


@cache
def _entries() -> dict[str, Entry]:
    text = resources.files(__package__).joinpath("zoo.yaml").read_text(encoding="utf-8")
    return {
        name: Entry(
            ModelSpec(name=name, **values["spec"]),
            values["network"],
            tuple(values.get("decoder_block", ())),
            values.get("stains", ""),
        )
        for name, values in yaml.safe_load(text).items()
    }


def models() -> dict[str, ModelSpec]:
    """The specs of the models that `load_model` knows by name.

    Examples
    --------
    >>> sorted(models())[:2]
    ['fcn-tissue_mask', 'fcn_resnet50_unet-bcss']
    """
    return {name: entry.spec for name, entry in _entries().items()}


def entry(name: str) -> Entry:
    """The zoo's line for a name.

    Raises
    ------
    ModelError
        If there is none; names the nearest.
    """
    known = _entries()
    if name in known:
        return known[name]
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = [
        by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, cutoff=0.5)
    ]
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(known)}."
    raise ModelError(f"There is no model {name!r}; {hint}")


def weights_ready(name: str) -> bool:
    """Whether a model runs without a download: it needs no weights, or they are cached.

    Looks at the disk only.

    Raises
    ------
    ModelError
        If the zoo has no such model.
    """
    return entry(name).measures_stains or find_cached(name) is not None
