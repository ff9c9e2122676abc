"""`LabelMap`: the labels of a level of a map, after rule and clean-up, region by region.

What is measured and exported is read from here. Knows no area and no format.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from napari_wsiseg.errors import ExportError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels.cleanup import Cleanup
from napari_wsiseg.labels.corrected import CorrectedLabels
from napari_wsiseg.labels.decide import decide, decide_masks
from napari_wsiseg.labels.record import Correction
from napari_wsiseg.labels.rule import MODELS_OWN, DecisionRule
from napari_wsiseg.store.drafts import temporary_draft

if TYPE_CHECKING:
    from napari_wsiseg.labels.clean import Labelled
    from napari_wsiseg.store import MapBlock, ProbabilityMap


@dataclass(frozen=True, slots=True)
class LabelBlock:
    """Labels of a region, and what they were decided on.

    Parameters
    ----------
    labels
        (layers, height, width) uint8: 0 for none, i + 1 for class i. One layer for
        classes that exclude each other, else one a class: those may overlap.
    block
        The map's values, coverage and tissue there.
    """

    labels: NDArray[np.uint8]
    block: MapBlock


class LabelMap:
    """The labels of one level of a map; a context manager.

    Cleaned labels depend on the whole map. They are computed once, when they are first
    read or by `prepare`, and lie in a temporary folder until the context ends.

    Parameters
    ----------
    pm
        The map; of one that still grows, what is there when it is read.
    rule
        What makes a label.
    cleanup
        What is done to labels then; None: nothing.
    level
        Of the pyramid.
    corrected
        Read the labels that were corrected by hand (see `correct`). They have been decided
        already: `rule` gives way to the one that they were made with. A pixel with a label
        counts as analysed tissue there: a person has looked at it and named it. Coarse
        levels show the label that most of the pixels under them have.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have, or if something is to be
        cleaned and the slide has no scale.
    StoreError
        If nothing was corrected, or the corrected labels are damaged.
    """

    def __init__(
        self,
        pm: ProbabilityMap,
        rule: DecisionRule = MODELS_OWN,
        cleanup: Cleanup | None = None,
        *,
        level: int = 0,
        corrected: bool = False,
    ) -> None:
        self._corrected = CorrectedLabels.open(pm) if corrected else None
        self.rule = rule if self._corrected is None else self._corrected.rule
        self.rule.thresholds_for(pm.spec)
        self.pm, self.level = pm, level
        self.cleanup = cleanup or Cleanup()
        mpp = None if pm.mpp is None else YX(*(value * 2**level for value in pm.mpp))
        self._in_pixels = None if self.cleanup.is_empty else self.cleanup.at(mpp)
        self._remove: weakref.finalize[..., LabelMap] | None = None
        self._cleaned: zarr.Array[Any] | None = None

    @property
    def size(self) -> Size:
        """Size of the level."""
        return self.pm.layout.sizes[self.level]

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """What was corrected by hand in these labels; empty where they are the model's."""
        return () if self._corrected is None else self._corrected.corrections

    @property
    def exclusive(self) -> bool:
        """Whether a pixel has one label at most; corrected ones always have."""
        return self.pm.spec.exclusive or self._corrected is not None

    @property
    def layers(self) -> tuple[tuple[int, ...], ...]:
        """The labels that each layer may hold, in the classes' order."""
        spec = self.pm.spec
        codes = tuple(i + 1 for i in range(len(spec.classes)) if i != spec.background)
        return (codes,) if self.exclusive else tuple((code,) for code in codes)

    def strips(self) -> Iterator[Region]:
        """Rows of chunks from the top, as wide as the map."""
        side = self.pm.grid.chunk
        for top in range(0, self.size.height, side):
            bottom = min(top + side, self.size.height)
            yield Region.from_bounds(top, 0, bottom, self.size.width)

    def prepare(self) -> Iterator[float]:
        """Clean the labels, if that is asked for; yields what part is done, 0..1.

        Raises
        ------
        ExportError
            If the disk refuses.
        StoreError
            If the map cannot be read.
        """
        if self._in_pixels is None or self._cleaned is not None:
            return
        # Late: what it works with takes half a second to load, and few clean.
        from napari_wsiseg.labels.clean import Cleaner

        side = self.pm.grid.chunk
        try:
            draft = temporary_draft(Path(tempfile.gettempdir()))
            self._remove = weakref.finalize(self, draft.discard)
            target = zarr.create_array(
                draft.folder / "labels",
                # One more for what is analysed: see `Cleaner`.
                shape=(len(self.layers) + 1, self.size.height, self.size.width),
                chunks=(1, side, 4 * side),
                dtype=np.uint8,
                compressors=ZstdCodec(level=1),
            )
            yield from Cleaner(self._to_clean, self.size, self._in_pixels, target, side).steps()
        except OSError as error:
            raise ExportError(
                f"The cleaned labels cannot be kept in {tempfile.gettempdir()} "
                f"({error.strerror}); make room there, or set TMPDIR."
            ) from error
        self._cleaned = target

    def read(self, region: Region) -> LabelBlock:
        """The labels of a region, in pixels of the level.

        Raises
        ------
        ExportError
            If the labels have to be cleaned, and the disk refuses.
        StoreError
            If the map cannot be read.
        """
        if self._in_pixels is None:
            return self._found(region)
        for _ in self.prepare():
            pass
        block = self._found(region).block if self._corrected else self.pm.read(region, self.level)
        assert self._cleaned is not None  # noqa: S101 - that is what was prepared
        layers = slice(len(self.layers))
        return LabelBlock(np.asarray(self._cleaned[layers, *region.slices]), block)

    def _to_clean(self, region: Region) -> Labelled:
        from napari_wsiseg.labels.clean import Labelled

        found = self._found(region)
        block = found.block
        return Labelled(
            found.labels, block.analysed if self.rule.clip_to_tissue else block.coverage
        )

    def _found(self, region: Region) -> LabelBlock:
        """The labels before they are cleaned."""
        block = self.pm.read(region, self.level)
        if self._corrected is None:
            return LabelBlock(self._labels(block), block)
        labels = self._corrected.read(region, self.level)
        named = labels > 0
        tissue = None if block.tissue is None else block.tissue | named
        block = replace(block, coverage=block.coverage | named, tissue=tissue)
        return LabelBlock(labels[None], block)

    def _labels(self, block: MapBlock) -> NDArray[np.uint8]:
        asked = (block.values, block.coverage, block.tissue, self.pm.spec, self.rule)
        if self.pm.spec.exclusive:
            return decide(*asked)[None]
        codes = np.array([code for (code,) in self.layers], np.uint8)
        labels: NDArray[np.uint8] = decide_masks(*asked)[codes - 1] * codes[:, None, None]
        return labels

    def close(self) -> None:
        """Remove what was kept of the clean-up; a second call does nothing."""
        self._cleaned = None
        if self._remove is not None:
            self._remove()
            self._remove = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
