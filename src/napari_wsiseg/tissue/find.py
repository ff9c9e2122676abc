"""Tells tissue from glass on a coarse reading of a slide.

Knows no patch, no model and no file format. Light is judged by optical density
(Beer-Lambert), as stains are; what separates tissue from glass is Otsu's threshold
(N. Otsu, IEEE Trans. SMC 9(1), 1979, p. 62), clamped to what glass and tissue can be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.config import TissueOptions
from napari_wsiseg.geometry import YX
from napari_wsiseg.slides.base import Slide
from napari_wsiseg.slides.overview import ASSUMED_MPP, Overview, find_glass, read_overview
from napari_wsiseg.tissue.ink import find_ink
from napari_wsiseg.tissue.mask import TissueMask
from napari_wsiseg.tissue.shapes import Mask, filled, grown, without_small

# No object is too small that is this part of the slide.
_SMALL_PART = 0.01


def find_tissue(slide: Slide, options: TissueOptions | None = None) -> TissueMask:
    """Find the tissue of a slide.

    Parameters
    ----------
    slide
        Any slide. It is read block by block: memory follows the size of the coarse
        reading (8 million pixels at most), not that of the slide.
    options
        How; None: `TissueOptions()`.

    Returns
    -------
    TissueMask
        Its `parameters` hold the glass level, the threshold found, and the µm per pixel
        of the reading. A slide without a scale is taken to have 0.5 µm/px (a 20x scan),
        and `warnings` say so; they also say when no glass or no tissue was found.

    Raises
    ------
    SlideError
        If no part of the slide can be read.
    """
    options = options or TissueOptions()
    look = read_overview(slide, options.mpp)
    warnings = _warnings(slide, look)
    glass = find_glass(look)
    density = _density(look.rgb, glass.level)
    ink = find_ink(look.rgb, glass.level, look.mpp) & look.valid if options.leave_out_ink else None
    judged = look.valid if ink is None else look.valid & ~ink
    otsu = _otsu(density[judged])
    threshold = min(max(otsu, options.min_density), options.max_density)
    if glass.is_scarce:
        mask = judged.copy()
        warnings.append(
            "Less than 1 % of the slide is glass, so all of it is taken as tissue; "
            "give a mask where that is wrong."
        )
    else:
        mask = _cleaned((density > threshold) & judged, look.mpp, options) & judged
    mask |= look.unread
    if not mask.any():
        warnings.append(
            "No tissue was found on the slide; give a mask, lower max_density, or choose "
            "tissue 'none' where that is wrong."
        )
    parameters = {
        "method": "optical density",
        "options": options.model_dump(mode="json"),
        "mpp": [look.mpp.y, look.mpp.x],
        "mpp_assumed": slide.info.mpp is None,
        "glass_level": glass.level,
        "glass_fraction": round(glass.fraction, 6),
        "otsu": round(otsu, 6),
        "threshold": round(threshold, 6),
        "ink_fraction": 0.0 if ink is None else round(float(ink.mean()), 6),
    }
    return TissueMask(mask, parameters, tuple(warnings))


def _warnings(slide: Slide, look: Overview) -> list[str]:
    """What the user should know of the reading."""
    warnings = []
    if slide.info.mpp is None:
        warnings.append(
            f"The slide has no scale; to find its tissue, {ASSUMED_MPP} µm per pixel was assumed."
        )
    if look.reason is not None:
        share = float(look.unread.mean())
        part = f"{share:.1%}" if share >= 0.001 else "Less than 0.1%"
        warnings.append(
            f"{part} of the slide could not be read while its tissue was looked for, and is "
            f"taken as tissue ({look.reason.rstrip('.')})."
        )
    return warnings


def _density(rgb: NDArray[np.uint8], glass: int) -> NDArray[np.float32]:
    """(h, w) mean optical density of the three colours over the glass level, at least 0."""
    values = np.maximum(np.arange(256), 1) / glass
    table = (-np.log10(values) / 3).astype(np.float32)
    density: NDArray[np.float32] = table[rgb[:, :, 0]]
    density += table[rgb[:, :, 1]]
    density += table[rgb[:, :, 2]]
    return np.maximum(density, 0, out=density)


def _otsu(density: NDArray[np.float32]) -> float:
    """Otsu's threshold; 0 where there is nothing to part."""
    if density.size == 0 or float(density.min()) == float(density.max()):
        return 0.0
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(density))


def _cleaned(mask: Mask, mpp: YX, options: TissueOptions) -> Mask:
    """Without small objects and small holes, and grown."""
    # In a picture of a few cells, everything would be small.
    whole = mask.size * mpp.y * mpp.x
    mask = without_small(mask, min(options.min_object_um2, _SMALL_PART * whole), mpp)
    mask = filled(mask, options.fill_hole_um2, mpp)
    return grown(mask, options.dilate_um, mpp)
