"""The plot of memory over a run, and of peaks over a slide's width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure


def draw(
    curves: Mapping[str, Sequence[tuple[float, int]]],
    peaks: Mapping[int, tuple[float, float]],
    target: Path,
) -> None:
    """Draw both beside each other, in MB above the loaded program.

    Parameters
    ----------
    curves
        (seconds, bytes) of runs, by their names.
    peaks
        Peak and planned MB, by the width of the slide.
    target
        The PNG file.
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    over_time, over_width = figure.subplots(1, 2)
    for name, curve in curves.items():
        over_time.plot([s for s, _ in curve], [held / 1e6 for _, held in curve], label=name, lw=1)
    over_time.set(xlabel="seconds", ylabel="MB above the loaded program", ylim=(0, None))
    over_time.legend(fontsize="small")
    widths = list(peaks)
    over_width.plot(widths, [peak for peak, _ in peaks.values()], "o-", label="peak")
    over_width.plot(widths, [plan for _, plan in peaks.values()], "--", label="foretold")
    over_width.set(xlabel="width of the slide, px", ylabel="MB", xlim=(0, None), ylim=(0, None))
    over_width.legend()
    figure.savefig(target, dpi=120)
