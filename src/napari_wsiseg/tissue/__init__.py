"""Tissue masks: found on a coarse reading of the slide, or brought by the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.config import TissueOptions
from napari_wsiseg.slides import Slide
from napari_wsiseg.tissue.find import find_tissue
from napari_wsiseg.tissue.load import load_tissue
from napari_wsiseg.tissue.mask import TissueMask

__all__ = ["TissueMask", "find_tissue", "load_tissue", "tissue_for"]

TissueSetting = TissueOptions | Literal["auto", "none"] | Path | NDArray[Any] | TissueMask
"""What `SegmentationJob.tissue` takes, and a mask that is there."""


def tissue_for(slide: Slide, setting: TissueSetting) -> TissueMask | None:
    """The mask that a job asks for; None for "none": the whole slide.

    Parameters
    ----------
    slide
        The slide that the mask is for.
    setting
        "auto", "none", options for `find_tissue`, a mask's file, a folder of masks by
        slide stem, or a mask: (h, w), or one that is settled and stays as it is.

    Raises
    ------
    JobError
        If there is no such mask, or it cannot be one.
    SlideError
        If no part of the slide can be read.
    """
    if isinstance(setting, TissueMask):
        return setting
    if isinstance(setting, (np.ndarray, Path)):
        return load_tissue(setting, slide.info)
    if isinstance(setting, TissueOptions):
        return find_tissue(slide, setting)
    return None if setting == "none" else find_tissue(slide)
