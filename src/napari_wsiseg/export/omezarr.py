"""Writes labels as OME-Zarr 0.5: label images inside the result, or a copy of their own.

A copy is an image with labels, as a result is: the image is where the model has spoken
(`coverage/0`, ...), and the labels lie in `labels/NAME`, so that the same path and the
same `source` hold for both, and classes that overlap have an image each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass as plain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from zarr.storage import LocalStore

from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.label_pyramid import fill
from napari_wsiseg.export.omezarr_metadata import COVERAGE, label_attributes, root_attributes
from napari_wsiseg.export.request import ExportRequest, Step
from napari_wsiseg.export.target import is_label_image
from napari_wsiseg.geometry import Region
from napari_wsiseg.labels.pyramid import LabelPyramid, ZarrArray, histogram, level_arrays
from napari_wsiseg.store.label_images import LABELS
from napari_wsiseg.store.layout import Json
from napari_wsiseg.store.lock import is_written
from napari_wsiseg.validation import raises

ALL_CLASSES = "classes"
"""The label image of classes that exclude each other, in a copy."""

# Letters may take four bytes, and names of files 255.
_LONGEST = 50
# What Windows keeps for devices.
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@plain(frozen=True)
class _Image:
    """A label image: where in the written folder, its name, and what fills it."""

    path: str
    name: str
    codes: tuple[int, ...]
    layer: int
    pyramid: LabelPyramid


@raises(ExportError, "An OME-Zarr export")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class OmeZarrWriter:
    """Writes OME-Zarr labels; the target says where.

    `RESULT/labels/NAME` is a label image of the result, with as many levels as the map;
    `list_label` makes it known afterwards. Any other folder becomes a copy: an image of
    the coverage with a label image `labels/classes`, or, of classes that may overlap,
    one a class.

    Parameters
    ----------
    not_analysed
        255: the value of pixels that were not analysed. None: 0, as those without a label.

    Raises
    ------
    ExportError
        If the value is another.
    """

    not_analysed: Literal[255] | None = None

    def write(self, request: ExportRequest, partial: Path, target: Path) -> Iterator[Step]:
        """Write to `partial`, then read that back and compare.

        Raises
        ------
        ExportError
            If labels cannot be written at `target` (a run writes that result, it is
            another's, classes overlap), or do not read back.
        StoreError
            If the map cannot be read.
        """
        inside = is_label_image(target, request.pm)
        if inside:
            _check_result(request, target)
        store = LocalStore(partial)
        zarr.create_group(store, zarr_format=3)
        images = _images(request, store, target.name if inside else None)
        pyramids = {image.layer: image.pyramid for image in images}
        for part in fill(request, pyramids, self.not_analysed):
            yield Step("writing", 0.9 * part)
        covered = [] if inside else _write_coverage(request, store)
        described = {
            image.path: label_attributes(
                request, image.name, image.codes, image.pyramid.counts[0], self.not_analysed
            )
            for image in images
        }
        if not inside:
            names = [image.name for image in images]
            described |= {
                "": root_attributes(request),
                LABELS: {"ome": {"version": "0.5", LABELS: names}},
            }
        for path, attributes in described.items():
            zarr.open_group(store, path=path, mode="r+").attrs.put(attributes)
        yield Step("writing", 1.0)
        yield from _check(partial, target, images, covered, described)


def folder_names(names: Sequence[str]) -> list[str]:
    """Names for folders on every system, one for each of `names`, all different."""
    safe: list[str] = []
    for name in names:
        folder = re.sub(r"[^\w.+-]+", "-", name)[:_LONGEST].strip("-.") or "class"
        if _DEVICES.fullmatch(folder):
            folder = f"class-{folder}"
        taken = {other.casefold() for other in safe}
        numbers = (folder if n == 1 else f"{folder}-{n}" for n in range(1, len(names) + 1))
        safe.append(next(free for free in numbers if free.casefold() not in taken))
    return safe


def _check_result(request: ExportRequest, target: Path) -> None:
    """Raise ExportError if the result cannot take labels, or not from where they are counted."""
    copy = "export a copy of their own instead"
    home = target.resolve().parent.parent
    if is_written(home):
        raise ExportError(f"{home} is being written by a run; wait for it, or {copy}.")
    if any(request.offset):
        raise ExportError(
            "Labels inside a result lie as its map does, from the slide's corner; give the "
            f"origin 'slide', or {copy}."
        )


def _images(request: ExportRequest, store: LocalStore, inside: str | None) -> list[_Image]:
    """Empty label images of the layers that are exported.

    Raises
    ------
    ExportError
        If there is none, or inside a result more than one.
    """
    used = [(layer, codes) for layer, codes in enumerate(request.layers) if codes]
    if not used:
        raise ExportError("No class is exported; name one at least.")
    if inside is not None and len(used) > 1:
        classes = ", ".join(request.names[code] for code in request.codes)
        raise ExportError(
            f"The classes {classes} may overlap, and a label image holds one of them; "
            f"export each to a name of its own inside the result, or all to a copy."
        )
    titles = [request.names[codes[0]] for _, codes in used]
    folders = [ALL_CLASSES] if request.labels.exclusive else folder_names(titles)
    if inside is None:
        zarr.create_group(store, path=LABELS, zarr_format=3)
        zarr.create_group(store, path=COVERAGE, zarr_format=3)
    layout, images = request.pm.layout, []
    for (layer, codes), name in zip(used, folders, strict=True):
        path = f"{LABELS}/{name}" if inside is None else ""
        if path:
            zarr.create_group(store, path=path, zarr_format=3)
        pyramid = LabelPyramid(level_arrays(store, path, layout.sizes, layout.grid.chunk))
        images.append(_Image(path, inside or name, codes, layer, pyramid))
    return images


def _write_coverage(request: ExportRequest, store: LocalStore) -> list[int]:
    """The map's own coverage; returns how many pixels of each level are covered."""
    layout = request.pm.layout
    arrays = level_arrays(store, COVERAGE, layout.sizes, layout.grid.chunk, bool)
    covered = []
    for level, array in enumerate(arrays):
        covered.append(0)
        for rows in _strips(array):
            region = Region.from_bounds(rows.start, 0, rows.stop, array.shape[1])
            block = request.pm.read_coverage(region, level)
            covered[level] += int(np.count_nonzero(block))
            array[rows] = block
    return covered


def _strips(array: ZarrArray) -> Iterator[slice]:
    height, side = array.shape[0], array.chunks[0]
    return (slice(top, min(top + side, height)) for top in range(0, height, side))


def _check(
    partial: Path,
    target: Path,
    images: list[_Image],
    covered: list[int],
    described: dict[str, Json],
) -> Iterator[Step]:
    """Read what was written, with a reader of its own.

    Raises
    ------
    ExportError
        If it is not what was written.
    """
    root = zarr.open_group(LocalStore(partial, read_only=True), mode="r", zarr_format=3)
    for path, attributes in described.items():
        group = root[path] if path else root
        if group.attrs.asdict() != json.loads(json.dumps(attributes)):
            raise _damaged(target / path / "zarr.json")
    done = 0
    total = sum(array.size for image in images for array in image.pyramid.arrays)
    for image in images:
        for level, array in enumerate(image.pyramid.arrays):
            path, found = f"{image.path}/{level}".lstrip("/"), np.zeros(256, np.int64)
            for part in _read(root, path, array):
                found += histogram(part)
                done += part.size
                yield Step("checking", done / total)
            if (found != image.pyramid.counts[level]).any():
                raise _damaged(target / path)
    for level, pixels in enumerate(covered):
        path = f"{COVERAGE}/{level}"
        array = images[0].pyramid.arrays[level]
        if sum(int(np.count_nonzero(part)) for part in _read(root, path, array)) != pixels:
            raise _damaged(target / path)
    yield Step("checking", 1.0)


def _read(root: zarr.Group, path: str, like: ZarrArray) -> Iterator[NDArray[Any]]:
    try:
        array = zarr.open_array(root.store, path=path, mode="r", zarr_format=3)
        same = array.shape == like.shape
        for rows in _strips(array) if same else ():
            yield np.asarray(array[rows])
    # Zarr and its codecs fail in ways that nobody lists.
    except Exception as error:
        raise _damaged(Path(path)) from error
    if not same:
        raise _damaged(Path(path))


def _damaged(path: Path) -> ExportError:
    return ExportError(
        f"{path} did not read back as it was written; check the disk and export again."
    )
