"""What corrected labels say of themselves: `Correction`, and the record of all of them.

Knows no pixel.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from napari_wsiseg._version import __version__
from napari_wsiseg.documents import LARGEST_JSON, UnreadableError, read_bounded
from napari_wsiseg.errors import StoreError, WsisegError, reason
from napari_wsiseg.geometry import Polygon, Region
from napari_wsiseg.labels.image import LabelEntry, label_image, rgb
from napari_wsiseg.labels.rule import DecisionRule
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.store import OURS
from napari_wsiseg.store.label_images import CORRECTED
from napari_wsiseg.validation import sentence

if TYPE_CHECKING:
    from napari_wsiseg.store import ProbabilityMap
    from napari_wsiseg.store.layout import Json

NAME = Path(CORRECTED).name
"""What the label image is called."""

ATTRIBUTES = "zarr.json"
"""The file that holds the record, among OME-Zarr's attributes."""


@dataclass(frozen=True)
class Correction:
    """What was painted at one time.

    Parameters
    ----------
    time
        When it was kept, UTC.
    area
        Where one could paint: a box, or an outline of (y, x) vertices, in map pixels.
    pixels
        How many pixels have another label since.
    """

    time: AwareDatetime
    area: Region | Polygon
    pixels: Annotated[int, Field(ge=0)]

    def json(self) -> Json:
        """The same as plain JSON."""
        values: Json = _CORRECTION.dump_python(self, mode="json")
        return values


_CORRECTION = TypeAdapter(Correction)


class Record(BaseModel):
    """Our attributes: where the labels came from, and what was done to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notice: str = RESEARCH_USE
    program: str
    result: str
    model: str
    rule: DecisionRule
    finished_chunks: int
    pixels: tuple[int, ...]
    corrections: tuple[Correction, ...]

    def with_correction(self, correction: Correction, more: NDArray[np.int64]) -> Record:
        """The same after one more correction; `more` pixels of each class, (classes,)."""
        pixels = tuple((np.array(self.pixels) + more).tolist())
        done = (*self.corrections, correction)
        return self.model_copy(update={"pixels": pixels, "corrections": done})


def first_record(
    pm: ProbabilityMap, rule: DecisionRule, counts: NDArray[np.int64], correction: Correction
) -> Record:
    """That of labels with one correction; `counts` are their pixels by label, (256,)."""
    return Record(
        program=f"napari-wsiseg {__version__}",
        result=pm.info.digest,
        model=pm.spec.name,
        rule=rule,
        finished_chunks=int(pm.finished.sum()),
        pixels=tuple(counts[1 : len(pm.classes) + 1].tolist()),
        corrections=(correction,),
    )


def group_file(pm: ProbabilityMap, record: Record) -> bytes:
    """The group's `zarr.json`.

    Raises
    ------
    StoreError
        If it would be larger than what `read_record` reads.
    """
    spec = pm.spec
    entries = [
        LabelEntry(i + 1, name, (*rgb(spec.class_colors[i]), 255), record.pixels[i])
        for i, name in enumerate(spec.classes)
        if i != spec.background
    ]
    ome = label_image(pm.layout.multiscale(NAME), entries, pm.mpp)
    attributes = {"ome": ome, OURS: record.model_dump(mode="json")}
    group = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    content = json.dumps(group, indent=2).encode()
    if len(content) > LARGEST_JSON:
        raise StoreError(
            f"{len(record.corrections)} corrections would take {len(content) / 1e6:.0f} MB, of "
            f"which {LARGEST_JSON / 1e6:.0f} are read; paint within simpler outlines."
        )
    return content


def read_record(folder: Path) -> Record:
    """The record in the label image's folder.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    try:
        attributes = json.loads(read_bounded(folder / ATTRIBUTES, LARGEST_JSON))["attributes"]
        return Record.model_validate_json(json.dumps(attributes[OURS]))
    except ValidationError as error:
        raise damaged(folder, sentence(error, OURS).rstrip(".")) from error
    except WsisegError as error:
        raise damaged(folder, reason(error)) from error
    except UnreadableError as error:
        raise damaged(folder, f"{ATTRIBUTES}: {error}") from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise damaged(folder, f"{ATTRIBUTES}: {type(error).__name__}") from error


def damaged(folder: Path, why: str) -> StoreError:
    """The error for corrected labels that cannot be read."""
    return StoreError(
        f"The corrected labels in {folder} are damaged ({why}); restore that folder from a copy, "
        "or discard the corrections. The prediction is not touched."
    )
