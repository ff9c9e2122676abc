"""Draws a sweep of thresholds; knows no file.

With matplotlib's objects alone: `pyplot` would start a window system, and keep every figure.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from napari_wsiseg.measure.agreement import OTHER_SLIDES
from napari_wsiseg.measure.overlap import Agreement, ClassAgreement, SweepRow
from napari_wsiseg.notice import RESEARCH_USE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the palette of Okabe and Ito, for the colour-blind; told apart by their strokes too.
_LINES: tuple[tuple[str, str, str, float], ...] = (
    ("Dice", "#000000", "-", 2.2),
    ("Precision", "#0072B2", "--", 1.5),
    ("Recall", "#D55E00", "-.", 1.5),
)
_BEST, _IN_USE = "#009E73", "#777777"
_DPI = 150
# Inches.
_PANEL_WIDTH, _PANEL_HEIGHT, _LEAST_WIDTH = 3.4, 2.75, 6.8
_MOST_COLUMNS = 3
_PANEL_LETTERS = 34
_LINE_HEIGHT, _LEGEND_HEIGHT = 0.17, 0.3


def sweep_figure(found: Agreement, title: str) -> Figure:
    """Dice, precision and recall by threshold: a panel for each class with a reference."""
    shown = [row for row in found.classes if row.overlap.reference] or list(found.classes)
    columns = min(len(shown), _MOST_COLUMNS)
    rows = -(-len(shown) // columns)
    width = max(columns * _PANEL_WIDTH, _LEAST_WIDTH)
    letters = round(width * 15.5)
    above = [*_wrapped(title, letters), *_wrapped(_subtitle(found, shown), letters)]
    below = _wrapped(f"{OTHER_SLIDES} {RESEARCH_USE}", letters)
    top, bottom = (len(lines) * _LINE_HEIGHT + 0.12 for lines in (above, below))
    bottom += _LEGEND_HEIGHT
    height = top + rows * _PANEL_HEIGHT + bottom
    figure = Figure((width, height), dpi=_DPI, facecolor="white")
    for number, row in enumerate(shown):
        down, across = divmod(number, columns)
        corner = (across * width / columns, height - top - (down + 1) * _PANEL_HEIGHT)
        axes = figure.add_axes(
            (
                (corner[0] + 0.5) / width,
                (corner[1] + 0.5) / height,
                (width / columns - 0.7) / width,
                (_PANEL_HEIGHT - 1.0) / height,
            )
        )
        _draw(axes, row, found.threshold_unit)
    for lines, y, side in ((above, 1 - 0.08 / height, "top"), (below, 0.08 / height, "bottom")):
        figure.text(
            0.12 / width,
            y,
            "\n".join(lines),
            va=side,
            fontsize=8.5,
            color="#222222",
            parse_math=False,
        )
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="center",
        bbox_to_anchor=(0.5, (bottom - _LEGEND_HEIGHT / 2) / height),
        ncols=len(names),
        frameon=False,
        fontsize=8.5,
    )
    return figure


def _draw(axes: Axes, row: ClassAgreement, unit: str) -> None:
    thresholds = [step.threshold for step in row.sweep]
    overlaps = [step.overlap for step in row.sweep]
    # Thin over thick: near 1 they run on top of each other.
    for (name, color, stroke, width), values in zip(
        _LINES,
        (
            [overlap.dice for overlap in overlaps],
            [overlap.precision for overlap in overlaps],
            [overlap.recall for overlap in overlaps],
        ),
        strict=True,
    ):
        known = [float("nan") if value is None else value for value in values]
        axes.plot(thresholds, known, stroke, color=color, lw=width, label=name)
    axes.axvline(row.in_use.threshold, color=_IN_USE, lw=1.0, ls=":", zorder=1)
    _mark(axes, row.in_use, "in use", {"marker": "o", "ms": 7, "mfc": "#000000", "mec": "#FFFFFF"})
    _mark(
        axes, row.best, "best Dice", {"marker": "D", "ms": 9, "mfc": "none", "mec": _BEST, "mew": 2}
    )
    axes.set(xlim=(0, max(1.0, thresholds[-1])), ylim=(0, 1.02))
    axes.set_xlabel("Threshold" + (" (OD)" if unit != "probability" else ""), fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for text, up, weight in ((_fitted(row.name), 1.12, "bold"), (_figures(row), 1.03, "normal")):
        axes.text(
            0,
            up,
            text,
            transform=axes.transAxes,
            fontsize=9,
            fontweight=weight,
            parse_math=False,
        )


def _mark(axes: Axes, step: SweepRow | None, name: str, style: dict[str, Any]) -> None:
    """A mark on the Dice curve; where there is nothing to mark, the legend's alone."""
    dice = None if step is None else step.overlap.dice
    at = [] if step is None or dice is None else [(step.threshold, dice)]
    x, y = [place[0] for place in at], [place[1] for place in at]
    axes.plot(x, y, ls="none", label=name, zorder=5, clip_on=False, **style)


def _figures(row: ClassAgreement) -> str:
    def at(step: SweepRow) -> str:
        dice = "-" if step.overlap.dice is None else f"{step.overlap.dice:.3f}"
        return f"{dice} at {step.threshold:.2f}"

    best = "" if row.best is None else f"; best {at(row.best)}"
    return f"Dice {at(row.in_use)}{best}"


def _subtitle(found: Agreement, shown: Sequence[ClassAgreement]) -> str:
    names = {row.name for row in shown}
    without = [row.name for row in found.classes if row.name not in names]
    lacking = [f"No annotation of {', '.join(without)}."] if without else []
    return " ".join([*found.remarks, *lacking])


def _fitted(text: str) -> str:
    cut = text if len(text) <= _PANEL_LETTERS else f"{text[: _PANEL_LETTERS - 3]}..."
    return _drawable(cut)


def _wrapped(text: str, letters: int) -> list[str]:
    return textwrap.wrap(_drawable(text), letters)


def _drawable(text: str) -> str:
    """The text in letters that the font has; others become "?"."""
    font = get_font(findfont(FontProperties()))
    return "".join(c if font.get_char_index(ord(c)) else "?" for c in text)
