"""Guesses from a slide's colours how it is stained."""

from __future__ import annotations

from typing import Literal

import numpy as np

from napari_wsiseg.slides.overview import Overview, find_glass

# Paler than this, dust and shadows look like stains.
_LEAST_DENSITY = 0.12
# How much one channel's density must exceed another's to count as a colour.
_CLEARLY = 1.15
_LEAST_PART = 0.02


def guess_stain(look: Overview) -> Literal["H&E", "H-DAB"] | None:
    """H&E, H-DAB, or None where the colours are neither's.

    Eosin absorbs green most; DAB absorbs blue most; hematoxylin absorbs red and green
    (Ruifrok and Johnston 2001), so that its pixels alone tell nothing. What is counted is
    how much of the stained pixels absorbs blue most, and how much green.

    Parameters
    ----------
    look
        A coarse reading of the slide.
    """
    background = np.maximum(np.asarray(find_glass(look).rgb, np.float32), 1)
    density = -np.log10(np.maximum(look.rgb.astype(np.float32), 1) / background)
    stained = (density.mean(axis=2) > _LEAST_DENSITY) & look.valid
    if not stained.any():
        return None
    red, green, blue = np.maximum(density[stained], 0).T
    brown = float(np.mean((blue > _CLEARLY * green) & (blue > _CLEARLY * red)))
    pink = float(np.mean((green > _CLEARLY * red) & (green > _CLEARLY * blue)))
    if max(brown, pink) < _LEAST_PART:
        return None
    return "H-DAB" if brown > pink else "H&E"
