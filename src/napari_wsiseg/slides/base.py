"""What every slide offers: `Slide`, `SlideInfo`; knows no file format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX, Region, Resolution, Size, size_at

if TYPE_CHECKING:
    import dask.array as da

MppSource = Literal["metadata", "nominal", "user"]


# A level this much coarser than what is asked for still serves: scanners round mpp.
_TOLERANCE = 1.01
# One pixel made from 8192 x 8192 is the most that is averaged at once: 200 MB.
_COARSEST = 8192


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a file's pyramid.

    Parameters
    ----------
    size
        Height and width in the level's own pixels.
    downsample
        Level-0 pixels per pixel of this level.
    tile
        The block that the file decodes at once, in the level's own pixels.
    """

    size: Size
    downsample: YX
    tile: Size


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """What is known of a slide before a pixel is read.

    Parameters
    ----------
    path
        Where it was opened from; None for an array.
    size
        Level-0 height and width.
    mpp
        µm per level-0 pixel, or None where nothing says.
    mpp_source
        "metadata", "nominal" (derived from the objective power), "user", or None.
    objective_power
        The objective's magnification, or None.
    levels
        The file's own levels, large to small; the first is level 0.
    vendor
        The format's or scanner's name, e.g. "aperio".
    bounds
        The part of level 0 that was scanned, or None where that is all of it.
    fingerprint
        Hex digest of the content; the same for a copied or renamed file.
    alias
        What it is called in place of its file's name; None: by that.
    """

    path: Path | None
    size: Size
    mpp: YX | None
    mpp_source: MppSource | None
    objective_power: float | None
    levels: tuple[Level, ...]
    vendor: str
    bounds: Region | None
    fingerprint: str
    alias: str | None = None

    @property
    def stem(self) -> str:
        """The alias, else the file's name without its extension; "array" without a file."""
        if self.alias is not None:
            return self.alias
        return "array" if self.path is None else file_stem(self.path)

    def without_path(self, text: str) -> str:
        """What somebody says of the slide, without its folder, and by its alias if it has one."""
        return text if self.path is None else without_path(text, self.path, self.alias)

    @property
    def scale_warning(self) -> str | None:
        """What should be known of a nominal scale; None where the scale is another, or none."""
        if self.mpp_source != "nominal" or self.mpp is None or self.objective_power is None:
            return None
        return (
            f"{self.stem} does not say its µm per pixel; {self.mpp.y:.4g} is taken from its "
            f"{self.objective_power:g}x objective and may be off by several percent, as may areas; "
            "give it (--mpp, or mpp=...) if you know it."
        )

    def downsample(self, resolution: Resolution) -> YX:
        """Level-0 pixels per pixel at `resolution`.

        Raises
        ------
        JobError
            If the slide lacks the scale or the level that the resolution speaks of, or a
            pixel there would be more than 8192 level-0 pixels wide, or less than 1 / 8192.
        """
        downsample = self._downsample(resolution)
        if not all(1 / _COARSEST <= value <= _COARSEST for value in downsample):
            better = "finer" if max(downsample) > _COARSEST else "coarser"
            raise JobError(
                f"At '{resolution}' a pixel would be {max(downsample):.3g} pixels of {self.stem} "
                f"wide; ask for a {better} resolution."
            )
        return downsample

    def _downsample(self, resolution: Resolution) -> YX:
        value = resolution.value
        if resolution.unit == "baseline":
            return YX(1 / value, 1 / value)
        if resolution.unit == "level":
            if int(value) >= len(self.levels):
                raise JobError(
                    f"{self.stem} has no level {int(value)}; "
                    f"it has the levels 0 to {len(self.levels) - 1}."
                )
            return self.levels[int(value)].downsample
        if resolution.unit == "power" and self.objective_power is not None:
            return YX(self.objective_power / value, self.objective_power / value)
        if self.mpp is None:
            raise JobError(
                f"{self.stem} says nothing of its µm per pixel, so '{resolution}' cannot be "
                "reached; give it (mpp=0.5, or --mpp 0.5), or ask for a level or baseline."
            )
        # 10x is taken as 1 µm/px, as the nominal scale of a slide without metadata is.
        target = value if resolution.unit == "mpp" else 10 / value
        return YX(target / self.mpp.y, target / self.mpp.x)

    def level_for(self, downsample: YX) -> int:
        """Index of the level to read from: the coarsest that is not coarser than asked for."""
        fits = [
            index
            for index, level in enumerate(self.levels)
            if level.downsample.y <= downsample.y * _TOLERANCE
            and level.downsample.x <= downsample.x * _TOLERANCE
        ]
        return fits[-1] if fits else 0

    def size_at(self, resolution: Resolution) -> Size:
        """Height and width of the whole slide at `resolution`."""
        return size_at(self.size, self.downsample(resolution))


def file_stem(path: Path) -> str:
    """The name of a slide's file without its extension."""
    name = path.name
    for suffix in (".ome.tif", ".ome.tiff", ".ome.zarr"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def without_path(text: str, path: Path, alias: str | None) -> str:
    """The text without the folder of `path`; `alias`, where given, stands for the file's name.

    Libraries name files as they like: whole, and those that a slide consists of besides.
    """
    places = {place.parent for place in (path, path.absolute(), path.resolve())}
    folders = [str(place) for place in places if place.name]
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(folder + os.sep, "")
    if alias is not None:
        for name in (path.name, file_stem(path), path.stem):
            text = text.replace(name, alias)
    return text


@runtime_checkable
class Slide(Protocol):
    """A whole slide image; safe to read from many threads; a context manager."""

    @property
    def info(self) -> SlideInfo:
        """What is known of the slide."""

    def read(self, region: Region, resolution: Resolution) -> NDArray[np.uint8]:
        """Pixels of `region`, given in pixels at `resolution`.

        Returns
        -------
        (height, width, 3) uint8 RGB; white outside the slide.

        Raises
        ------
        SlideError
            If the file cannot be read there.
        """

    def read_at(self, region: Region, downsample: YX) -> NDArray[np.uint8]:
        """`read` for a resolution that is known as level-0 pixels per pixel."""

    def pyramid(self) -> list[da.Array]:
        """Lazy levels (height, width, 3) for display, large to small, the last at most 512 px."""

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
