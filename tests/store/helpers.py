"""Small maps for the store's tests, and what they must hold, computed the plain way."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsiseg.geometry import YX, Size
from napari_wsiseg.grid import Mask, PatchGrid
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.store import MapLayout, MapWriter, ProbabilityMap, RunInfo

INFO = RunInfo(
    identity={"model": "test", "mpp": 0.5},
    job={"model": "test"},
    provenance={"slide": "one", "versions": {"napari-wsiseg": "0"}},
)


SCALE = YX(0.5, 0.25)


def workspace(budget: int = 10**9) -> Workspace:
    return Workspace(budget, Path(tempfile.gettempdir()))


def layout_of(
    canvas: tuple[int, int],
    *,
    classes: int = 2,
    dtype: str = "uint8",
    stride: int = 5,
    scale: int = 1,
    chunk: int = 4,
    keep: Mask | None = None,
    mpp: YX | None = SCALE,
) -> MapLayout:
    grid = PatchGrid(
        Size(*canvas), Size(7, 7), Size(5, 5), Size(stride, stride), scale, chunk=chunk
    )
    if keep is not None:
        grid = replace(grid, keep=keep)
    spec = ModelSpec(name="test", classes=tuple(f"Class {i}" for i in range(classes)))
    source = None if mpp is None else "metadata"
    return MapLayout(grid, spec, dtype, YX(2.0, 2.0), Size(*(2 * n for n in canvas)), mpp, source)


@dataclass(frozen=True)
class Truth:
    """What a run would merge: probabilities and coverage over the whole canvas."""

    probabilities: NDArray[np.float32]
    coverage: NDArray[np.bool_]

    @classmethod
    def random(cls, layout: MapLayout, seed: int, failed: float = 0.0) -> Truth:
        """Random probabilities where a kept patch that did not fail lies."""
        grid, rng = layout.grid, np.random.default_rng(seed)
        coverage = np.zeros((grid.canvas.height, grid.canvas.width), bool)
        for row, column in np.argwhere(grid.keep):
            if rng.random() >= failed:
                coverage[grid.output_region(row, column).slices] = True
        shape = (layout.classes, *coverage.shape)
        # Coarse values make ties, where rounding half to even shows.
        values = rng.integers(0, 9, shape).astype(np.float32) / np.float32(8.5)
        return cls(np.minimum(values, 1) * coverage, coverage)

    def feed(self, writer: MapWriter, seed: int) -> None:
        """Give it to a writer in random bands, each in a buffer that the next one overwrites.

        Some rows at a time, their parts in any order; what nothing covers is in no band.
        """
        rng, scale = np.random.default_rng(seed), writer.map.grid.scale
        height, width = self.coverage.shape
        most = scale * 3 * writer.map.grid.chunk
        buffer = np.empty_like(self.probabilities)
        top = 0
        while top < height:
            bottom = min(top + scale * int(rng.integers(1, most // scale)), height)
            cuts = np.unique(rng.integers(0, width, 3) // scale * scale)
            lefts = np.concatenate([[0], cuts[cuts > 0]])
            for left in rng.permutation(lefts).tolist():
                right = int(min(lefts[lefts > left], default=width))
                part = np.s_[top:bottom, left:right]
                if self.coverage[part].any():
                    view = buffer[:, : bottom - top, : right - left]
                    view[...] = self.probabilities[(slice(None), *part)]
                    writer.add(Band(top, left, view, self.coverage[part].copy()))
                    buffer[...] = np.nan
            top = bottom
            writer.advance(top)

    def within(self, layout: MapLayout, chunks: Mask) -> Truth:
        """What is left of it in these chunks."""
        inside = np.zeros_like(self.coverage)
        for row, column in np.argwhere(chunks):
            inside[layout.grid.chunk_region(row, column).slices] = True
        return Truth(self.probabilities * inside, self.coverage & inside)

    def levels(self, layout: MapLayout) -> list[tuple[NDArray[np.generic], NDArray[np.bool_]]]:
        """Every level as rule 5 says, one pixel after the other."""
        scale, dtype = layout.grid.scale, np.dtype(layout.dtype)
        values, coverage = plain_mean(self.probabilities, self.coverage, scale)
        levels = [(_stored(values * (255 if dtype == np.uint8 else 1), dtype), coverage)]
        while len(levels) < len(layout.sizes):
            values, coverage = plain_mean(levels[-1][0].astype(np.float32), levels[-1][1], 2)
            levels.append((_stored(values, dtype), coverage))
        return levels


def _stored(values: NDArray[np.float32], dtype: np.dtype) -> NDArray[np.generic]:
    return (np.rint(values) if dtype == np.uint8 else values).astype(dtype)


def plain_mean(values, coverage, factor):
    height, width = (-(-n // factor) for n in coverage.shape)
    means = np.zeros((values.shape[0], height, width), np.float32)
    covered = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            block = np.s_[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            inside = coverage[block]
            covered[y, x] = inside.any()
            if covered[y, x]:
                # Down, then across: in float32 the order shows.
                sums = values[(slice(None), *block)].sum(1).sum(1)
                means[:, y, x] = sums / np.float32(inside.sum())
    return means, covered


def run(writer: MapWriter, truth: Truth, chunks: Mask, seed: int = 0) -> None:
    """One run over these chunks, to its end."""
    writer.begin(chunks)
    truth.feed(writer, seed)
    writer.flush()


def assert_holds(pm: ProbabilityMap, truth: Truth) -> None:
    """Every level, bit for bit."""
    expected = truth.levels(pm.layout)
    assert len(pm.levels) == len(expected)
    for level, (values, coverage) in enumerate(expected):
        np.testing.assert_array_equal(
            pm.coverage[level].compute(scheduler="sync"), coverage, f"level {level}"
        )
        stored = pm.levels[level].compute(scheduler="sync")
        assert stored.dtype == values.dtype
        np.testing.assert_array_equal(stored, values, f"level {level}")
