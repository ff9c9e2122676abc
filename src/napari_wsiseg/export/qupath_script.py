"""Writes the Groovy script that imports a label TIFF into QuPath; knows no pixel.

The script is tested for its numbers and its strings only: there is no QuPath in the tests.
It uses QuPath's scripting interface of version 0.4 and newer.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.store.files import partial_name

_MARK = "Written by napari-wsiseg"


def script_path(tiff: Path) -> Path:
    """Where the script of a label TIFF lies: beside it, with its stem."""
    stem = re.sub(r"(?i)(\.ome)?\.tiff?$", "", tiff.name)
    return tiff.with_name(f"{stem}.groovy")


def check_script(tiff: Path) -> None:
    """Raise ExportError if the TIFF's script would replace a file of somebody else."""
    path = script_path(tiff)
    if path.is_dir() or (path.exists() and _MARK not in path.read_text(errors="replace")):
        raise ExportError(
            f"{path} is there and was not written by napari-wsiseg; choose another name for "
            f"{tiff.name}, whose script would be called so."
        )


def write_script(request: ExportRequest, tiff: Path) -> Path:
    """Write the script that imports a label TIFF; one that is there is replaced at once.

    The annotations lie where QuPath shows the slide, whole or its scanned part only,
    whatever the origin of the export: the script tells that by the open image's size.

    Parameters
    ----------
    request
        What was exported.
    tiff
        The label TIFF; the script lies beside it.

    Returns
    -------
    The script's path.
    """
    path = script_path(tiff)
    partial = partial_name(path)
    try:
        partial.write_text(script(request, tiff.name), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def script(request: ExportRequest, image: str) -> str:
    """The script's text for a label image of this name."""
    pm = request.pm
    slide = [pm.slide_size.width, pm.slide_size.height]
    bounds = pm.slide_bounds
    scanned = (
        [0, 0, *slide]
        if bounds is None
        else [bounds.left, bounds.top, bounds.size.width, bounds.size.height]
    )
    # The TIFF has a channel for each layer that is exported.
    channels = enumerate(codes for codes in request.layers if codes)
    classes = [
        f"    [{quoted(request.names[code])}, {channel}, {code}, {[*request.rgb(code)]}],"
        for channel, codes in channels
        for code in codes
    ]
    template = files("napari_wsiseg.export").joinpath("import_labels.groovy")
    return Template(template.read_text(encoding="utf-8")).substitute(
        notice=RESEARCH_USE,
        image=quoted(image),
        scale_x=repr(float(pm.downsample.x)),
        scale_y=repr(float(pm.downsample.y)),
        slide=slide,
        scanned=scanned,
        classes="\n".join(classes),
    )


def quoted(text: str) -> str:
    r"""A Groovy string in single quotes, in ASCII; control characters become blanks.

    >>> print(quoted("Barrett's $ \\ mucosa µ"))
    'Barrett\'s \$ \\ mucosa \u00b5'
    """
    return "'" + "".join(_escaped(letter) for letter in text) + "'"


def _escaped(letter: str) -> str:
    if letter in "\\'$":
        return f"\\{letter}"
    if " " <= letter <= "~":
        return letter
    # QuPath takes no class whose name has more than a line.
    if not letter.isprintable():
        return " "
    # Above the first 65,536 letters Java has two code units a letter.
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
