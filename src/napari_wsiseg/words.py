"""Numbers in words: bytes, seconds, µm per pixel."""

from __future__ import annotations

from napari_wsiseg.geometry import YX, Resolution

SCALE_SOURCES = {
    "metadata": "from the file",
    "nominal": "derived from the objective power",
    "user": "as given",
}
"""Where a slide's scale comes from, by `mpp_source`."""


def in_bytes(count: float) -> str:
    """Bytes, to read at a glance: "20 MB", "0.4 GB"."""
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    if count < 1e8:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB"


def about(seconds: float) -> str:
    """A forecast: "about 40 s", "about 3 min", "about 2.5 h"."""
    if seconds < 1:
        return "about 1 s"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: "0:07", "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_mpp(mpp: YX | None) -> str:
    """µm per pixel, per axis where they differ."""
    if mpp is None:
        return "unknown scale"
    y, x = f"{mpp.y:.4g}", f"{mpp.x:.4g}"
    return f"{x} µm/px" if x == y else f"{x} x {y} µm/px (x, y)"


def in_resolution(resolution: Resolution) -> str:
    """A resolution as people say it: "0.5 µm/px", "20x", "level 1", "scale 0.5"."""
    if resolution.unit == "mpp":
        return f"{resolution.value:.4g} µm/px"
    return str(resolution).replace("baseline", "scale")


def several(count: int, what: str) -> str:
    """A count in words: "1 slide", "3 slides", "2 patches"."""
    plural = f"{what}es" if what.endswith("ch") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"
