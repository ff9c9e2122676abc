"""Exports: what a result looks like to other programs and to people."""

from napari_wsiseg.export.png import write_overlay

__all__ = ["write_overlay"]
