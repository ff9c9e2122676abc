"""Refuses MRXS slides whose text and index claim what no slide has."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.documents import open_plain, read_bounded
from napari_wsiseg.errors import SlideError, shown
from napari_wsiseg.slides.claims.beside import below, is_plain
from napari_wsiseg.slides.claims.ini import groups_of, number

_LARGEST_TEXT = 2**20
_MOST_IMAGES = 2**23
_MOST_IMAGE_PIXELS = 2**26
_MOST_LEVELS, _MOST_FILES, _MOST_LAYERS, _MOST_CONCAT = 64, 2**14, 2**16, 24
# Of what neighbours share; the least that is left of an image, of its side.
_LEAST_ADVANCE = 0.1
# Of the slide's side, where an image may lie.
_FARTHEST = 4
_PLACE = np.dtype([("flag", "u1"), ("x", "<i4"), ("y", "<i4")])
_VERSION = b"01.02"

_Values = Mapping[str, str]


def check_mirax(file: Path) -> None:
    """Look at `Slidedat.ini`, the files that it names, and where images lie.

    Raises
    ------
    SlideError
        With the reason alone.
    UnreadableError
        If a file is a pipe or a device.
    """
    folder = file.with_suffix("")
    path = folder / "Slidedat.ini"
    if not path.exists():
        return  # OpenSlide says so
    groups = groups_of(read_bounded(path, _LARGEST_TEXT))
    general, layers = groups.get("GENERAL", {}), groups.get("HIERARCHICAL", {})
    across = _within(general, "IMAGENUMBER_X", 1, _MOST_IMAGES)
    down = _within(general, "IMAGENUMBER_Y", 1, _MOST_IMAGES)
    divisions = _within(general, "CameraImageDivisionsPerSide", 1, min(across, down), 1)
    if across * down > _MOST_IMAGES:
        raise SlideError(f"it claims {across} x {down} images, which no slide has")
    levels = _within(layers, "HIER_0_COUNT", 1, _MOST_LEVELS)
    _within(layers, "NONHIER_COUNT", 0, _MOST_LAYERS)
    side = _check_levels(groups, levels, divisions)
    names = groups.get("DATAFILE", {})
    count = _within(names, "FILE_COUNT", 1, _MOST_FILES)
    files = [below(folder, names.get(f"FILE_{index}", "")) for index in range(count)]
    index = below(folder, layers.get("INDEXFILE", ""))
    are_plain = {one: is_plain(one) for one in (index, *files)}
    if not are_plain[index]:
        return
    places = _places(
        index,
        files,
        general.get("SLIDE_ID", ""),
        layers,
        (across // divisions) * (down // divisions),
    )
    if places is None or not len(places):
        return
    for axis, images, length in (("x", across, side[0]), ("y", down, side[1])):
        far = int(np.abs(places[axis].astype(np.int64)).max())
        if far > _FARTHEST * images * length:
            raise SlideError(f"an image lies at {far} px, on a slide of {images * length} px")


def _within(values: _Values, name: str, least: int, most: int, default: int | None = None) -> int:
    """A number that OpenSlide makes room by."""
    value = number(values.get(name)) if name in values else default
    if value is None or not least <= value <= most:
        raise SlideError(
            f"{name} is {values.get(name)!r:.40}, where {least} to {most} are sensible"
        )
    return value


def _check_levels(groups: Mapping[str, _Values], levels: int, divisions: int) -> tuple[int, int]:
    """Check the images' sizes and overlaps at each level; width and height at the first."""
    layers, exponent, first = groups["HIERARCHICAL"], 0, (0, 0)
    for level in range(levels):
        values = groups.get(layers.get(f"HIER_0_VAL_{level}_SECTION", ""), {})
        exponent += _within(values, "IMAGE_CONCAT_FACTOR", 0, _MOST_CONCAT)
        width = _within(values, "DIGITIZER_WIDTH", 1, _MOST_IMAGE_PIXELS)
        height = _within(values, "DIGITIZER_HEIGHT", 1, _MOST_IMAGE_PIXELS)
        if exponent > _MOST_CONCAT or width * height > _MOST_IMAGE_PIXELS:
            raise SlideError(f"it claims images of {width} x {height} px, which no slide has")
        concat = 2**exponent
        for axis, length in (("X", width), ("Y", height)):
            part = length / max(1, concat // divisions)
            shared = _real(values, f"OVERLAP_{axis}") / max(1, divisions // concat)
            if not part - shared >= _LEAST_ADVANCE * part:
                raise SlideError(f"its images of {length} px share {shared:g} px, as no slide's do")
        first = first if level else (width, height)
    return first


def _real(values: _Values, name: str) -> float:
    try:
        return float(values.get(name, ""))
    except ValueError as error:
        raise SlideError(f"{name} is {shown(values.get(name))}, and no number") from error


def _places(
    index: Path, files: list[Path], slide: str, layers: _Values, count: int
) -> NDArray[np.void] | None:
    """Where the images lie, (images,) flag, x and y; None where the slide does not say."""
    found = {
        name: _record_of(layers, name)
        for name in ("VIMSLIDE_POSITION_BUFFER", "StitchingIntensityLayer")
    }
    plain, packed = found.values()
    record = packed if plain is None else plain
    if record is None:
        return None
    with open_plain(index) as file:

        def numbers(place: int, amount: int) -> tuple[int, ...]:
            file.seek(max(place, 0))
            return struct.unpack(f"<{amount}i", file.read(4 * amount))

        root = len(_VERSION) + len(slide.encode())
        (records,) = numbers(root + 4, 1)
        _, page = numbers(numbers(records + 4 * record, 1)[0], 2)
        start, size, which = numbers(page, 7)[4:]
    expected = count * _PLACE.itemsize
    if not 0 <= which < len(files) or not 0 <= size <= 2 * expected + 2**16:
        raise SlideError("it is damaged: the list of places is longer than its images")
    if not is_plain(files[which]):
        return None
    with files[which].open("rb") as file:
        file.seek(max(start, 0))
        data = file.read(size)
    if plain is None:
        try:
            data = zlib.decompressobj().decompress(data, expected + 1)
        except zlib.error as error:
            raise SlideError(f"it is damaged: where images lie cannot be read ({error})") from error
    if len(data) != expected:
        raise SlideError("it is damaged: the list of places is not as long as its images")
    return np.frombuffer(data, _PLACE)


def _record_of(layers: _Values, name: str) -> int | None:
    """The number of a layer's record in the index, or None where there is none."""
    record = 0
    for index in range(number(layers.get("NONHIER_COUNT")) or 0):
        if layers.get(f"NONHIER_{index}_NAME") == name:
            return record
        record += _within(layers, f"NONHIER_{index}_COUNT", 1, _MOST_LAYERS)
    return None
