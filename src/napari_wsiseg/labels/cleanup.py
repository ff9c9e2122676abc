"""`Cleanup`: what is too small to be believed, in µm; knows no pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass as plain
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import YX
from napari_wsiseg.validation import raises

Extent = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# A wider disc takes longer than what it smooths took to predict.
_WIDEST = 200
# Areas are whole pixels: what differs by less is the arithmetic's.
_ROUNDING = 1e-9


@raises(JobError, "A clean-up")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Cleanup:
    """What is done to labels before they are measured and exported; nothing by default.

    In this order: smoothing (a pixel takes the label that most analysed pixels within the
    radius have, its own where that is among them), then objects that are too small lose
    their label, then small holes take the label around them. An object is pixels of one
    label that touch by their sides. A hole is analysed pixels without a label, touching by
    sides or corners, all of whose neighbours have one and the same label; what is not
    analysed, and the slide's edge, is never inside a hole. Classes that may overlap are
    cleaned one by one.

    Parameters
    ----------
    min_object_um2
        Objects smaller than this go, in µm².
    fill_hole_um2
        Holes up to this are filled, in µm².
    smooth_um
        Radius in µm; 0: not smoothed.

    Raises
    ------
    JobError
        If a value is negative.
    """

    min_object_um2: Extent = 0
    fill_hole_um2: Extent = 0
    smooth_um: Extent = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.min_object_um2 or self.fill_hole_um2 or self.smooth_um)

    def at(self, mpp: YX | None) -> PixelCleanup:
        """The same in pixels of an image with this scale.

        Raises
        ------
        JobError
            If there is no scale, or the smoothing radius is beyond 200 px.
        """
        if mpp is None:
            raise JobError(
                "A clean-up is in µm, and the slide has no scale; run the slide again with its "
                "µm per pixel (--mpp)."
            )
        pixel = mpp.y * mpp.x
        half_rows = int(self.smooth_um / mpp.y + _ROUNDING)
        if max(self.smooth_um / mpp.y, self.smooth_um / mpp.x) > _WIDEST:
            raise JobError(
                f"smooth_um is {self.smooth_um:g} µm, {self.smooth_um / mpp.x:.0f} px of the map; "
                f"give at most {_WIDEST * min(mpp):.4g} µm."
            )
        # Of the disc's rows above and below its middle: how far each reaches to the sides.
        reach = tuple(
            int(math.sqrt(max(self.smooth_um**2 - (row * mpp.y) ** 2, 0)) / mpp.x + _ROUNDING)
            for row in range(-half_rows, half_rows + 1)
        )
        return PixelCleanup(
            reach=reach if self.smooth_um else (),
            least_object=math.ceil(self.min_object_um2 / pixel - _ROUNDING),
            largest_hole=math.floor(self.fill_hole_um2 / pixel + _ROUNDING),
        )


@plain(frozen=True, slots=True)
class PixelCleanup:
    """A `Cleanup` in pixels.

    Parameters
    ----------
    reach
        The smoothing disc, row by row from its top: how many pixels the row reaches to
        either side of its middle. Empty: no smoothing.
    least_object, largest_hole
        In pixels.
    """

    reach: tuple[int, ...]
    least_object: int
    largest_hole: int
