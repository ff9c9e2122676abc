"""The Zarr arrays of a map: made empty, and opened with their shapes checked.

Knows the layout of the folder; knows neither who writes nor when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike
from zarr.codecs import ZstdCodec

from napari_wsiseg.errors import SlideError, StoreError, WsisegError, reason
from napari_wsiseg.grid import MOST_PATCHES, Mask
from napari_wsiseg.slides.zarr_chunks import bounded
from napari_wsiseg.store.layout import Json, MapLayout
from napari_wsiseg.store.state import ANEW

if TYPE_CHECKING:
    from zarr.abc.store import Store

ZarrArray = zarr.Array[Any]

TISSUE = "labels/tissue"
"""Where the tissue mask lies."""

LEVEL = 1
"""Zstandard's level: higher ones take several times as long for a tenth of the size."""

_COVERAGE = "coverage"
_MASK = "mask"
_MASK_CHUNK = 4096


@dataclass(frozen=True)
class LevelArrays:
    """One level: classes and coverage.

    Parameters
    ----------
    values
        (classes, height, width), as stored; 0 where not covered.
    coverage
        (height, width) bool.
    """

    values: ZarrArray
    coverage: ZarrArray


@dataclass(frozen=True)
class MapArrays:
    """All levels of a map, large to small, and of its tissue mask where there is one."""

    levels: tuple[LevelArrays, ...]
    tissue: tuple[ZarrArray, ...] | None


def create_arrays(store: Store, layout: MapLayout, attributes: Json, tissue: Json | None) -> None:
    """Make a map's groups and empty arrays, and store which patches are kept.

    Parameters
    ----------
    store
        Empty.
    layout
        The map's.
    attributes
        Of the root group.
    tissue
        Of the group `labels/tissue`, or None where there is no mask.
    """
    zarr.create_group(store, zarr_format=3, attributes=attributes)
    mask = _array(store, _MASK, layout.grid.shape, bool, chunk=_MASK_CHUNK, names="yx")
    mask[:] = layout.grid.keep
    zarr.create_group(store, path=_COVERAGE, zarr_format=3)
    if tissue is not None:
        labels = {"ome": {"version": "0.5", "labels": ["tissue"]}}
        zarr.create_group(store, path="labels", zarr_format=3, attributes=labels)
        zarr.create_group(store, path=TISSUE, zarr_format=3, attributes=tissue)
    chunk = layout.grid.chunk
    for level, size in enumerate(layout.sizes):
        shape = (size.height, size.width)
        _array(store, f"{level}", (layout.classes, *shape), layout.dtype, chunk=chunk, names="cyx")
        _array(store, f"{_COVERAGE}/{level}", shape, bool, chunk=chunk, names="yx")
        if tissue is not None:
            # Mostly constant: larger chunks make fewer files and cost nothing to decode.
            _array(store, f"{TISSUE}/{level}", shape, np.uint8, chunk=4 * chunk, names="yx")


def _array(
    store: Store, path: str, shape: tuple[int, ...], dtype: DTypeLike, *, chunk: int, names: str
) -> ZarrArray:
    return zarr.create_array(
        store,
        name=path,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=(*shape[:-2], chunk, chunk),
        compressors=ZstdCodec(level=LEVEL),
        fill_value=0,
        dimension_names=tuple(names),
        config={"write_empty_chunks": False},
        zarr_format=3,
    )


def open_mask(store: Store) -> Mask:
    """The (rows, columns) bool mask of kept patches.

    Raises
    ------
    StoreError
        If it is missing, damaged or beyond all measure.
    """
    array = _open(store, _MASK)
    if array.ndim != 2 or array.dtype != bool or not 0 < array.size <= MOST_PATCHES:
        raise StoreError(
            f"The array {_MASK} of {store} is no mask of patches, but {array.dtype} "
            f"{array.shape}: the result is damaged; {ANEW}."
        )
    try:
        return np.asarray(array[:])
    except Exception as error:
        raise StoreError(
            f"The array {_MASK} of {store} is damaged ({reason(error)}); {ANEW}."
        ) from error


def open_arrays(store: Store, layout: MapLayout, *, has_tissue: bool) -> MapArrays:
    """Open a map's arrays.

    Raises
    ------
    StoreError
        If one is missing, damaged or of another shape than the layout's.
    """
    levels, tissue = [], []
    for level, size in enumerate(layout.sizes):
        shape = (size.height, size.width)
        values = _checked(store, f"{level}", (layout.classes, *shape), layout.dtype)
        coverage = _checked(store, f"{_COVERAGE}/{level}", shape, "bool")
        levels.append(LevelArrays(values, coverage))
        if has_tissue:
            tissue.append(_checked(store, f"{TISSUE}/{level}", shape, "uint8"))
    return MapArrays(tuple(levels), tuple(tissue) if has_tissue else None)


def _checked(store: Store, path: str, shape: tuple[int, ...], dtype: str) -> ZarrArray:
    array = _open(store, path)
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise StoreError(
            f"The array {path} of {store} is {array.dtype} {array.shape}, not {dtype} {shape} "
            f"as its metadata say: the result is damaged; {ANEW}."
        )
    return array


def _open(store: Store, path: str) -> ZarrArray:
    try:
        # For "r" Zarr would copy a store that can be written, and the copy would not move.
        mode: Literal["r", "r+"] = "r" if store.read_only else "r+"
        return bounded(zarr.open_array(store, path=path, mode=mode, zarr_format=3))
    except SlideError as error:
        raise StoreError(
            f"The array {path} of {store} cannot be read ({error}): the result is damaged; {ANEW}."
        ) from error
    except WsisegError:
        raise
    except Exception as error:
        raise StoreError(
            f"The array {path} of {store} cannot be opened: the result is damaged; {ANEW}."
        ) from error
