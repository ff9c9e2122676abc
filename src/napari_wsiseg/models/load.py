"""`load_model`: a name or a file becomes a segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsiseg.errors import ModelError
from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.models.stains import StainVectors
from napari_wsiseg.models.weights import fetch, load_strictly, read_state_dict, sha256
from napari_wsiseg.models.zoo import Entry, entry

if TYPE_CHECKING:
    import torch

    from napari_wsiseg.models.hardware import Precision

_SCRIPTED = {".pt", ".ts", ".torchscript"}
# Measured on the CPU, patches of 576 to 1536 px: 300 to 400 in float32, 60 to 140 in bfloat16.
_UNET_BYTES_PER_PIXEL = {"exact": 400, "fp32": 400, "bf16": 200, "fp16": 200}
_NAMELESS = "it holds weights and no network; give weights=PATH beside a model's name"
_UNREADABLE = {
    ".onnx": "ONNX models cannot be run yet; give a TorchScript file",
    ".pth": _NAMELESS,
    ".safetensors": _NAMELESS,
}


def load_model(
    name_or_path: str | Path | Segmenter,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    trust: bool = False,
) -> Segmenter:
    """A model, ready to predict.

    Parameters
    ----------
    name_or_path
        A name from `models()`, a TorchScript file with its spec beside it, or a
        segmenter, which is handed back as it is.
    weights
        A weights file (.pth, .safetensors) in place of the download; for a stain model
        a YAML file of stain vectors.
    device
        "auto", "cpu", "cuda", "cuda:1", "mps".
    precision
        "auto", "exact", "fp32", "bf16" or "fp16". Stain models and TorchScript files always
        compute in float32, or as they were saved.
    trust
        Allow files that run code when they are loaded (TorchScript).

    Raises
    ------
    ModelError
        If the name is unknown, or the file, device or precision cannot be used.
    """
    if not isinstance(name_or_path, (str, Path)):
        if isinstance(name_or_path, Segmenter):
            return name_or_path
        raise ModelError(
            f"A {type(name_or_path).__name__} is no model; give a name, a file, or an object with "
            "'spec' and 'predict'."
        )
    from napari_wsiseg.models.hardware import resolve_device, resolve_precision

    path = Path(name_or_path)
    suffix = path.suffix.lower()
    if suffix in _UNREADABLE:
        raise ModelError(f"{path} cannot be loaded: {_UNREADABLE[suffix]}.")
    scripted = suffix in _SCRIPTED
    known = None if scripted else entry(str(name_or_path))
    place = resolve_device(device)
    number = resolve_precision(precision, place)
    if known is None:
        if weights is not None:
            raise ModelError(f"{path} holds its own weights; leave out weights={str(weights)!r}.")
        from napari_wsiseg.models.scripted import load_scripted

        return load_scripted(path, place, trust=trust)
    if known.measures_stains:
        stains = None if weights is None else StainVectors.from_yaml(Path(weights))
        return stain_model(known.spec.name, stains, device)
    return _load_unet(known, None if weights is None else Path(weights), place, number)


def stain_model(name: str, stains: StainVectors | None = None, device: str = "auto") -> Segmenter:
    """A stain model with vectors of one's choice: `STAINS`, or `estimate_stains`.

    Parameters
    ----------
    name
        "hdab-stain", "he-stain" or "tissue" (of which only the glass level counts).
    stains
        Stain vectors and glass level, which every slide is then measured with; None: the
        model's own, or a slide's, as the job says.
    device
        As in `load_model`.

    Raises
    ------
    ModelError
        If `name` is no stain model, or the device is not there.
    """
    from napari_wsiseg.models.hardware import resolve_device
    from napari_wsiseg.models.staining import StainSegmenter

    known = entry(name)
    if not known.measures_stains:
        raise ModelError(f"{name!r} is no stain model; load it with load_model.")
    return StainSegmenter(known, resolve_device(device), stains)


def _load_unet(
    known: Entry, weights: Path | None, device: torch.device, precision: Precision
) -> Segmenter:
    import torch

    from napari_wsiseg.models.networks import TorchSegmenter, prepare
    from napari_wsiseg.models.unet import UNet

    spec = known.spec
    path = fetch(spec.name) if weights is None else weights
    state = read_state_dict(path)
    # On the meta device nothing is drawn at random only to be overwritten.
    with torch.device("meta"):
        network = UNet(len(spec.classes), known.decoder_block)
    load_strictly(network, state, path, spec.name)
    return TorchSegmenter(
        spec,
        prepare(network, device, precision),
        device,
        precision,
        weights_sha256=sha256(path),
        bytes_per_pixel=_UNET_BYTES_PER_PIXEL[precision],
    )
