"""Finds a slide's µm per pixel and its levels' downsamples; knows no file format."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from napari_wsiseg.errors import JobError, SlideError, SlideWarning
from napari_wsiseg.geometry import YX, Size
from napari_wsiseg.slides.base import Level, MppSource

UserMpp = float | tuple[float, float] | None

_MICROMETRES = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "nm": 1e-3,
    "å": 1e-4,
    "in": 25400.0,
}
_UNIT_NAMES = {
    "meter": "m",
    "metre": "m",
    "centimeter": "cm",
    "centimetre": "cm",
    "millimeter": "mm",
    "millimetre": "mm",
    "micrometer": "µm",
    "micrometre": "µm",
    "micron": "µm",
    "microns": "µm",
    "um": "µm",
    "μm": "µm",  # Greek mu, where the table holds the micro sign
    "nanometer": "nm",
    "nanometre": "nm",
    "angstrom": "å",
    "inch": "in",
}

# Far above the largest glass slide scanned (a few 100,000 px a side), far below what a
# damaged header can ask for.
_MAX_SIDE = 2**22
_MAX_TILE_PIXELS = 2**28
_MAX_LEVELS = 64


def micrometres(unit: str) -> float | None:
    """µm in one `unit` (a symbol or an English name), or None for what is no length."""
    name = unit.strip()
    return _MICROMETRES.get(_UNIT_NAMES.get(name.lower(), name.lower()))


def positive(y: object, x: object) -> YX | None:
    """Both values as numbers, or None where either is none, not finite or not above 0."""
    try:
        pair = YX(float(y), float(x))  # type: ignore[arg-type]  # any text may come from a file
    except (TypeError, ValueError):
        return None
    return pair if all(math.isfinite(v) and v > 0 for v in pair) else None


def user_scale(mpp: UserMpp) -> YX | None:
    """The µm per pixel that somebody gave: one number, or (y, x).

    Raises
    ------
    JobError
        If it is not above 0.
    """
    if mpp is None:
        return None
    pair = tuple(mpp) if isinstance(mpp, (Sequence, np.ndarray)) else (mpp, mpp)
    scale = positive(*pair) if len(pair) == 2 else None
    if scale is None:
        raise JobError(f"mpp cannot be {mpp!r}; give µm per pixel above 0, one number or (y, x).")
    return scale


def choose_scale(
    name: str, given: YX | None, metadata: YX | None, power: float | None
) -> tuple[YX | None, MppSource | None]:
    """µm per level-0 pixel and where it comes from: given, else metadata, else 10 / power.

    Warns
    -----
    SlideWarning
        If it is derived from the objective power.
    """
    if given is not None:
        return given, "user"
    if metadata is not None:
        return metadata, "metadata"
    if power is None:
        return None, None
    nominal = 10 / power
    warnings.warn(
        f"{name} does not say its µm per pixel; {nominal:.4g} is taken from its {power:g}x "
        "objective and may be off by several percent, so give it with mpp=... if you know it.",
        SlideWarning,
        stacklevel=2,
    )
    return YX(nominal, nominal), "nominal"


def make_levels(sizes: Sequence[Size], tiles: Sequence[Size]) -> tuple[Level, ...]:
    """Levels, large to small, from their sizes; the first of `sizes` is level 0.

    Raises
    ------
    SlideError
        If a size or tile is out of any sensible range.
    """
    if not sizes or len(sizes) > _MAX_LEVELS:
        raise SlideError(f"it has {len(sizes)} levels, where 1 to {_MAX_LEVELS} are sensible")
    levels: list[Level] = []
    for size, tile in zip(sizes, tiles, strict=True):
        if not (0 < size.height <= _MAX_SIDE and 0 < size.width <= _MAX_SIDE):
            raise SlideError(f"a level of {size} is out of range (1 to {_MAX_SIDE} px a side)")
        if not 0 < tile.area <= _MAX_TILE_PIXELS:
            raise SlideError(
                f"it is stored in pieces of {tile}, which is too large to read; save it in tiles"
            )
        if not levels or size.area < levels[-1].size.area:
            levels.append(Level(size, level_downsample(sizes[0], size), tile))
    return tuple(levels)


def level_downsample(base: Size, level: Size) -> YX:
    """Level-0 pixels per pixel of a level of this size.

    A whole number wherever the level's size is the base's divided by it, rounded any
    way; for both axes the same power of two where that is one.
    """
    ratios = YX(base.height / level.height, base.width / level.width)
    power = 2 ** round(math.log2(ratios.y))
    if _divides(base.height, level.height, power) and _divides(base.width, level.width, power):
        return YX(float(power), float(power))
    return YX(
        _axis_downsample(base.height, level.height), _axis_downsample(base.width, level.width)
    )


def _axis_downsample(base: int, level: int) -> float:
    whole = round(base / level)
    return float(whole) if _divides(base, level, whole) else base / level


def _divides(base: int, level: int, whole: float) -> bool:
    return whole >= 1 and level in {
        int(base // whole),
        math.ceil(base / whole),
        round(base / whole),
    }
