"""Corrections by hand: a layer to paint in, kept in the result beside the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_wsiseg._napari.areas_control import AreasControl
from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.open_slides import view_region
from napari_wsiseg._napari.result_layers import ResultLayers
from napari_wsiseg._napari.results_control import ResultsControl
from napari_wsiseg._napari.sections.export import ExportSection
from napari_wsiseg._napari.sections.result import ResultSection
from napari_wsiseg._napari.slide_layer import tell
from napari_wsiseg.errors import JobError, reason
from napari_wsiseg.geometry import Polygon, Region
from napari_wsiseg.words import several

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_wsiseg.labels import DecisionRule
    from napari_wsiseg.spec import ModelSpec
    from napari_wsiseg.store import ProbabilityMap

# A larger picture napari draws coarser than it is painted.
_LARGEST_SIDE = 8192
_BRUSH = 20


@dataclass(frozen=True)
class _Painting:
    """What is being corrected.

    Parameters
    ----------
    result
        Its layers.
    areas
        Boxes or outlines in map pixels.
    box
        Around them all.
    layer
        Is painted in.
    """

    result: ResultLayers
    areas: tuple[Region | Polygon, ...]
    box: Region
    layer: Labels


class CorrectionsControl(QObject):
    """Lets the current result be painted over, and shows what came of it."""

    def __init__(
        self,
        context: Context,
        section: ExportSection,
        result_section: ResultSection,
        results: ResultsControl,
        areas: AreasControl,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._context, self._section, self._result_section = context, section, result_section
        self._results, self._areas, self._dialogs = results, areas, parent
        self._painting: _Painting | None = None
        section.correct_view_asked.connect(self._correct_view)
        section.correct_shapes_asked.connect(self._correct_shapes)
        section.corrections_removal_asked.connect(self._ask_removal)
        section.correction_done_asked.connect(self.keep)
        section.correction_dropped.connect(self.drop)
        result_section.corrected_toggled.connect(self._on_toggled)
        results.current_changed.connect(self._on_current)
        context.viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Listen no more."""
        self._context.viewer.layers.events.removed.disconnect(self._on_removed)

    def start(self, areas: tuple[Region | Polygon, ...]) -> None:
        """Give the user a layer to paint in, over these areas in map pixels."""
        from napari_wsiseg.labels import labels_to_correct

        result = self._results.current
        if result is None or self._painting is not None:
            return
        pm, rule = result.pm, result.rule

        def work() -> tuple[Region, NDArray[np.uint8]]:
            boxes = [labels_to_correct(pm, area, rule)[0] for area in areas]
            return labels_to_correct(pm, _checked(pm, _around(boxes)), rule)

        def done(found: tuple[Region, NDArray[np.uint8]]) -> None:
            if result is not self._results.current:
                self._section.show_correcting(correcting=False)
                return
            box, labels = found
            self._painting = _Painting(result, areas, box, self._layer(result, box, labels))
            result.labels.visible = False
            self._section.show_correcting(
                correcting=True,
                text=painting_words(pm.spec),
            )

        self._section.show_correcting(correcting=False, text="Reading the classes there ...")
        self._context.background.ask(
            "correct",
            work,
            done,
            lambda error: self._section.show_correcting(correcting=False, text=reason(error)),
        )

    def keep(self) -> None:
        """Store what was painted."""
        painting = self._painting
        if painting is None:
            return
        pm, rule, areas, box = (
            painting.result.pm, painting.result.rule, painting.areas, painting.box,
        )  # fmt: skip
        painted = np.array(painting.layer.data, np.uint8)
        self._section.show_correcting(
            correcting=True, keeping=True, text="Keeping the corrections ..."
        )

        def work() -> int:
            return _kept(pm, rule, areas, box, painted)

        def done(pixels: int) -> None:
            self._end(painting)
            self._section.show_correcting(
                correcting=False, text=f"{pixels:,} px corrected; the prediction is as it was."
            )
            if pixels:
                self._show(painting.result, corrected=True)

        def failed(error: Exception) -> None:
            self._section.show_correcting(correcting=True, text=reason(error))
            tell(error)

        self._context.background.ask("correct", work, done, failed)

    def drop(self) -> None:
        """Forget what was painted."""
        if self._painting is not None:
            self._end(self._painting)
            self._section.show_correcting(correcting=False)

    def _correct_view(self) -> None:
        result = self._results.current
        if result is not None:
            size = result.pm.size
            self.start((view_region(self._context.viewer, result.labels, size),))

    def _correct_shapes(self) -> None:
        result = self._results.current
        if result is None:
            return
        outlines = self._areas.outlines()
        if not outlines:
            self._section.show_correcting(
                correcting=False, text='Choose a Shapes layer under "Areas in" first.'
            )
            return
        down = result.pm.downsample
        self.start(tuple(tuple((y / down.y, x / down.x) for y, x in line) for line in outlines))

    def _layer(self, result: ResultLayers, box: Region, labels: NDArray[np.uint8]) -> Labels:
        like = result.labels
        scale = np.asarray(like.scale[-2:])
        layer = self._context.viewer.add_labels(
            labels.copy(),
            name=like.name.replace(" · classes", " · correcting"),
            scale=scale,
            translate=np.asarray(like.translate[-2:]) + scale * (box.top, box.left),
            units=like.units[-2:],
            axis_labels=("y", "x"),
            opacity=like.opacity,
            colormap=like.colormap,
            features=like.features,
        )
        layer.selected_label = min(result.scored + 1, len(result.pm.classes))
        layer.brush_size = _BRUSH
        layer.mode = "paint"
        return layer

    def _end(self, painting: _Painting) -> None:
        self._painting = None
        if painting.layer in self._context.viewer.layers:
            self._context.viewer.layers.remove(painting.layer)
        labels = painting.result.labels
        labels.visible = True
        if labels in self._context.viewer.layers:
            self._context.viewer.layers.selection.active = labels

    def _on_removed(self, event: Any) -> None:
        painting = self._painting
        if painting is not None and event.value is painting.layer:
            self.drop()

    def _on_current(self, result: ResultLayers | None) -> None:
        from napari_wsiseg.labels import has_corrections

        possible = result is not None and has_corrections(result.pm)
        on = result is not None and result.is_corrected
        self._result_section.show_corrected(possible=possible, on=on)

    def _on_toggled(self, on: bool) -> None:
        if self._results.current is not None:
            self._show(self._results.current, corrected=on)

    def _show(self, result: ResultLayers, *, corrected: bool) -> None:
        try:
            result.show_corrected(corrected)
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            tell(error)
        if result is self._results.current:
            self._on_current(result)
            self._areas.measure()

    def _ask_removal(self) -> None:
        from napari_wsiseg.labels import corrections, has_corrections

        result = self._results.current
        if result is None or not has_corrections(result.pm):
            self._section.show_correcting(correcting=False, text="There are no corrections.")
            return
        try:
            count = several(len(corrections(result.pm)), "correction")
        except Exception:  # noqa: BLE001 - damaged ones can be removed too
            count = "the corrections"
        answer = QMessageBox.question(
            self._dialogs, "Corrections", f"Remove {count} for good? The prediction stays."
        )
        if answer == QMessageBox.StandardButton.Yes:
            self._remove(result)

    def _remove(self, result: ResultLayers) -> None:
        from napari_wsiseg.labels import discard_corrections

        self._show(result, corrected=False)
        try:
            discard_corrections(result.pm)
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            tell(error)
        self._on_current(result)
        self._section.show_correcting(correcting=False, text="The corrections are removed.")


def painting_words(spec: ModelSpec) -> str:
    """What to paint with: napari's controls show labels by number."""
    named = ", ".join(
        f"{index + 1} {name}" for index, name in enumerate(spec.classes) if index != spec.background
    )
    return f"Paint with the brush. Labels: {named}; 0 erases. Then keep or discard it."


def _checked(pm: ProbabilityMap, box: Region) -> Region:
    """The box, where it can be painted in.

    Raises
    ------
    JobError
        If it cannot.
    """
    if pm.path is None or pm.status == "running":
        raise JobError("The result is still being written; correct it when it is done.")
    if max(box.size.height, box.size.width) > _LARGEST_SIDE:
        raise JobError(
            f"{box.size} are too many to paint in at once; zoom in until the window shows at most "
            f"{_LARGEST_SIDE} px of the map a side."
        )
    return box


def _kept(
    pm: ProbabilityMap,
    rule: DecisionRule,
    areas: tuple[Region | Polygon, ...],
    box: Region,
    painted: NDArray[np.uint8],
) -> int:
    """Store what was painted in each area, and beside them; how many pixels changed."""
    from napari_wsiseg.labels import correct, labels_to_correct

    def keep(area: Region | Polygon, part: Region) -> int:
        cut = painted[part.shifted(-box.top, -box.left).slices]
        return correct(pm, area, cut, rule).pixels

    pixels = sum(keep(area, labels_to_correct(pm, area, rule)[0]) for area in areas)
    # The brush does not stop at an outline, and no paint is lost.
    _, stored = labels_to_correct(pm, box, rule)
    beside = np.argwhere(painted != stored)
    if len(beside):
        (top, left), (bottom, right) = beside.min(0).tolist(), (beside.max(0) + 1).tolist()
        part = Region.from_bounds(top, left, bottom, right).shifted(box.top, box.left)
        pixels += keep(part, part)
    return pixels


def _around(boxes: list[Region]) -> Region:
    return Region.from_bounds(
        min(box.top for box in boxes),
        min(box.left for box in boxes),
        max(box.bottom for box in boxes),
        max(box.right for box in boxes),
    )
