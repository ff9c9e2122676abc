"""`demo`: a first result within seconds, without a file of one's own and without a network."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from napari_wsiseg.cli.segment import Settings, segment_slides
from napari_wsiseg.cli.terminal import out, say
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.demo import fetch_real_slide, write_slide
from napari_wsiseg.errors import JobError, WsisegError
from napari_wsiseg.export import export
from napari_wsiseg.geometry import Resolution
from napari_wsiseg.labels import MODELS_OWN, Cleanup, threshold_scale
from napari_wsiseg.models import models
from napari_wsiseg.slides import open_slide
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.store.arrays import TISSUE


def run_demo(folder: Path, *, real: bool, verbose: bool) -> int:
    """Make or fetch a slide, segment it, draw the overlay, say what to do next; the exit status.

    Raises
    ------
    WsisegError
        If the slide cannot be fetched, the folder cannot be written to, or holds under the
        demo's names what no demo made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(
            f"The folder {folder} cannot be made ({error.strerror}); choose another with --output."
        ) from error
    if real:
        slide, model = fetch_real_slide(), "he-stain"
    else:
        slide, model = folder / "immunohistochemistry.tif", "hdab-stain"
        if not slide.exists():
            say("Making a slide from scikit-image's picture of stained tissue ...")
            write_slide(slide)
    result, overlay = folder / f"{slide.stem}.ome.zarr", folder / f"{slide.stem}-overlay.png"
    # The second time there should be as much to see: an earlier demo's files are replaced.
    job = SegmentationJob(
        model=model,
        output=result,
        resolution=Resolution(1.0, "baseline"),
        on_exists="overwrite",
    )
    with open_slide(slide) as opened:
        fingerprint = opened.info.fingerprint
    for path, is_ours in ((result, _ran_demo), (overlay, _shows_demo)):
        if path.exists() and not is_ours(path, job, fingerprint):
            raise JobError(
                f"{path} was not made by the demo, so it is left alone; "
                "choose another folder with --output."
            )
    status = segment_slides([slide], Settings(job, folder=None, verbose=verbose))
    if status != 0:
        return status
    with open_slide(slide) as opened, ProbabilityMap.open(result) as pm:
        export(pm, overlay, "png", slide=opened, overwrite=True)
    _tell_next(slide, result, overlay)
    return status


def _ran_demo(result: Path, job: SegmentationJob, fingerprint: str) -> bool:
    """Whether a folder is what the demo's job made of this slide, and nothing was added to it."""
    try:
        with ProbabilityMap.open(result) as pm:
            asked, made_of = SegmentationJob(**pm.job), pm.provenance.get("slide")
    except WsisegError:
        return False
    labels = {path.name for path in (result / TISSUE).parent.glob("[!.]*")}
    return (
        asked == job.model_copy(update={"output": None})
        and _has(made_of, "fingerprint", fingerprint)
        and labels <= {Path(TISSUE).name, "zarr.json"}
    )


def _shows_demo(overlay: Path, job: SegmentationJob, fingerprint: str) -> bool:
    """Whether a file is a picture that `export` drew of such a result as the demo does."""
    try:
        with Image.open(overlay, formats=["PNG"]) as picture:
            told = json.loads(picture.info["napari_wsiseg"])
    # What is no picture, too large a one, or another program's.
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError):
        return False
    spec = models()[job.model]
    thresholds = [value * threshold_scale(spec) for value in MODELS_OWN.thresholds_for(spec)]
    return (
        isinstance(told, dict)
        and _has(told.get("slide"), "fingerprint", fingerprint)
        and _has(told.get("model"), "name", job.model)
        and told.get("thresholds") == dict(zip(spec.classes, thresholds, strict=True))
        and told.get("cleanup") == asdict(Cleanup())
    )


def _has(values: object, name: str, value: str) -> bool:
    return isinstance(values, dict) and values.get(name) == value


def _tell_next(slide: Path, result: Path, overlay: Path) -> None:
    out()
    for what, path in (
        ("Look at this first, the slide with its labels", overlay),
        ("The probability map (OME-Zarr)", result),
        ("The slide", slide),
    ):
        out(f"{what}: {path}")
    out()
    out("Next, with a slide of your own:")
    out("  napari-wsiseg info SLIDE")
    out("  napari-wsiseg models")
    out("  napari-wsiseg segment SLIDE --model he-stain --output results")
