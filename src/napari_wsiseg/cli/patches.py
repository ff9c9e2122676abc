"""`segment --patches PICTURE...`: pictures that are patches already; no slide, no map."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from napari_wsiseg.cli.segment import loaded_model
from napari_wsiseg.cli.terminal import fail, out, say, warn
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import PatchResult, segment_patches
from napari_wsiseg.errors import InferenceError, JobError, SlideWarning
from napari_wsiseg.export.target import new_file
from napari_wsiseg.models import Segmenter
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.words import several

_MEANT_FOR_SLIDES = (
    "alias",
    "stains",
    "mpp",
    "resolution",
    "patch_input_shape",
    "patch_output_shape",
    "stride_shape",
    "window",
    "tissue",
    "min_mask_ratio",
    "region",
    "dtype",
    "save_resolution",
    "batch_size",
    "memory_threshold",
    "memory_limit",
    "strict",
)


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
    _check(pictures, job)
    model = loaded_model(job)
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for picture in pictures:
        try:
            labels, probabilities = _targets(
                picture, folder, overwrite=job.on_exists == "overwrite"
            )
            result = _predicted(picture, model)
            # Both or none: entered together, neither is renamed before both are written.
            with (
                new_file(labels, overwrite=True) as picture_file,
                new_file(probabilities, overwrite=True) as array_file,
            ):
                _write_labels(picture_file, result.labels[0], model.spec)
                _write_probabilities(array_file, result, model.spec)
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


def _check(pictures: Sequence[Path], job: SegmentationJob) -> None:
    """Raise JobError where an option would do nothing, or one picture's files replace another's."""
    idle = [name for name in _MEANT_FOR_SLIDES if name in job.model_fields_set]
    if idle:
        raise JobError(
            f"{', '.join(idle)} cannot be chosen with --patches: each patch is taken as it is, "
            f"by itself; leave {'it' if len(idle) == 1 else 'them'} out."
        )
    first: dict[str, Path] = {}
    for picture in pictures:
        other = first.setdefault(picture.stem, picture)
        if other != picture:
            raise JobError(
                f"{other} and {picture} would have the same results, {picture.stem}-labels.png; "
                "rename one, or run them apart."
            )


def _predicted(picture: Path, model: Segmenter) -> PatchResult:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SlideWarning)
        result = segment_patches([picture], model)
    for warning in caught:
        warn(str(warning.message))
    if result.failed:
        raise InferenceError(f"{picture} has no answer: {result.failed[0]}")
    return result


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
    image.save(path, format="PNG", pnginfo=text)


def _write_probabilities(path: Path, result: PatchResult, spec: ModelSpec) -> None:
    # A file, because NumPy adds a suffix to a name.
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            probabilities=result.probabilities[0],
            classes=np.array(spec.classes),
            notice=np.array(RESEARCH_USE),
        )


def _counts(labels: NDArray[np.uint8], spec: ModelSpec) -> dict[str, int]:
    counts = np.bincount(labels.ravel(), minlength=len(spec.classes) + 1)
    return {name: int(count) for name, count in zip(spec.classes, counts[1:], strict=False)}
