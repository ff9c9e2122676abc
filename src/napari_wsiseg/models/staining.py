"""`StainSegmenter`: a stain model, with the stains and the glass level that it measures by."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch

from napari_wsiseg.models.density import OpticalDensity, dominant, mean_density, unmixed
from napari_wsiseg.models.networks import TorchSegmenter
from napari_wsiseg.models.stains import StainVectors
from napari_wsiseg.models.zoo import Entry

_NETWORKS: Mapping[str, Callable[[StainVectors], OpticalDensity]] = {
    "unmixed": unmixed,
    "dominant": dominant,
    "mean_density": mean_density,
}


class StainSegmenter(TorchSegmenter):
    """A stain model, ready to predict.

    Parameters
    ----------
    known
        Its line in the zoo.
    device
        Where it computes.
    stains
        What it measures by; None: the standard, until it is settled for a slide.

    Attributes
    ----------
    is_settled
        Whether somebody chose the stains.
    """

    def __init__(
        self, known: Entry, device: torch.device, stains: StainVectors | None = None
    ) -> None:
        chosen = known.standard if stains is None else stains
        network = _NETWORKS[known.network](chosen).to(device)
        super().__init__(
            known.spec, network, device, "exact", parameters=_parameters(known, chosen)
        )
        self.known = known
        self.is_settled = stains is not None

    def stained(self, stains: StainVectors) -> Self:
        """The same model, which measures by these stains."""
        other = copy.copy(self)
        other.network = _NETWORKS[self.known.network](stains).to(torch.device(self.device))
        other.parameters = _parameters(self.known, stains)
        other.is_settled = True
        return other


def _parameters(known: Entry, stains: StainVectors) -> dict[str, Any]:
    """What of the stains changes the answer, and where it comes from."""
    numbers = stains.provenance()
    if known.measures_glass:
        del numbers["first"], numbers["second"]
    return numbers
