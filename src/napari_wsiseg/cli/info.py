"""`info SLIDE`: what is known of a slide before a pixel is read."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from napari_wsiseg.cli.terminal import out, print_table, warn
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.slides import Level, SlideInfo, open_slide
from napari_wsiseg.words import SCALE_SOURCES, in_mpp


def show_info(path: Path, *, as_json: bool) -> None:
    """Print what a slide is.

    Raises
    ------
    SlideError
        If nothing can open it.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_slide(path) as slide:
            info = slide.info
    sentences = [str(warning.message) for warning in caught]
    if as_json:
        out(json.dumps(info_values(info) | {"warnings": sentences}, indent=2))
        return
    for text in sentences:
        warn(text)
    _print(info)


def info_values(info: SlideInfo) -> dict[str, Any]:
    """A slide's facts as plain JSON."""
    bounds = info.bounds
    return {
        "slide": str(info.path),
        "format": info.vendor,
        **_size(info.size),
        "mpp": None if info.mpp is None else list(info.mpp),
        "mpp_source": info.mpp_source,
        "objective_power": info.objective_power,
        "levels": [
            {
                **_size(level.size),
                "downsample": list(level.downsample),
                "tile": _size(level.tile),
            }
            for level in info.levels
        ],
        "bounds": None
        if bounds is None
        else {"top": bounds.top, "left": bounds.left, **_size(bounds.size)},
        "fingerprint": info.fingerprint,
    }


def scale_words(info: SlideInfo) -> str:
    """µm per pixel with its source, or that it is unknown."""
    if info.mpp is None or info.mpp_source is None:
        return "unknown (give it with --mpp for areas in mm²)"
    return f"{in_mpp(info.mpp)} ({SCALE_SOURCES[info.mpp_source]})"


def _size(size: Size) -> dict[str, int]:
    return {"height": size.height, "width": size.width}


def _print(info: SlideInfo) -> None:
    power = info.objective_power
    facts = (
        ("Slide", str(info.path)),
        ("Format", info.vendor),
        ("Size", str(info.size)),
        ("Scale", scale_words(info)),
        ("Objective", "unknown" if power is None else f"{power:g}x"),
        ("Bounds", _bounds(info.bounds)),
        ("Fingerprint", info.fingerprint),
    )
    print_table(("", ""), facts)
    out()
    print_table(
        ("Level", "Width", "Height", "Downsample", "Tile"),
        (_level(index, level) for index, level in enumerate(info.levels)),
        numbers_from=0,
    )


def _level(index: int, level: Level) -> tuple[str, ...]:
    y, x = (f"{value:.6g}" for value in level.downsample)
    return (
        str(index),
        str(level.size.width),
        str(level.size.height),
        x if x == y else f"{x} x {y}",
        f"{level.tile.width} x {level.tile.height}",
    )


def _bounds(bounds: Region | None) -> str:
    if bounds is None:
        return "all of it"
    return f"{bounds.size}, its corner at x {bounds.left}, y {bounds.top}"
