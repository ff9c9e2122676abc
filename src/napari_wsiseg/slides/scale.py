"""Finds a slide's µm per pixel and its levels' downsamples, and says what is known of it.

Knows no file format.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_wsiseg.errors import JobError, SlideError, SlideWarning
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides.base import Level, MppSource, SlideInfo

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


@dataclass(frozen=True, slots=True)
class Scale:
    """µm per level-0 pixel, where they come from, and the objective, as in `SlideInfo`."""

    mpp: YX | None
    source: MppSource | None
    objective_power: float | None


def choose_scale(given: YX | None, metadata: YX | None, power: float | None) -> Scale:
    """The scale that somebody gave, else that of the metadata, else 10 / power."""
    if given is not None:
        return Scale(given, "user", power)
    if metadata is not None:
        return Scale(metadata, "metadata", power)
    if power is not None:
        return Scale(YX(10 / power, 10 / power), "nominal", power)
    return Scale(None, None, None)


def describe(
    path: Path | None,
    vendor: str,
    fingerprint: str,
    levels: tuple[Level, ...],
    scale: Scale,
    *,
    bounds: Region | None = None,
    alias: str | None = None,
) -> SlideInfo:
    """What is known of a slide, level 0 being its size; the other fields as in `SlideInfo`.

    Warns
    -----
    SlideWarning
        If the scale is only nominal.
    """
    info = SlideInfo(
        path=path,
        size=levels[0].size,
        mpp=scale.mpp,
        mpp_source=scale.source,
        objective_power=scale.objective_power,
        levels=levels,
        vendor=vendor,
        bounds=bounds,
        fingerprint=fingerprint,
        alias=alias,
    )
    if info.scale_warning is not None:
        warnings.warn(info.scale_warning, SlideWarning, stacklevel=2)
    return info


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
