"""Which label images a result lists: OME-Zarr readers open those alone. Knows no pixel."""

from __future__ import annotations

import json
from pathlib import Path

from napari_wsiseg.documents import LARGEST_JSON, read_bounded
from napari_wsiseg.errors import StoreError
from napari_wsiseg.store.files import write_durably
from napari_wsiseg.store.layout import Json

LABELS = "labels"
"""Where an OME-Zarr image, and so a result, keeps its label images."""

CORRECTED = f"{LABELS}/corrected"
"""Where a result keeps the labels that were corrected by hand."""


def list_label(result: Path, name: str) -> None:
    """Add a label image to those that a result lists; a second call does nothing.

    Parameters
    ----------
    result
        The result's folder; it holds `labels/NAME` already.
    name
        The label image's.

    Raises
    ------
    StoreError
        If the list cannot be read or written.
    """
    group, listed = _listed(result)
    if name not in listed:
        listed.append(name)
        _write(result, group)


def unlist_label(result: Path, name: str) -> None:
    """Take a label image out of that list; a second call does nothing.

    Raises
    ------
    StoreError
        As `list_label`.
    """
    group, listed = _listed(result)
    if name in listed:
        listed.remove(name)
        _write(result, group)


def _listed(result: Path) -> tuple[Json, list[str]]:
    """The group of label images, and the list of their names in it."""
    path = result / LABELS / "zarr.json"
    group: Json = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
    try:
        if path.exists():
            group = json.loads(read_bounded(path, LARGEST_JSON))
        ome = group.setdefault("attributes", {}).setdefault("ome", {"version": "0.5"})
        # A number has no names, and is no list of them.
        listed = ome[LABELS] = list(ome.get(LABELS, []))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path}, the list of the result's label images, cannot be read "
            f"({type(error).__name__}); the list stays as it is: mend that file."
        ) from error
    return group, listed


def _write(result: Path, group: Json) -> None:
    write_durably(result / LABELS / "zarr.json", json.dumps(group, indent=2).encode())
