"""Stain vectors: Ruifrok and Johnston's, QuPath's, and those estimated from a slide.

Optical density is -log10(max(v, 1) / background); a stain is a unit vector of
optical densities in red, green and blue. Knows no torch and no slide.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.documents import UnreadableError, read_yaml
from napari_wsiseg.errors import ModelError, reason, shown

RGB = tuple[float, float, float]
WHITE: RGB = (255.0, 255.0, 255.0)

# Ruifrok and Johnston, Anal Quant Cytol Histol 2001; 23: 291-299.
HEMATOXYLIN: RGB = (0.65, 0.70, 0.29)
DAB: RGB = (0.27, 0.57, 0.78)
EOSIN: RGB = (0.07, 0.99, 0.11)
# Bankhead et al., QuPath, Sci Rep 2017; 7: 16878: its default for H&E.
QUPATH_EOSIN: RGB = (0.2159, 0.8012, 0.5581)

# Macenko et al., ISBI 2009: densities under beta are glass, alpha is the percentile
# that stands for the extreme angle.
_BETA, _ALPHA = 0.15, 1.0
_LEAST_PIXELS = 100


@dataclass(frozen=True, slots=True)
class StainVectors:
    """How a slide's stains look, and how bright its glass is.

    Parameters
    ----------
    first, second
        Red, green and blue optical density of the two stains, hematoxylin first;
        of any length.
    background
        Red, green and blue of clear glass, 1 to 255.
    source
        Where these numbers come from; results carry it.

    Raises
    ------
    ModelError
        If the stains point the same way, or the glass level is out of range.
    """

    first: RGB
    second: RGB
    background: RGB = WHITE
    source: str = "given"

    def __post_init__(self) -> None:
        for name in ("first", "second", "background"):
            object.__setattr__(self, name, _rgb(name, getattr(self, name)))
        if not all(1 < value <= 255 for value in self.background):
            raise ModelError(
                f"The glass level {self.background} is out of range; "
                "give red, green and blue up to 255."
            )
        if np.linalg.norm(np.cross(_unit(self.first), _unit(self.second))) < 0.05:
            raise ModelError(
                f"The stains {self.first} and {self.second} look alike and cannot be told apart; "
                "give two different colours."
            )

    def unmixing(self) -> NDArray[np.float64]:
        """(3, 2): red, green and blue density times this are the two stains' densities.

        The third stain of the inverted matrix is the cross product of the two: what
        neither explains.
        """
        first, second = _unit(self.first), _unit(self.second)
        third = np.cross(first, second)
        third /= np.linalg.norm(third)
        return np.asarray(np.linalg.inv([first, second, third])[:, :2])

    def provenance(self) -> dict[str, Any]:
        """The numbers as plain data; `StainVectors(**provenance)` brings them back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_yaml(cls, path: Path) -> StainVectors:
        """Read what `provenance` holds from a YAML file.

        Raises
        ------
        ModelError
            If the file cannot be read, or holds something else.
        """
        if not path.is_file():
            raise ModelError(f"There is no file of stain vectors {path}; check the path.")
        try:
            return cls(**read_yaml(path))
        except (OSError, UnreadableError, TypeError) as error:
            raise ModelError(
                f"{path} holds no stain vectors; write 'first', 'second' and 'background', "
                f"each as [red, green, blue] ({reason(error)})."
            ) from error


def estimate_stains(
    pixels: NDArray[np.uint8],
    like: StainVectors,
    background: RGB = WHITE,
) -> StainVectors:
    """Stain vectors of a slide, from its own pixels.

    The two extreme directions in the plane that holds most of the optical density
    (Macenko et al., A method for normalizing histology slides for quantitative
    analysis, ISBI 2009), to four digits. Near 1 µm per pixel is a good resolution: on much
    coarser pixels the stains are mixed.

    Parameters
    ----------
    pixels
        (..., 3) uint8 RGB with both stains in it.
    like
        The stains looked for: tells which direction is which.
    background
        Red, green and blue of this slide's glass.

    Raises
    ------
    ModelError
        If hardly a pixel is stained, or the pixels show one stain only.
    """
    return estimate(pixels, like, background, advice="give pixels with more of both stains")


def estimate(
    pixels: NDArray[np.uint8], like: StainVectors, background: RGB, *, advice: str
) -> StainVectors:
    """`estimate_stains`, whose errors end in `advice`."""
    values = np.maximum(pixels.reshape(-1, 3).astype(np.float64), 1)
    density = -np.log10(values / np.asarray(background))
    density = density[(density > _BETA).all(axis=1)]
    count = len(density)
    if count < _LEAST_PIXELS:
        raise ModelError(f"Stains cannot be estimated from {count} stained pixels; {advice}.")
    # eigh sorts from small to large: the last two span the plane of the stains.
    plane = np.linalg.eigh(np.cov(density.T))[1][:, 1:]
    plane *= np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    angles = np.arctan2(*(density @ plane).T)
    extremes = np.percentile(angles, [_ALPHA, 100 - _ALPHA])
    one, other = np.stack([np.sin(extremes), np.cos(extremes)], axis=1) @ plane.T
    straight = _cosine(one, like.first) + _cosine(other, like.second)
    crossed = _cosine(other, like.first) + _cosine(one, like.second)
    first, second = (one, other) if straight >= crossed else (other, one)
    # Where a stain is missing, both extremes are shades of the other one.
    if _cosine(first, like.first) <= _cosine(first, like.second) or (
        _cosine(second, like.second) <= _cosine(second, like.first)
    ):
        raise ModelError(f"The {count} stained pixels show one of the two stains only; {advice}.")
    return StainVectors(
        _rgb("first", np.maximum(first, 0).round(4)),
        _rgb("second", np.maximum(second, 0).round(4)),
        background,
        f"estimated from {count} stained pixels (Macenko et al. 2009)",
    )


def _rgb(name: str, values: Any) -> RGB:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{name} cannot be {shown(values)}; give red, green and blue.") from error
    if not np.isfinite([red, green, blue]).all() or max(red, green, blue) <= 0:
        raise ModelError(f"{name} cannot be {shown(values)}; give red, green and blue above 0.")
    return red, green, blue


def _unit(vector: RGB) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = np.asarray(vector) / np.linalg.norm(vector)
    return unit


def _cosine(a: NDArray[np.float64], b: RGB) -> float:
    return float(a @ _unit(b) / np.linalg.norm(a))
