"""`demo`: a first result within seconds, without a file of one's own and without a network."""

from __future__ import annotations

from pathlib import Path

from napari_wsiseg.cli.segment import Settings, segment_slides
from napari_wsiseg.cli.terminal import out, say
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.demo import fetch_real_slide, write_slide
from napari_wsiseg.errors import JobError
from napari_wsiseg.export import write_overlay
from napari_wsiseg.geometry import Resolution
from napari_wsiseg.slides import open_slide
from napari_wsiseg.store import ProbabilityMap


def run_demo(folder: Path, *, real: bool, verbose: bool) -> int:
    """Make or fetch a slide, segment it, draw the overlay, say what to do next; the exit status.

    Raises
    ------
    WsisegError
        If the slide cannot be fetched, or the folder cannot be written to.
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
    result = folder / f"{slide.stem}.ome.zarr"
    job = SegmentationJob(
        model=model,
        output=result,
        resolution=Resolution(1.0, "baseline"),
        # Nobody keeps work here, and the second time there should be as much to see.
        on_exists="overwrite",
    )
    status = segment_slides([slide], Settings(job, folder=None, verbose=verbose))
    if status != 0:
        return status
    overlay = folder / f"{slide.stem}-overlay.png"
    with open_slide(slide) as opened, ProbabilityMap.open(result) as pm:
        write_overlay(pm, opened, overlay, overwrite=True)
    _tell_next(slide, result, overlay)
    return status


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
