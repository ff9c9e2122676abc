"""Model files and the spec beside them: what their formats have in common."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from napari_wsiseg.documents import UnreadableError, read_yaml
from napari_wsiseg.errors import ModelError, reason
from napari_wsiseg.geometry import Size
from napari_wsiseg.spec import ModelSpec


def check_there(path: Path) -> None:
    """Refuse a path where no file is.

    Raises
    ------
    ModelError
        If there is none.
    """
    if not path.is_file():
        raise ModelError(f"There is no model file {path}; check the path.")


def spec_beside(path: Path) -> ModelSpec:
    """The spec of a model file: `<stem>.yaml` holds the fields of `ModelSpec`.

    Raises
    ------
    ModelError
        If it is missing or unreadable, or no spec.
    """
    beside = path.with_suffix(".yaml")
    try:
        values = read_yaml(beside)
    except (OSError, UnreadableError) as error:
        raise ModelError(
            f"{path} needs its spec in {beside.name} beside it, a field of ModelSpec a line "
            f"({reason(error)})."
        ) from error
    return ModelSpec(**{"name": path.stem, **values})


def planes(patches: Tensor) -> Tensor:
    """What the network in a model file takes: (N, H, W, 3) uint8 -> (N, 3, H, W) in 0..1."""
    return patches.permute(0, 3, 1, 2).float().div(255)


def centre(answer: Tensor, patches: Tensor, output: Size) -> Tensor:
    """The centre of (N, C, h, w), as large as the spec promises.

    Raises
    ------
    ModelError
        If it is larger than the answer.
    """
    top = (answer.shape[-2] - output.height) // 2
    left = (answer.shape[-1] - output.width) // 2
    if top < 0 or left < 0:
        raise ModelError(
            f"The model answers {Size(*answer.shape[-2:])} for patches of "
            f"{Size(*patches.shape[1:3])}; its spec promises {output}."
        )
    return answer[..., top : top + output.height, left : left + output.width]
