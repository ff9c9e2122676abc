"""What holds for every network while it computes."""

from __future__ import annotations

import pytest
import torch

import napari_wsiseg as ws
from napari_wsiseg.models.networks import TorchSegmenter

SPEC = ws.ModelSpec("noting", ("A",), patch_input_shape=8, patch_output_shape=4)


@pytest.fixture
def coarse() -> None:
    """Convolutions in TF32, as torch has it by default, whatever came before."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        yield


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("precision", ["exact", "fp32", "bf16"])
def test_what_is_called_float32_is_not_tf32(precision: str):
    """TF32 keeps 10 of 23 bits; it takes a GPU to see them go, and the switch is the same."""
    seen = []

    def network(patches: torch.Tensor, output: ws.Size) -> torch.Tensor:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return torch.zeros(len(patches), 1, output.height, output.width)

    segmenter = TorchSegmenter(SPEC, network, torch.device("cpu"), precision)
    assert segmenter.predict(torch.zeros(2, 8, 8, 3, dtype=torch.uint8)).shape == (2, 1, 4, 4)
    assert seen == [(True, False)]
    assert torch.backends.cudnn.allow_tf32, "another program's networks are left as they were"


@pytest.mark.usefixtures("coarse")
def test_nothing_is_left_behind_when_a_network_fails():
    def network(patches: torch.Tensor, output: ws.Size) -> torch.Tensor:
        raise ValueError("no")

    segmenter = TorchSegmenter(SPEC, network, torch.device("cpu"), "exact")
    with pytest.raises(ValueError, match="no"):
        segmenter.predict(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
    assert torch.backends.cudnn.allow_tf32
