"""The failed patches of a result: each once, and no more than can be read again."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import TypeAdapter

from napari_wsiseg.documents import LARGEST_JSON
from napari_wsiseg.errors import StoreError
from napari_wsiseg.messages import FailedPatch
from napari_wsiseg.store.state import MOST_COMMAS

_PATCH = TypeAdapter(FailedPatch)
# Bytes of a state: line breaks and indents around a patch, and all that is beside the patches.
_AROUND, _BESIDES = 32, 2**20


class FailedList:
    """Patches that are left uncovered, in the order in which they failed.

    Parameters
    ----------
    patches
        Those that are listed already.
    """

    def __init__(self, patches: Iterable[FailedPatch]) -> None:
        self._listed: dict[tuple[int, int], FailedPatch] = {}
        self._room = LARGEST_JSON - _BESIDES
        self.add(patches)

    @property
    def patches(self) -> tuple[FailedPatch, ...]:
        """All of them."""
        return tuple(self._listed.values())

    def add(self, patches: Iterable[FailedPatch]) -> None:
        """List some more; one may be known already: it lies in a finished chunk too.

        Raises
        ------
        StoreError
            If `read_state` would refuse so many; then none of these is listed.
        """
        new = {(patch.row, patch.column): patch for patch in patches}
        new = {place: patch for place, patch in new.items() if place not in self._listed}
        room = self._room - sum(map(_share, new.values()))
        if room < 0:
            raise StoreError(
                f"{len(self._listed) + len(new)} patches could not be read or predicted, more than "
                "a result can list; get a whole copy of the slide, or run parts of it (region)."
            )
        self._listed |= new
        self._room = room


def _share(patch: FailedPatch) -> int:
    """What a patch takes of a state that can be read: its bytes, or those its commas stand for."""
    text = _PATCH.dump_json(patch)
    commas = text.count(b",") + 1
    return max(len(text) + _AROUND, commas * (LARGEST_JSON // MOST_COMMAS))
