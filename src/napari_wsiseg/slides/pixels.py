"""Turns pixels as they are stored into 8-bit RGB on white; knows no file format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import SlideError


def check_pixels(dtype: np.dtype[Any], channels: int) -> None:
    """Raise SlideError unless such pixels make a picture in grey or colour."""
    if dtype != np.uint8 and dtype.kind != "f":
        raise SlideError(
            f"its pixels are {dtype}, where 8-bit ones (or floats in 0..1) are needed; convert it"
        )
    if channels not in (1, 2, 3, 4):
        raise SlideError(
            f"it has {channels} channels, where 1 to 4 make a picture (grey or RGB, alpha)"
        )


def as_rgb(pixels: NDArray[Any], *, premultiplied: bool = False) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 from (h, w), or (h, w, 1 to 4): grey or RGB, with or without alpha.

    Floats are taken as 0..1. Transparent pixels are laid on white; `premultiplied`
    says that their colours are already weighed with alpha.
    """
    if pixels.dtype != np.uint8:
        finite = np.nan_to_num(pixels.astype(np.float32))
        pixels = np.rint(np.clip(finite, 0, 1) * 255).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] in (2, 4):
        pixels = _on_white(pixels[:, :, :-1], pixels[:, :, -1:], premultiplied)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels)


def _on_white(
    colour: NDArray[np.uint8], alpha: NDArray[np.uint8], premultiplied: bool
) -> NDArray[np.uint8]:
    if alpha.min(initial=255) == 255:
        return colour
    weight = alpha.astype(np.uint32)
    weighed = colour * np.uint32(255) if premultiplied else colour * weight
    total = np.minimum(weighed + (255 - weight) * 255, 255 * 255)
    laid: NDArray[np.uint8] = np.rint(total / 255).astype(np.uint8)
    return laid


def ycc_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) YCbCr to RGB, full range (ITU-T T.871, section 7)."""
    y, cb, cr = (pixels[:, :, i].astype(np.float64) for i in range(3))
    cb, cr = cb - 128, cr - 128
    rgb = np.stack(
        [y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb], axis=2
    )
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
