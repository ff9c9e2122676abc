"""Writes a picture of a slide with its labels over it, a legend and a scale bar.

Knows no table and no polygon; areas come from `measure`.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from napari_wsiseg.errors import ExportError, StoreError
from napari_wsiseg.export.footer import Entry, Footer
from napari_wsiseg.export.target import check_free, new_file
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import MODELS_OWN, DecisionRule, label_pyramid
from napari_wsiseg.measure import (
    NOT_ANALYSED,
    TOTAL,
    UNCLASSIFIED,
    AreaRow,
    AreaTable,
    in_digits,
    measure,
)
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.slides import Slide
from napari_wsiseg.store import ProbabilityMap

SMALLEST, LARGEST = 200, 10_000

_OPACITY = 0.5
_SOURCES = {
    "metadata": "from the slide's file",
    "nominal": "from the objective power: approximate",
    "user": "as given by the user",
}
# A scale bar takes at most this part of the picture's width.
_BAR_PART = 0.3


def write_overlay(
    pm: ProbabilityMap,
    slide: Slide,
    path: str | os.PathLike[str],
    rule: DecisionRule = MODELS_OWN,
    size: int = 1600,
    *,
    overwrite: bool = False,
) -> None:
    """Write a PNG of the slide with the map's labels over it.

    Below the picture stand the classes with their colours and areas in percent of the
    analysed tissue (from level 0, see `measure`), a scale bar where the slide has a scale,
    and the research-use sentence. The picture shows the labels of the pyramid level that
    suits its size; of independent classes that overlap, the most probable. Provenance is in
    the PNG's text field "napari_wsiseg".

    Parameters
    ----------
    pm
        The map; it may still grow.
    slide
        The slide that it was made from.
    path
        The file to write.
    rule
        What makes a label.
    size
        The longer side of the picture of the slide, in pixels.
    overwrite
        Whether a file that is there is replaced.

    Raises
    ------
    ExportError
        If the file is there already or cannot be written, if `size` is out of range, or if
        the slide is not the map's.
    JobError
        If the rule names a class that the model does not have.
    SlideError, StoreError
        If the slide or the map cannot be read.
    """
    if not SMALLEST <= size <= LARGEST:
        raise ExportError(
            f"The picture's size is {size} px; give {SMALLEST} to {LARGEST} (the longer side)."
        )
    _check_slide(pm, slide)
    target = Path(path)
    check_free(target, overwrite=overwrite)
    areas = measure(pm, rule)
    picture_size, downsample = _picture_grid(slide.info.size, size)
    picture = slide.read_at(Region(0, 0, picture_size), downsample)
    labels = _labels(pm, rule, picture_size, downsample)
    over = Image.fromarray(_blend(picture, labels, pm.spec.class_colors))
    image = _with_footer(over, pm, areas, downsample)
    with new_file(target, overwrite=overwrite) as partial:
        image.save(partial, format="PNG", pnginfo=_provenance(pm, rule), optimize=True)


def _check_slide(pm: ProbabilityMap, slide: Slide) -> None:
    made_from = pm.provenance.get("slide")
    print_of = made_from.get("fingerprint") if isinstance(made_from, dict) else None
    same = pm.slide_size == slide.info.size and print_of in (None, slide.info.fingerprint)
    if not same:
        raise ExportError(
            f"{slide.info.stem} ({slide.info.size}) is not the slide that the result was made "
            f"from ({pm.slide_size}); open that one."
        )


def _picture_grid(slide: Size, size: int) -> tuple[Size, YX]:
    """The picture's size, and level-0 pixels per pixel of it; small slides are enlarged."""
    factor = max(slide.height, slide.width) / size
    picture = Size(max(round(slide.height / factor), 1), max(round(slide.width / factor), 1))
    return picture, YX(slide.height / picture.height, slide.width / picture.width)


def _labels(
    pm: ProbabilityMap, rule: DecisionRule, picture: Size, downsample: YX
) -> NDArray[np.uint8]:
    """The label under the centre of each pixel of the picture, 0 for none."""
    coarser = min(downsample.y / pm.downsample.y, downsample.x / pm.downsample.x)
    pyramid = label_pyramid(pm, rule)
    level = min(max(int(math.log2(max(coarser, 1.0))), 0), len(pyramid) - 1)
    found: Any = pyramid[level]
    try:
        labels: NDArray[np.uint8] = np.asarray(found.compute())
    # Zarr and its codecs fail in ways that nobody lists.
    except Exception as error:
        raise StoreError(
            f"Level {level} of the map cannot be read ({type(error).__name__}); "
            "the result is damaged, run again."
        ) from error
    rows = _under(picture.height, downsample.y / (pm.downsample.y * 2**level), labels.shape[0])
    columns = _under(picture.width, downsample.x / (pm.downsample.x * 2**level), labels.shape[1])
    under: NDArray[np.uint8] = labels[rows[:, None], columns]
    return under


def _under(length: int, step: float, available: int) -> NDArray[np.intp]:
    """The label pixel under the centre of each picture pixel along an axis."""
    indices = ((np.arange(length) + 0.5) * step).astype(np.intp)
    return np.minimum(indices, available - 1)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _blend(
    picture: NDArray[np.uint8], labels: NDArray[np.uint8], colors: tuple[str, ...]
) -> NDArray[np.uint8]:
    """The picture with each label's colour laid over its greys.

    Over its colours a hue would not be the legend's: yellow over eosin is orange.
    """
    table = np.array([(0, 0, 0), *(_rgb(color) for color in colors)], np.float32)
    grey = picture.mean(axis=2, dtype=np.float32, keepdims=True)
    laid = np.rint(grey * (1 - _OPACITY) + table[labels] * _OPACITY).astype(np.uint8)
    blended: NDArray[np.uint8] = np.where(labels[..., None] > 0, laid, picture)
    return blended


def _with_footer(
    over: Image.Image, pm: ProbabilityMap, areas: AreaTable, downsample: YX
) -> Image.Image:
    footer = Footer.below(Size(over.height, over.width))
    footer.line(_title(pm))
    footer.legend(_entries(pm, areas))
    footer.line(*_remarks(pm, areas))
    footer.scale(_scale(pm, downsample, over.width), _scale_words(pm))
    footer.line(RESEARCH_USE, small=True)
    drawn = footer.image()
    whole = Image.new("RGB", (drawn.width, over.height + drawn.height), "white")
    left = (drawn.width - over.width) // 2
    whole.paste(over, (left, 0))
    whole.paste(drawn, (0, over.height))
    # Glass is nearly as white as the paper: where the slide ends would not show.
    frame = (left - 1, -1, left + over.width, over.height)
    ImageDraw.Draw(whole).rectangle(frame, outline="#BBBBBB")
    return whole


def _title(pm: ProbabilityMap) -> str:
    made_from = pm.provenance.get("slide")
    stem = made_from.get("stem") if isinstance(made_from, dict) else None
    names = [str(stem)] if stem else []
    state = [] if pm.status == "complete" else [f"unfinished ({pm.status})"]
    return " - ".join([*names, f"model {pm.spec.name}", *state])


def _entries(pm: ProbabilityMap, areas: AreaTable) -> list[Entry]:
    """A class each with its colour and share, then what of the tissue is in none."""
    colors = dict(zip(pm.spec.classes, pm.spec.class_colors, strict=True))
    rows = [*areas.classes, areas[UNCLASSIFIED]]
    return [Entry(f"{row.name} {_extent(row)}", colors.get(row.name)) for row in rows]


def _extent(row: AreaRow) -> str:
    # Of what was not looked at, 0 mm² would be a finding.
    if row.fraction is None or row.area_mm2 is None:
        return _percent(row.fraction)
    return f"{_percent(row.fraction)} ({in_digits(row.area_mm2)} mm²)"


def _percent(fraction: float | None) -> str:
    if fraction is None:
        return "-"
    return "< 0.1 %" if 0 < fraction < 0.0005 else f"{100 * fraction:.1f} %"


def _remarks(pm: ProbabilityMap, areas: AreaTable) -> list[str]:
    remarks = ["% of analysed tissue."]
    if not areas.analysed:
        remarks = ["No tissue was analysed."]
    if not pm.spec.exclusive and len(areas.classes) > 1:
        first = "strongest" if pm.spec.activation == "stain" else "most probable"
        remarks.append(f"Classes may overlap; the picture shows the {first}.")
    left, total = areas[NOT_ANALYSED].pixels, areas[TOTAL].pixels
    if left and areas.analysed:
        remarks.append(f"Not analysed: {_percent(left / total)} of all tissue.")
    return remarks


def _scale(pm: ProbabilityMap, downsample: YX, width: int) -> tuple[float, str] | None:
    """Length of the scale bar in pixels and its name, or None where there is no scale.

    Always in mm: the font has no µ.
    """
    if pm.mpp is None:
        return None
    mm_per_pixel = pm.mpp.x / pm.downsample.x * downsample.x / 1000
    most = _BAR_PART * width * mm_per_pixel
    decade = 10.0 ** math.floor(math.log10(most))
    length = max(decade * step for step in (1, 2, 5) if decade * step <= most * (1 + 1e-9))
    return length / mm_per_pixel, f"{length:.10f}".rstrip("0").rstrip(".") + " mm"


def _scale_words(pm: ProbabilityMap) -> str:
    if pm.mpp is None:
        return "Scale unknown"
    return f"(scale {_SOURCES[pm.mpp_source]})" if pm.mpp_source is not None else ""


def _provenance(pm: ProbabilityMap, rule: DecisionRule) -> PngInfo:
    thresholds = dict(zip(pm.classes, rule.thresholds_for(pm.spec), strict=True))
    if pm.spec.background is not None:
        del thresholds[pm.classes[pm.spec.background]]
    values = {
        "notice": RESEARCH_USE,
        "status": pm.status,
        "thresholds": thresholds,
        "clip_to_tissue": rule.clip_to_tissue,
        "mpp_source": pm.mpp_source,
        "result": pm.provenance,
    }
    info = PngInfo()
    info.add_text("Description", RESEARCH_USE)
    info.add_itxt("napari_wsiseg", json.dumps(values, ensure_ascii=False))
    return info
