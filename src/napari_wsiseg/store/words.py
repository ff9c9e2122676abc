"""What a result lacks, in words. Knows no pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsiseg.words import several

if TYPE_CHECKING:
    from napari_wsiseg.messages import FailedPatch
    from napari_wsiseg.store.map import ProbabilityMap


def left_out_words(pm: ProbabilityMap) -> str:
    """The patches that failed, in a sentence; empty where none did.

    Like "2 patches could not be computed and are left out, the first at x 960, y 1920 on the
    slide: a cannot be read in ...".
    """
    failed = pm.failed_patches
    if not failed:
        return ""
    one = len(failed) == 1
    return (
        f"{several(len(failed), 'patch')} could not be computed and {'is' if one else 'are'} left "
        f"out, {'' if one else 'the first '}{place_words(pm, failed[0])}: {failed[0].reason}."
    )


def place_words(pm: ProbabilityMap, patch: FailedPatch) -> str:
    """Where a patch lies: "at x 960, y 1920 on the slide", in level-0 pixels."""
    box = pm.place_of(patch)
    return f"at x {box.left}, y {box.top} on the slide"
