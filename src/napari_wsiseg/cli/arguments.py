"""Reads what people type: numbers for two axes, regions, slides in folders and patterns."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.documents import from_home
from napari_wsiseg.errors import JobError, SlideError, SlideWarning
from napari_wsiseg.geometry import Polygon, Region, Size
from napari_wsiseg.regions import read_outlines

Number = TypeVar("Number", int, float)


def job_of(file: Path | None, given: Mapping[str, object]) -> SegmentationJob:
    """The job in a YAML file, or the default one, with what is given (not None) in its place.

    Raises
    ------
    JobError
        If the file cannot be read, or a value is out of its range.
    """
    values: dict[str, Any] = {}
    if file is not None:
        read = SegmentationJob.from_yaml(file)
        values = {name: getattr(read, name) for name in read.model_fields_set}
    return SegmentationJob(
        **values | {name: value for name, value in given.items() if value is not None}
    )


def places(
    job: SegmentationJob, output: Path | None, slides: int
) -> tuple[SegmentationJob, Path | None]:
    """Where results go: the job with a result's own path, or a folder for them beside it.

    A path that ends in .zarr, and the `output` of a job file, is a result's own.

    Raises
    ------
    JobError
        If one path is to hold the results of several slides, or a file stands in the way.
    """
    # `--output=~/results` comes as it is typed.
    output = None if output is None else from_home(output)
    if output is not None and output.suffix.lower() != ".zarr":
        if output.exists() and not output.is_dir():
            raise JobError(f"--output {output} is a file; give a folder.")
        return job, output
    own = output or job.output
    if own is None:
        return job, Path()
    if slides > 1:
        raise JobError(
            f"{own} cannot hold the results of {slides} slides; give a folder with --output."
        )
    return job.model_copy(update={"output": own}), None


def one_or_two(
    option: str, text: str, kind: Callable[[str], Number]
) -> Number | tuple[Number, Number]:
    """Read "450" or "450,300" (y, x).

    Raises
    ------
    JobError
        If the text is neither.
    """
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        return values[0]
    if len(values) == 2:
        return values[0], values[1]
    raise JobError(f"{option} cannot be {text!r}; give one number, or two as 'y,x'.")


def regions(texts: Sequence[str], alias: str | None = None) -> tuple[Region | Polygon, ...]:
    """Read each "top,left,height,width", or a GeoJSON file of polygons.

    With an alias errors call a file, which may be called as its slide is, by that.

    Raises
    ------
    JobError
        If a text is neither, or the file holds no polygon.
    """
    found: list[Region | Polygon] = []
    for text in texts:
        box = _box(text)
        if box is not None:
            found.append(box)
        else:
            found += _outlines(text, alias)
    return tuple(found)


def _box(text: str) -> Region | None:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        return None
    if len(numbers) != 4:
        return None
    top, left, height, width = numbers
    if height < 1 or width < 1:
        raise JobError(f"--region {text!r} holds no pixel; height and width are at least 1.")
    return Region(top, left, Size(height, width))


def _outlines(text: str, alias: str | None) -> list[Polygon]:
    """The outer rings of a GeoJSON file's polygons."""
    path = Path(text)
    if not path.is_file():
        raise JobError(
            f"--region {alias or text!r} is neither 'top,left,height,width' in level-0 pixels "
            "nor a GeoJSON file."
        )
    try:
        return list(read_outlines(path))
    except JobError as error:
        if alias is None:
            raise
        # Not chained: a traceback shows all below.
        raise JobError(str(error).replace(str(path), alias)) from None


def find_slides(arguments: Iterable[str], alias: str | None = None) -> list[Path]:
    """Files, folders and patterns -> slides, in the order given, each once.

    A folder stands for the slides in it (not in its subfolders), unless it is a slide
    itself (OME-Zarr, DICOM). With an alias errors call what was given by that.

    Raises
    ------
    JobError
        If an argument stands for nothing.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = from_home(Path(argument))
        if path.exists():
            matches = [path]
        else:
            # Not `Path.glob`: a pattern may start anywhere, also at a root.
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207
            matches = [Path(name) for name in sorted(names)]
            if not matches:
                raise JobError(f"There is no slide {alias or argument}; check the name.")
        slides = [slide for match in matches for slide in _slides_at(match)]
        if not slides:
            raise JobError(
                f"There is no slide in {alias or argument}; `napari-wsiseg info FILE` says why."
            )
        found.update(dict.fromkeys(slides))
    return list(found)


def _slides_at(path: Path) -> list[Path]:
    if not path.is_dir() or _opens(path):
        return [path]
    return [member for member in sorted(path.iterdir()) if _is_slide(member)]


def _is_slide(path: Path) -> bool:
    """Whether a folder's member is to be run: a slide by content, or by its name alone."""
    from napari_wsiseg.slides import READERS

    # macOS puts a "._" file beside each on foreign disks.
    if path.name.startswith("."):
        return False
    named = any(path.suffix.lower() in reader.suffixes for reader in READERS)
    return (named and path.is_file()) or _opens(path)


def _opens(path: Path) -> bool:
    from napari_wsiseg.slides import open_slide

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlideWarning)
            open_slide(path).close()
    except SlideError:
        return False
    return True
