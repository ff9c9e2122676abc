"""Sizes, regions and resolutions; knows no slide, no pixel and no file.

Pixel (row i, column j) covers [i, i + 1) x [j, j + 1). Regions are half open.
Inside the package a resolution is a *downsample*: level-0 pixels per pixel, as
(y, x). It is made once, from a `Resolution`, where a job meets a slide.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from napari_wsiseg.errors import JobError, shown

Unit = Literal["mpp", "power", "level", "baseline"]


class YX(NamedTuple):
    """A value per axis, y before x."""

    y: float
    x: float


@dataclass(frozen=True, slots=True)
class Size:
    """Height and width in pixels."""

    height: int
    width: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.width} x {self.height} px (width x height)"


@dataclass(frozen=True, slots=True)
class Region:
    """A half-open box of pixels: rows [top, bottom), columns [left, right)."""

    top: int
    left: int
    size: Size

    @classmethod
    def from_bounds(cls, top: int, left: int, bottom: int, right: int) -> Region:
        """The region between these edges; empty where they cross."""
        return cls(top, left, Size(max(bottom - top, 0), max(right - left, 0)))

    @property
    def bottom(self) -> int:
        """First row below the region."""
        return self.top + self.size.height

    @property
    def right(self) -> int:
        """First column right of the region."""
        return self.left + self.size.width

    @property
    def is_empty(self) -> bool:
        """Whether the region holds no pixel."""
        return self.size.area == 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns), to index an array whose origin is (0, 0)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def intersection(self, other: Region) -> Region:
        """The pixels in both regions; empty where they do not meet."""
        return Region.from_bounds(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def shifted(self, rows: int, columns: int) -> Region:
        """The same size, moved down by `rows` and right by `columns`."""
        return Region(self.top + rows, self.left + columns, self.size)

    def clipped(self, size: Size) -> Region:
        """The part inside an image of this size."""
        return self.intersection(Region(0, 0, size))


Polygon = tuple[tuple[float, float], ...]
"""Vertices (y, x) of a closed outline, in level-0 pixels; the last is not repeated."""


_PATTERNS: tuple[tuple[Unit, str], ...] = (
    ("mpp", r"(?P<value>{n})\s*(mpp|um/px|µm/px|μm/px)"),
    ("power", r"(?P<value>{n})\s*(x|power)"),
    ("level", r"level\s*(?P<value>{n})"),
    ("baseline", r"baseline\s*(?P<value>{n})?"),
)
_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|\.[0-9]+"


@dataclass(frozen=True, slots=True)
class Resolution:
    """A resolution as people name it.

    Parameters
    ----------
    value
        µm per pixel ("mpp"), objective power ("power"), index of a pyramid
        level ("level"), or scale against level 0 ("baseline": 0.5 is half its
        width).
    unit
        Which of these `value` is.

    Raises
    ------
    JobError
        If the value is out of its range.
    """

    value: float
    unit: Unit

    def __post_init__(self) -> None:
        bad_level = self.unit == "level" and not float(self.value).is_integer()
        too_small = self.value < 0 if self.unit == "level" else self.value <= 0
        if not math.isfinite(self.value) or bad_level or too_small:
            raise JobError(
                f"The resolution {self!s} is out of range; give a positive number, "
                "or a whole number from 0 for a level."
            )

    @classmethod
    def parse(cls, text: str | Resolution) -> Resolution:
        """Read "0.5 mpp", "20x", "level 1", "baseline 0.5" or "baseline".

        Raises
        ------
        JobError
            If the text is none of these.
        """
        if isinstance(text, Resolution):
            return text
        for unit, pattern in _PATTERNS:
            match = re.fullmatch(pattern.format(n=_NUMBER), str(text).strip().lower())
            if match:
                return cls(float(match["value"] or 1.0), unit)
        raise JobError(
            f"{shown(text)} is not a resolution; "
            "write it like '0.5 mpp', '20x', 'level 1' or 'baseline 0.5'."
        )

    def __str__(self) -> str:
        short = f"{self.value:.10g}"
        # What is written into a job file must read back as the same number.
        number = short if float(short) == self.value else repr(float(self.value))
        if self.unit == "mpp":
            return f"{number} mpp"
        return f"{number}x" if self.unit == "power" else f"{self.unit} {number}"


def size_at(size: Size, downsample: YX) -> Size:
    """Size of an image of level-0 `size` read at `downsample`: rounded, at least 1 px."""
    return Size(max(round(size.height / downsample.y), 1), max(round(size.width / downsample.x), 1))
