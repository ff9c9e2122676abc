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

    from napari_wsiseg.models.hardware import Backend, Precision

_ONNX = ".onnx"
_FILES = {_ONNX, ".pt", ".ts", ".torchscript"}
# Measured on the CPU, patches of 576 to 1536 px: 300 to 400 in float32, 60 to 140 in bfloat16.
# OpenVINO: 225 and 126, and the weights as it packs them when it is asked first, on 1024 x 1024.
_UNET_BYTES_PER_PIXEL: dict[Backend, dict[Precision, int]] = {
    "torch": {"exact": 400, "fp32": 400, "bf16": 200, "fp16": 200},
    "openvino": {"exact": 480, "fp32": 480, "bf16": 320},
}
_NAMELESS = "it holds weights and no network; give weights=PATH beside a model's name"
_UNREADABLE = {
    ".pth": _NAMELESS,
    ".safetensors": _NAMELESS,
}


def load_model(
    name_or_path: str | Path | Segmenter,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    backend: str = "auto",
    trust: bool = False,
) -> Segmenter:
    """A model, ready to predict.

    Parameters
    ----------
    name_or_path
        A name from `models()`, an ONNX or TorchScript file with its spec beside it, or a
        segmenter, which is handed back as it is.
    weights
        A weights file (.pth, .safetensors) in place of the download; for a stain model
        a YAML file of stain vectors.
    device
        "auto", "cpu", "cuda", "cuda:1", "mps".
    precision
        "auto", "exact", "fp32", "bf16" or "fp16". Stain models and model files always
        compute in float32, or as they were saved.
    backend
        What computes a UNet: "auto", "torch" or "openvino" (on the CPU).
        "auto" is OpenVINO where it is installed, on an x86-64 processor. The other models have
        one each.
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
    from napari_wsiseg.models.hardware import resolve_backend, resolve_device, resolve_precision

    path = Path(name_or_path)
    suffix = path.suffix.lower()
    if suffix in _UNREADABLE:
        raise ModelError(f"{path} cannot be loaded: {_UNREADABLE[suffix]}.")
    in_file = suffix in _FILES
    known = None if in_file else entry(str(name_or_path))
    on_cpu = device == "auto" and (backend == "openvino" or suffix == _ONNX)
    place = resolve_device("cpu" if on_cpu else device)
    number = resolve_precision(precision, place)
    runtime = resolve_backend(backend, place)
    if known is not None and not known.measures_stains:
        source = None if weights is None else Path(weights)
        return _load_unet(known, source, place, number, runtime)
    if backend not in ("auto", "torch") or (backend == "torch" and suffix == _ONNX):
        own = "ONNX Runtime" if suffix == _ONNX else "torch"
        raise ModelError(f"{name_or_path} is computed by {own}; leave out backend={backend!r}.")
    if known is None:
        return _load_file(path, weights, place, trust=trust)
    stains = None if weights is None else StainVectors.from_yaml(Path(weights))
    return stain_model(known.spec.name, stains, device)


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


def _load_file(
    path: Path, weights: str | Path | None, device: torch.device, *, trust: bool
) -> Segmenter:
    if weights is not None:
        raise ModelError(f"{path} holds its own weights; leave out weights={str(weights)!r}.")
    if path.suffix.lower() != _ONNX:
        from napari_wsiseg.models.scripted import load_scripted

        return load_scripted(path, device, trust=trust)
    if device.type != "cpu":
        raise ModelError(
            f"ONNX files run on the CPU, not on {str(device)!r}; choose device auto or cpu."
        )
    from napari_wsiseg.models.onnx import load_onnx

    return load_onnx(path)


def _load_unet(
    known: Entry, weights: Path | None, device: torch.device, precision: Precision, backend: Backend
) -> Segmenter:
    import torch

    from napari_wsiseg.models.networks import CentreNetwork, TorchSegmenter, prepare
    from napari_wsiseg.models.unet import UNet

    spec = known.spec
    path = fetch(spec.name) if weights is None else weights
    state = read_state_dict(path)
    # On the meta device nothing is drawn at random only to be overwritten.
    with torch.device("meta"):
        network = UNet(len(spec.classes), known.decoder_block)
    load_strictly(network, state, path, spec.name)
    ready: CentreNetwork
    if backend == "openvino":
        from napari_wsiseg.models.openvino import OpenVinoNetwork

        ready = OpenVinoNetwork(network, precision)
    else:
        ready = prepare(network, device, precision)
    return TorchSegmenter(
        spec,
        ready,
        device,
        precision,
        backend=backend,
        weights_sha256=sha256(path),
        bytes_per_pixel=_UNET_BYTES_PER_PIXEL[backend][precision],
    )
