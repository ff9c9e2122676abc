"""`Segmenter`: what anyone may bring as a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from napari_wsiseg.spec import ModelSpec

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Segmenter(Protocol):
    """A trained network in any wrapper.

    Attributes
    ----------
    spec
        What the model answers and how it wants to be asked.
    """

    spec: ModelSpec

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        """Class probabilities of a batch of patches.

        Parameters
        ----------
        patches
            (N, H, W, 3) uint8 RGB on the CPU, or on `device` where the segmenter says, by
            that attribute, that it computes on an NVIDIA GPU; H and W need not be the spec's
            `patch_input_shape` where the spec has a `shift_period`.

        Returns
        -------
        (N, C, h, w) float in 0..1, the activation applied, centred on the input:
        the margin (H - h) // 2 is cut above, (W - w) // 2 on the left. Not to be written to
        again: it is merged while the next batch is predicted.
        """
