"""Asks OpenSlide whose slide a file is, where OpenSlide can be loaded."""

from __future__ import annotations

from pathlib import Path


def vendor_of(path: Path) -> str | None:
    """OpenSlide's name of the vendor, or None for what it does not know (or is not there)."""
    try:
        import openslide
    except (ImportError, OSError):
        return None
    vendor: str | None = openslide.OpenSlide.detect_format(path)
    return vendor
