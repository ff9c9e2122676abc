"""Slides of the window: what a layer shows as a slide, its scale, its stain, its tissue.

Whatever takes time here is made to be called in a thread. Knows no dock.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg._napari.side_by_side import SlideCopy
from napari_wsiseg._napari.slide_layer import METADATA, SlideSource, slide_of
from napari_wsiseg.errors import SlideError, SlideWarning, WsisegError, reason
from napari_wsiseg.geometry import YX, Polygon, Region, Size

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels, Layer, Shapes

    from napari_wsiseg._napari.panel import Stain
    from napari_wsiseg.slides import Slide
    from napari_wsiseg.tissue import TissueMask

_TISSUE = 1
_TISSUE_COLOR = "#111111"
_OUTLINE_PX = 1
_SAME = YX(1.0, 1.0)


@dataclass(frozen=True)
class OpenSlide:
    """A layer of the window, and the slide that it shows.

    Parameters
    ----------
    layer
        An RGB image.
    slide
        Open.
    is_own
        Whether it was opened for this, and is not the layer's own.
    """

    layer: Image
    slide: Slide
    is_own: bool

    @property
    def name(self) -> str:
        """What the layers of its results are called by: the file's stem, or the layer's name."""
        return self.layer.name if self.slide.info.path is None else self.slide.info.stem

    def close(self) -> None:
        """Let go of what was opened for this."""
        if self.is_own:
            self.slide.close()


@dataclass(frozen=True)
class Look:
    """What a first look at a slide finds.

    Parameters
    ----------
    tissue
        Where it lies; None where no part of the slide could be read.
    stain
        A guess from its colours; None where they say nothing.
    problem
        Why there is no tissue, else empty.
    """

    tissue: TissueMask | None
    stain: Stain | None
    problem: str = ""


def is_candidate(layer: Layer) -> bool:
    """Whether a layer may be a slide: an RGB image in two dimensions."""
    from napari.layers import Image

    if isinstance(layer.metadata.get(METADATA), SlideCopy):
        return False
    return isinstance(layer, Image) and bool(layer.rgb) and layer.ndim == 2


def slide_for(layer: Image, mpp: float | None = None) -> OpenSlide:
    """The slide that a layer shows: its own, else the file it came from, else its pixels.

    Parameters
    ----------
    layer
        An RGB image, of whichever reader.
    mpp
        µm per pixel, where the user gave it; the slide is opened anew then.

    Raises
    ------
    SlideError
        If it is none.
    """
    from napari_wsiseg.slides import open_slide

    own = slide_of(layer)
    if own is not None and mpp is None:
        return OpenSlide(layer, own, is_own=False)
    with warnings.catch_warnings():
        # They were told when the layer was opened; a scale is asked for in the dock.
        warnings.simplefilter("ignore", SlideWarning)
        path = own.info.path if own is not None else _source(layer)
        if path is not None:
            try:
                slide = open_slide(path, mpp)
                if slide.info.mpp is None and _in_micrometres(layer):
                    # Given before, or known to the reader that it came by.
                    slide.close()
                    slide = open_slide(path, tuple(layer.scale[-2:]))
                shape = (slide.info.size.height, slide.info.size.width)
                if shape == _shape(layer):
                    return OpenSlide(layer, slide, is_own=True)
                slide.close()
            except SlideError:
                pass
        return OpenSlide(layer, open_slide(layer, mpp), is_own=True)


def adopt_scale(found: OpenSlide, over: Iterable[Layer] = ()) -> OpenSlide:
    """Give the layer the slide's scale, where it has none: one layer without a unit hides all.

    Parameters
    ----------
    found
        The slide.
    over
        Layers that lie over it in the same units, and are to stay where they are on it.

    Returns
    -------
    The same; or, where the slide took the place of the layer's own, as the layer's.
    """
    layer, mpp = found.layer, found.slide.info.mpp
    if mpp is None:
        return found
    if found.is_own and slide_of(layer) is not None:
        # The slide that it had knew no scale; its pixels stay its own.
        layer.metadata[METADATA] = SlideSource(found.slide)
        found = replace(found, is_own=False)
    if not _in_micrometres(layer) or found.slide.info.mpp_source == "user":
        grown = np.asarray(mpp) / layer.scale[-2:]
        for one in (layer, *over):
            _grow(one, grown)
    return found


def follow(viewer: Viewer, grown: NDArray[np.float64]) -> None:
    """Look at what was looked at before it grew so many times, along y and x."""
    camera = viewer.scene.camera
    if (grown != 1).any():
        camera.center = (*camera.center[:-2], *(np.asarray(camera.center[-2:]) * grown))
        camera.zoom /= float(np.sqrt(grown.prod()))


def look_at(slide: Slide) -> Look:
    """Find the slide's tissue, and guess its stain."""
    from napari_wsiseg.slides.overview import read_overview
    from napari_wsiseg.tissue import find_tissue
    from napari_wsiseg.tissue.stain import guess_stain

    try:
        tissue = find_tissue(slide)
        return Look(tissue, guess_stain(read_overview(slide, mpp=16.0)))
    except WsisegError as error:
        return Look(None, None, reason(error))


def tissue_layer_keywords(found: OpenSlide, tissue: TissueMask) -> dict[str, Any]:
    """What an editable Labels layer of a mask is made of: shown by its outline alone."""
    from napari.utils.colormaps import DirectLabelColormap

    size = found.slide.info.size
    height, width = tissue.mask.shape
    step = YX(size.height / height, size.width / width)
    scale = np.asarray(found.layer.scale[-2:]) * step
    # A mask pixel's centre lies in the middle of the slide pixels it covers.
    shift = np.asarray(found.layer.scale[-2:]) * (np.asarray(step) - 1) / 2
    return {
        "data": tissue.mask.astype(np.uint8),
        "name": f"{found.name} · tissue",
        "scale": tuple(scale),
        "translate": tuple(np.asarray(found.layer.translate[-2:]) + shift),
        "units": found.layer.units[-2:],
        "axis_labels": ("y", "x"),
        "opacity": 0.9,
        "colormap": DirectLabelColormap(
            color_dict={None: "transparent", 0: "transparent", _TISSUE: _TISSUE_COLOR}
        ),
        "features": {"index": [0, _TISSUE], "class": ["glass", "tissue"]},
    }


def prepare_tissue_layer(layer: Labels) -> None:
    """Make a layer ready to paint tissue in."""
    layer.contour = _OUTLINE_PX
    layer.selected_label = _TISSUE


def edited_tissue(found: TissueMask, painted: NDArray[Any]) -> TissueMask:
    """The mask as it was painted; the one that was found, where nothing was."""
    from napari_wsiseg.tissue import TissueMask

    mask = painted > 0
    if np.array_equal(mask, found.mask):
        return found
    return TissueMask(mask, {**found.parameters, "edited": True}, ())


def regions_of(
    shapes: Shapes, layer: Image | Labels, downsample: YX = _SAME
) -> tuple[Polygon, ...]:
    """The closed shapes of a layer as outlines in level-0 pixels of the slide.

    Pixel centres of napari's are corners of ours, half a pixel apart.

    Parameters
    ----------
    shapes
        Drawn over the slide.
    layer
        Shows the slide, or a map of it.
    downsample
        Level-0 pixels in one pixel of the layer.
    """
    outlines: list[Polygon] = []
    for kind, vertices in zip(shapes.shape_type, shapes.data, strict=True):
        if kind in ("line", "path"):
            continue
        corners = _ellipse(vertices) if kind == "ellipse" else np.asarray(vertices)
        world = np.array([shapes.data_to_world(point)[-2:] for point in corners])
        pixels = np.array([layer.world_to_data(point) for point in world]) + 0.5
        pixels *= downsample
        outlines.append(tuple((float(y), float(x)) for y, x in pixels))
    return tuple(outlines)


def view_region(viewer: Viewer, layer: Image | Labels, size: Size) -> Region:
    """What the window shows of a layer of this size, in its pixels; empty where that is nothing."""
    height, width = viewer.canvas.size
    half = np.array([height, width]) / 2 / viewer.scene.camera.zoom
    centre = np.asarray(viewer.scene.camera.center[-2:])
    # As above, half a pixel apart.
    top, left = np.floor(np.asarray(layer.world_to_data(centre - half)) + 0.5)
    bottom, right = np.ceil(np.asarray(layer.world_to_data(centre + half)) + 0.5)
    return Region.from_bounds(int(top), int(left), int(bottom), int(right)).clipped(size)


def _ellipse(corners: NDArray[Any], points: int = 64) -> NDArray[np.float64]:
    """An ellipse in the box of these four corners, as an outline."""
    box = np.asarray(corners, float)
    centre = box.mean(axis=0)
    across, down = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)[:, None]
    outline: NDArray[np.float64] = centre + np.cos(angle) * across + np.sin(angle) * down
    return outline


def _source(layer: Image) -> Path | None:
    path = getattr(layer.source, "path", None)
    return Path(path) if path and Path(path).exists() else None


def _grow(layer: Layer, factor: NDArray[np.float64]) -> None:
    """Take a layer to µm, which are so many times its units."""
    scale, translate = np.array(layer.scale, float), np.array(layer.translate, float)
    scale[-2:] *= factor
    translate[-2:] *= factor
    layer.units = (*layer.units[:-2], "um", "um")
    layer.scale, layer.translate = scale, translate


def _in_micrometres(layer: Image) -> bool:
    return all(str(unit) == "micrometer" for unit in layer.units[-2:])


def _shape(layer: Image) -> tuple[int, int]:
    level = layer.data[0] if layer.multiscale else layer.data
    return int(level.shape[0]), int(level.shape[1])
