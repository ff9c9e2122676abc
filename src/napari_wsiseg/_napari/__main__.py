"""`python -m napari_wsiseg._napari [SLIDE|RESULT ...]`: napari with the panel, and these open."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import napari

from napari_wsiseg._napari.open_result import open_result
from napari_wsiseg._napari.reader import is_result
from napari_wsiseg._napari.slide_layer import open_in_background, tell

if TYPE_CHECKING:
    from napari import Viewer


def open_path(viewer: Viewer, path: Path) -> None:
    """Open a slide or a result in our own way: no reader is asked for, errors are told."""
    try:
        if is_result(path):
            open_result(viewer, path)
        else:
            open_in_background(viewer, path)
    # One bad file costs no other, and the window stays.
    except Exception as error:  # noqa: BLE001
        tell(error)


def main(arguments: list[str] | None = None) -> int:
    """Show the window until it is closed; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_wsiseg._napari", description="napari with the slide panel."
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="SLIDE|RESULT")
    paths: list[Path] = parser.parse_args(arguments).paths
    viewer = napari.Viewer()
    viewer.window.add_plugin_dock_widget("napari-wsiseg", "Segment slide")
    for path in paths:
        open_path(viewer, path)
    napari.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
