"""`segment --patches PICTURE...`: pictures that are patches already; no slide, no map."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from napari_wsiseg.cli.terminal import fail, out, say
from napari_wsiseg.cli.words import several
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import PatchResult, segment_patches
from napari_wsiseg.errors import JobError
from napari_wsiseg.models import load_model
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.spec import ModelSpec


def segment_pictures(
    pictures: Sequence[Path],
    job: SegmentationJob,
    folder: Path | None,
    *,
    as_json: bool,
    verbose: bool,
) -> int:
    """Write `<stem>-labels.png` and `<stem>-probabilities.npz` for each; the exit status.

    Raises
    ------
    JobError, ModelError
        If the model cannot be loaded, or the output is no folder.
    """
    if folder is None:
        raise JobError("Patches have several outputs; give a folder with --output.")
    model = load_model(
        job.model,
        weights=job.weights,
        device=job.device,
        precision=job.precision,
        trust=job.trust,
    )
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for picture in pictures:
        try:
            labels, probabilities = _targets(
                picture, folder, overwrite=job.on_exists == "overwrite"
            )
            result = segment_patches([picture], model)
            _write_labels(labels, result.labels[0], model.spec)
            _write_probabilities(probabilities, result, model.spec)
        # What is wrong with one picture is not wrong with the next.
        except Exception as error:  # noqa: BLE001
            fail(error, verbose=verbose)
            failed += 1
            continue
        counts = _counts(result.labels[0], model.spec)
        if as_json:
            values = {"patch": str(picture), "labels": str(labels), "pixels": counts}
            out(json.dumps(values | {"notice": RESEARCH_USE}))
        else:
            total = result.labels[0].size
            shares = ", ".join(f"{name} {n / total:.1%}" for name, n in counts.items())
            out(f"{labels}: {shares}")
    if failed:
        say(f"{failed} of {several(len(pictures), 'patch')} failed.")
    elif not as_json:
        out(RESEARCH_USE)
    return 1 if failed else 0


def _targets(picture: Path, folder: Path, *, overwrite: bool) -> tuple[Path, Path]:
    targets = (
        folder / f"{picture.stem}-labels.png",
        folder / f"{picture.stem}-probabilities.npz",
    )
    for target in targets:
        if target.exists() and not overwrite:
            raise JobError(
                f"{target} exists; give another --output, or --on-exists overwrite to replace it."
            )
    return targets


def _write_labels(path: Path, labels: NDArray[np.uint8], spec: ModelSpec) -> None:
    """Label values as they are, with the classes' colours as the picture's palette."""
    image = Image.fromarray(labels, "P")
    colors = (bytes.fromhex(color.removeprefix("#")) for color in spec.class_colors)
    image.putpalette(b"\0\0\0" + b"".join(colors))
    text = PngInfo()
    text.add_text("Description", RESEARCH_USE)
    for value, name in enumerate(spec.classes, 1):
        text.add_text(f"Label {value}", name)
    image.save(path, pnginfo=text)


def _write_probabilities(path: Path, result: PatchResult, spec: ModelSpec) -> None:
    np.savez_compressed(
        path,
        probabilities=result.probabilities[0],
        classes=np.array(spec.classes),
        notice=np.array(RESEARCH_USE),
    )


def _counts(labels: NDArray[np.uint8], spec: ModelSpec) -> dict[str, int]:
    counts = np.bincount(labels.ravel(), minlength=len(spec.classes) + 1)
    return {name: int(count) for name, count in zip(spec.classes, counts[1:], strict=False)}
