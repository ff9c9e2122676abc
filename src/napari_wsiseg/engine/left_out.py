"""Patches that could not be read or predicted: listed and told of, or the run's end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from napari_wsiseg.errors import InferenceError
from napari_wsiseg.messages import FailedPatch
from napari_wsiseg.store import MapWriter, ProbabilityMap, left_out_words, place_words

# On a slide of which half is missing, thousands fail.
_TOLD = 5


class LeftOut:
    """What a run leaves out.

    Parameters
    ----------
    writer
        Keeps the list.
    strict
        Whether to stop instead.
    """

    def __init__(self, writer: MapWriter, *, strict: bool) -> None:
        self._writer, self._strict = writer, strict
        self._lost = 0

    def add(self, patches: Sequence[FailedPatch]) -> Iterator[str]:
        """List them; sentences about the run's first few.

        Raises
        ------
        InferenceError
            In a strict run.
        """
        if self._strict:
            bad = patches[0]
            raise InferenceError(
                f"The patch {place_words(self._writer.map, bad)} failed: {bad.reason}; run without "
                "strict to leave such patches out."
            )
        self._writer.fail(patches)
        told, self._lost = self._lost, self._lost + len(patches)
        for number, bad in enumerate(patches, told + 1):
            if number <= _TOLD:
                words = place_words(self._writer.map, bad)
                yield f"The patch {words} is left out: {bad.reason}."
            elif number == _TOLD + 1:
                yield "More patches are left out; the result lists them all."


def refuse_gaps(prior: ProbabilityMap) -> None:
    """Raise where a strict run would go on with a result that lacks patches for good.

    Raises
    ------
    InferenceError
        If it would.
    """
    settled = {tuple(patch) for patch in prior.grid.patches_for(prior.finished).tolist()}
    if any((patch.row, patch.column) in settled for patch in prior.failed_patches):
        raise InferenceError(
            f"In {prior.path} an earlier run left patches out, and what is finished is not "
            "computed again; overwrite it (on_exists='overwrite', --on-exists overwrite), or run "
            f"without strict. {left_out_words(prior)}"
        )
