"""What an OME-TIFF says of itself, as tifffile takes it; knows no pixel."""

from __future__ import annotations

import json
import uuid
from typing import Any

from napari_wsiseg._version import __version__
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.export.tiff_planes import Planes
from napari_wsiseg.notice import RESEARCH_USE

CLASS, PROVENANCE = "napari-wsiseg/class", "napari-wsiseg/provenance"
"""Namespaces of the annotations: one for each class, and one for how the file came to be."""


def ome_metadata(request: ExportRequest, planes: Planes, name: str) -> dict[str, Any]:
    """The OME-XML's content.

    Parameters
    ----------
    request
        What is exported.
    planes
        Its pixels.
    name
        The file's.
    """
    # A plane of one class bears its name and its colour.
    alone = all(len(codes) == 1 for codes in planes.codes)
    titles = [request.names[codes[0]] if alone else "Labels" for codes in planes.codes]
    channel: dict[str, Any] = {"Name": [_printable(title) for title in titles]}
    if alone:
        channel["Color"] = [_ome_color(request.rgb(code)) for (code,) in planes.codes]
    metadata: dict[str, Any] = {
        "axes": "CYX" if planes.leading else "YX",
        "Creator": f"napari-wsiseg {__version__}",
        "Name": _printable(name),
        "Description": _printable(f"{planes.meaning} {RESEARCH_USE}"),
        "Channel": channel,
        "MapAnnotation": [
            *(
                {"Namespace": CLASS, "Value": _class(request, planes, code)}
                for code in request.codes
            ),
            {"Namespace": PROVENANCE, "Value": _texts(provenance(request))},
        ],
    }
    if planes.mpp is not None:
        metadata |= {
            "PhysicalSizeX": planes.mpp.x,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": planes.mpp.y,
            "PhysicalSizeYUnit": "µm",
        }
    # tifffile's own would hold the network address of the machine.
    text = json.dumps(metadata, sort_keys=True)
    return {**metadata, "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, text)}"}


def _class(request: ExportRequest, planes: Planes, code: int) -> dict[str, str]:
    channel = next(i for i, codes in enumerate(planes.codes) if code in codes)
    entry: dict[str, Any] = {
        "label": code,
        "name": request.names[code],
        "color": "#{:02X}{:02X}{:02X}".format(*request.rgb(code)),
        "channel": channel,
    }
    if code in planes.pixels:
        entry["pixels"] = pixels = planes.pixels[code]
        if planes.mpp is not None:
            entry["area_mm2"] = pixels * planes.mpp.y * planes.mpp.x / 1e6
    return _texts(entry)


def _texts(values: dict[str, Any]) -> dict[str, str]:
    """Text as it is, anything else as JSON."""
    return {
        name: _printable(value) if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


def _printable(text: str) -> str:
    """The text without what XML has no letters for."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _ome_color(rgb: tuple[int, int, int]) -> int:
    """RGBA in a signed number of 32 bits, as OME-XML has it."""
    return int.from_bytes(bytes((*rgb, 255)), "big", signed=True)
