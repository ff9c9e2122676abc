"""How a run stands: `state.json`. Knows no pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from napari_wsiseg.documents import LARGEST_JSON, UnreadableError, read_bounded
from napari_wsiseg.errors import StoreError
from napari_wsiseg.messages import FailedPatch
from napari_wsiseg.store.files import write_durably
from napari_wsiseg.validation import sentence

Status = Literal["running", "cancelled", "failed", "complete"]

STATE = "state.json"
"""Name of the file in the result's folder."""

ANEW = "segment the slide anew with on_exists='overwrite' (--on-exists overwrite)"
"""What to do where a result is damaged: to go on with it fails every time."""


@dataclass(frozen=True)
class State:
    """What changes while a result is written, besides its chunks.

    Parameters
    ----------
    status
        "running" until the writer closes.
    spilled
        Whether working buffers or the map went to disk for want of memory.
    failed_patches
        Those left uncovered, and why.
    warnings
        Sentences for the user.
    ended
        When the last run over the map ended, in UTC (ISO 8601); None before.
    """

    status: Status
    spilled: bool = False
    failed_patches: Annotated[tuple[FailedPatch, ...], Field(max_length=10**7)] = ()
    warnings: tuple[str, ...] = ()
    ended: str | None = None


_ADAPTER = TypeAdapter(State)

MOST_COMMAS = 2**23
"""How many a state may hold that is read: pydantic takes 140 bytes for each value, and ends the
process where there is no more memory."""


def read_state(folder: Path) -> State:
    """The state of the result in `folder`.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    path = folder / STATE
    try:
        content = read_bounded(path, LARGEST_JSON)
        if content.count(b",") > MOST_COMMAS:
            raise UnreadableError("it holds more values than any run leaves")  # noqa: TRY301
        return _ADAPTER.validate_json(content)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is not there: the result is damaged; {ANEW}.") from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}; check the drive and the file's rights."
        ) from error
    except (ValidationError, UnreadableError) as error:
        told = sentence(error, "state") if isinstance(error, ValidationError) else str(error)
        why = told.rstrip(".")
        raise StoreError(f"{path} is damaged ({why}); {ANEW}.") from error


def write_state(folder: Path, state: State) -> None:
    """Replace the state at once.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    write_durably(folder / STATE, _ADAPTER.dump_json(state, indent=1) + b"\n")
