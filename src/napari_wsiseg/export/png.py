"""Writes a picture of a slide with its labels over it, a legend and a scale bar.

Knows no table and no polygon; areas come from `measure`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw
from PIL.PngImagePlugin import PngInfo
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.footer import Entry, Footer
from napari_wsiseg.export.provenance import provenance, slide_of
from napari_wsiseg.export.request import ExportRequest, Step
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import LabelBlock, LabelMap
from napari_wsiseg.measure import (
    NOT_ANALYSED,
    TOTAL,
    UNCLASSIFIED,
    AreaRow,
    AreaTable,
    Measuring,
    in_digits,
)
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.validation import raises

_OPACITY = 0.5
_SOURCES = {
    "metadata": "from the slide's file",
    "nominal": "from the objective power: approximate",
    "user": "as given by the user",
}
# A scale bar takes at most this part of the picture's width.
_BAR_PART = 0.3


@raises(ExportError, "An export to PNG")
@dataclass(frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class PngWriter:
    """A picture of the slide with the labels over it.

    Below it stand the classes with their colours and areas in percent of the analysed
    tissue (from level 0, see `measure`), a scale bar where the slide has a scale, and the
    research-use sentence. Of independent classes that overlap, the most probable shows.
    Without a clean-up the picture shows the labels of the pyramid level that suits its
    size. Provenance is in the PNG's text field "napari_wsiseg".

    Parameters
    ----------
    slide
        The slide that the map was made from, open, or where it is.
    size
        The longer side of the picture of the slide, in pixels.

    Raises
    ------
    ExportError
        If `size` is out of range, or there is no slide.
    """

    slide: Slide | Path
    size: Annotated[int, Field(ge=200, le=10_000)] = 1600

    def write(self, request: ExportRequest, partial: Path, target: Path) -> Iterator[Step]:
        """Draw the picture and save it; see `Writer`."""
        with ExitStack() as opened:
            slide = self.slide
            if isinstance(slide, Path):
                slide = opened.enter_context(open_slide(slide))
            _check_slide(request.pm, slide)
            size, downsample = _picture_grid(slide.info.size, self.size)
            picture = slide.read_at(Region(0, 0, size), downsample)
        yield Step("writing", 0.2)
        labels = _labels(request, size, downsample)
        measuring = Measuring(request.labels)
        for part in measuring.steps():
            yield Step("writing", 0.5 + 0.5 * part)
        (areas,) = measuring.tables()
        image = _with_footer(
            Image.fromarray(_blend(picture, labels, request)), request, areas, downsample
        )
        image.save(partial, format="PNG", pnginfo=_provenance(request), optimize=True)
        with Image.open(partial) as written:
            if ImageChops.difference(written.convert("RGB"), image).getbbox():
                raise ExportError(f"{target} does not read back as it was written; try again.")
        yield Step("checking", 1.0)


def _check_slide(pm: ProbabilityMap, slide: Slide) -> None:
    print_of = slide_of(pm).get("fingerprint")
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


def _labels(request: ExportRequest, picture: Size, downsample: YX) -> NDArray[np.uint8]:
    """The label under the centre of each pixel of the picture, 0 for none."""
    pm, source = request.pm, request.labels
    if source.cleanup.is_empty:
        coarser = min(downsample.y / pm.downsample.y, downsample.x / pm.downsample.x)
        level = min(max(int(math.log2(max(coarser, 1.0))), 0), len(pm.layout.sizes) - 1)
        source = LabelMap(pm, source.rule, level=level, corrected=bool(source.corrections))
    pixel = 2**source.level
    rows = _under(picture.height, downsample.y / (pm.downsample.y * pixel), source.size.height)
    columns = _under(picture.width, downsample.x / (pm.downsample.x * pixel), source.size.width)
    labels = np.zeros((picture.height, picture.width), np.uint8)
    for strip in source.strips():
        inside = (rows >= strip.top) & (rows < strip.bottom)
        if inside.any():
            shown = _shown(source.read(strip), request)
            labels[inside] = shown[(rows[inside] - strip.top)[:, None], columns]
    return labels


def _shown(found: LabelBlock, request: ExportRequest) -> NDArray[np.uint8]:
    """One label a pixel: of those that overlap, the most probable, the first of equals."""
    labels = request.exported(found.labels)
    if len(labels) == 1:
        only: NDArray[np.uint8] = labels[0]
        return only
    values = found.block.values[[code - 1 for (code,) in request.labels.layers]]
    likeliest = np.where(labels > 0, values.astype(np.float32), -1).argmax(axis=0)
    shown: NDArray[np.uint8] = np.take_along_axis(labels, likeliest[None], axis=0)[0]
    return shown


def _under(length: int, step: float, available: int) -> NDArray[np.intp]:
    """The label pixel under the centre of each picture pixel along an axis."""
    indices = ((np.arange(length) + 0.5) * step).astype(np.intp)
    return np.minimum(indices, available - 1)


def _blend(
    picture: NDArray[np.uint8], labels: NDArray[np.uint8], request: ExportRequest
) -> NDArray[np.uint8]:
    """The picture with each label's colour laid over its greys.

    Over its colours a hue would not be the legend's: yellow over eosin is orange.
    """
    table = np.zeros((256, 3), np.float32)
    table[list(request.codes)] = [request.rgb(code) for code in request.codes]
    grey = picture.mean(axis=2, dtype=np.float32, keepdims=True)
    laid = np.rint(grey * (1 - _OPACITY) + table[labels] * _OPACITY).astype(np.uint8)
    blended: NDArray[np.uint8] = np.where(labels[..., None] > 0, laid, picture)
    return blended


def _with_footer(
    over: Image.Image, request: ExportRequest, areas: AreaTable, downsample: YX
) -> Image.Image:
    pm = request.pm
    footer = Footer.below(Size(over.height, over.width))
    footer.line(_title(pm))
    footer.legend(_entries(request, areas))
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
    stem = slide_of(pm).get("stem")
    names = [str(stem)] if stem else []
    state = [] if pm.status == "complete" else [f"unfinished ({pm.status})"]
    return " - ".join([*names, f"model {pm.spec.name}", *state])


def _entries(request: ExportRequest, areas: AreaTable) -> list[Entry]:
    """A class each with its colour and share, then what of the tissue is in none."""
    colors = request.spec.class_colors
    classes = [
        Entry(f"{name} {_extent(areas[request.spec.classes[code - 1]])}", colors[code - 1])
        for code, name in request.names.items()
    ]
    return [*classes, Entry(f"{UNCLASSIFIED} {_extent(areas[UNCLASSIFIED])}", None)]


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
    if areas.corrected:
        remarks.append("Labels were corrected by hand.")
    elif not pm.spec.exclusive and len(areas.classes) > 1:
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


def _provenance(request: ExportRequest) -> PngInfo:
    info = PngInfo()
    info.add_text("Description", RESEARCH_USE)
    info.add_itxt("napari_wsiseg", json.dumps(provenance(request), ensure_ascii=False))
    return info
