"""Results in the window: layers that grow, thresholds, how they are shown. Each keeps its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_wsiseg._napari.appearing import Appearing
from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.kept_view import keep_hidden, keep_rule, kept_hidden, kept_rule
from napari_wsiseg._napari.open_slides import OpenSlide
from napari_wsiseg._napari.result_layers import ResultLayers, result_of
from napari_wsiseg._napari.run_words import result_title
from napari_wsiseg._napari.sections.result import ResultSection
from napari_wsiseg._napari.side_by_side import SideBySide
from napari_wsiseg._napari.slide_layer import slide_of
from napari_wsiseg.errors import StoreError
from napari_wsiseg.labels import DecisionRule

if TYPE_CHECKING:
    from napari_wsiseg._napari.runs import RunEnd
    from napari_wsiseg.engine import Progress
    from napari_wsiseg.store import ProbabilityMap

_LOOK_MS = 500
_MOST_BESIDE = 4


class ResultsControl(QObject):
    """Signals: `current_changed` with `ResultLayers` or None; `rule_changed` with whether it is
    final; `grown`; `layers_gone` with the `ProbabilityMap` whose layers were removed.

    Attributes
    ----------
    appearing
        Shows the layers of a run.
    """

    current_changed = Signal(object)
    rule_changed = Signal(bool)
    grown = Signal()
    layers_gone = Signal(object)

    def __init__(self, context: Context, section: ResultSection, parent: QWidget) -> None:
        super().__init__(parent)
        self._context, self._section, self._dialogs = context, section, parent
        self._results: list[ResultLayers] = []
        self.current: ResultLayers | None = None
        self._beside = SideBySide(context.viewer)
        self._growing: ResultLayers | None = None
        self._running: ProbabilityMap | None = None
        self._chunks = 0
        self._looking = QTimer(self)
        self._looking.setInterval(_LOOK_MS)
        self.appearing = Appearing(context.viewer, self._choose, self)
        self._looking.timeout.connect(self._look)
        section.open_asked.connect(self._ask_result)
        section.result_chosen.connect(self._choose)
        section.beside_toggled.connect(self._on_beside)
        section.threshold_moved.connect(self._on_threshold)
        section.shown_toggled.connect(self._on_shown)
        section.heatmap_chosen.connect(self._on_heatmap)
        section.outline_toggled.connect(self._on_outline)
        section.opacity_moved.connect(self._on_opacity)
        viewer = context.viewer
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)

    def adopt_all(self) -> None:
        """Take in the results that are open already."""
        for layer in list(self._context.viewer.layers):
            self._adopt(layer)

    def close(self) -> None:
        """Listen no more."""
        self._looking.stop()
        self.appearing.close()
        viewer = self._context.viewer
        viewer.layers.events.inserted.disconnect(self._on_inserted)
        viewer.layers.events.removed.disconnect(self._on_removed)
        viewer.layers.selection.events.active.disconnect(self._on_active)

    def show_progress(self, slide: OpenSlide, step: Progress) -> None:
        """Show what the run has by now: its layers from the first step on, growing by rows."""
        if self._running is not step.result:
            self._running = step.result
            try:
                self._growing = self._begin(slide, step.result)
            except BaseException:
                # The run waits for its layers, and must not wait for ever.
                self.appearing.appeared.emit()
                raise
            self._chunks = 0
            self._looking.start()

    @property
    def all(self) -> tuple[ResultLayers, ...]:
        """The results of the window."""
        return tuple(self._results)

    def is_growing(self, pm: ProbabilityMap) -> bool:
        """Whether this is the map of the run that is on its way."""
        return self._running is pm

    def show_end(self, end: RunEnd) -> None:
        """Show the last of it."""
        if self._growing is not None:
            self._refresh(self._growing)
        self._growing = self._running = None
        self._looking.stop()
        if end.result is not None:
            self._offer()

    def set_rule(self, rule: DecisionRule, *, final: bool = True) -> None:
        """Decide the current result's labels anew."""
        if self.current is None:
            return
        self.current.set_rule(rule)
        if final:
            self._section.show_rule(self.current.pm.spec, rule)
            keep_rule(self.current.pm, rule)
        self.rule_changed.emit(final)

    def _begin(self, slide: OpenSlide, pm: ProbabilityMap) -> ResultLayers:
        """Layers for a map that is there from now on; they take the place of its earlier ones."""
        earlier = next((r for r in self._results if pm.path and r.pm.path == pm.path), None)
        if earlier is not None and earlier.pm.classes == pm.classes:
            rule, hidden = earlier.rule, earlier.hidden
        else:
            rule, hidden = kept_rule(pm), kept_hidden(pm)
        layers = ResultLayers(pm, slide.name, rule)
        for index in hidden:
            layers.set_shown(index, False)
        if earlier is not None:
            self._forget(earlier)
            earlier.remove_from(self._context.viewer)
        layers.lie_over(slide.layer)
        self._results.append(layers)
        self.appearing.start(layers)
        return layers

    def _look(self) -> None:
        """Refresh where the map has grown: rows are written beside the run's steps."""
        if self._growing is None:
            return
        try:
            chunks = int(self._growing.pm.finished.sum())
        except StoreError:
            return  # the run ends by it, and says so
        if chunks != self._chunks:
            self._chunks = chunks
            self._refresh(self._growing)

    def _refresh(self, layers: ResultLayers) -> None:
        """Show what it has by now; read in a thread."""

        def show(_: object = None) -> None:
            if layers in self._results:
                layers.refresh()
                # At its end it is measured exactly, which an estimate must not follow.
                if layers is self.current is self._growing:
                    self.grown.emit()

        self._context.background.ask("grown", layers.read_again, show, show)

    def _on_inserted(self, event: Any) -> None:
        self._adopt(event.value)

    def _adopt(self, layer: Any) -> None:
        """Take in a result that somebody else opened, with the thresholds it has."""
        layers = result_of(layer)
        if layers is not None and layers not in self._results:
            self._add(layers)

    def _add(self, layers: ResultLayers) -> None:
        self._results.append(layers)
        self._make_current(layers)

    def _on_removed(self, event: Any) -> None:
        if self._beside.is_of(event.value):
            self._stop_beside()
        layers = result_of(event.value)
        if layers is None or layers not in self._results:
            return
        viewer_layers = self._context.viewer.layers
        if event.value is layers.labels or not any(
            part in viewer_layers for part in (layers.labels, layers.scores)
        ):
            self._forget(layers)
            layers.remove_from(self._context.viewer)
            self.layers_gone.emit(layers.pm)

    def _forget(self, layers: ResultLayers) -> None:
        self._stop_beside()
        self._results.remove(layers)
        self.appearing.forget(layers)
        if self._growing is layers:
            self._growing = None
        if self.current is layers:
            self._make_current(self._results[-1] if self._results else None)
        self._offer()

    def _on_active(self, event: Any) -> None:
        layers = None if event.value is None else result_of(event.value)
        if layers in self._results and not self.appearing.is_on_its_way(layers):
            self._make_current(layers)

    def _make_current(self, layers: ResultLayers | None) -> None:
        if layers is self.current:
            return
        self.current = layers
        self._offer()
        if layers is not None:
            spec = layers.pm.spec
            self._section.show_spec(spec, layers.rule, layers.hidden)
            self._section.show_display(
                outline=layers.labels.contour > 0,
                opacity=round(100 * layers.labels.opacity),
                heatmap=layers.scored if layers.scores.visible else None,
            )
        self.current_changed.emit(layers)

    def _choose(self, layers: ResultLayers) -> None:
        """Look at this result: of those of one slide that lie over each other, no other shows."""
        self._make_current(layers)
        layers.labels.visible = True
        if self._beside.is_on:
            return
        for other in self._of_slide(layers):
            other.labels.visible = other is layers
            if other is not layers:
                other.show_scores(None)

    def _of_slide(self, layers: ResultLayers) -> list[ResultLayers]:
        """The results of the same slide, this one among them."""
        slide = layers.pm.info.identity.get("slide")
        return [r for r in self._results if r.pm.info.identity.get("slide") == slide]

    def _on_beside(self, on: bool) -> None:
        layers, slide = self.current, self._slide_layer()
        if on and layers is not None and slide is not None:
            self._beside.start(slide, self._of_slide(layers)[:_MOST_BESIDE])
        else:
            self._stop_beside()

    def _stop_beside(self) -> None:
        if self._beside.is_on:
            self._beside.stop()
            if self.current is not None:
                self._choose(self.current)
        self._offer()

    def _slide_layer(self) -> Any:
        """The layer of the current result's slide; None where it is not open."""
        if self.current is None:
            return None
        fingerprint = self.current.pm.info.identity.get("slide")
        for layer in self._context.viewer.layers:
            slide = slide_of(layer)
            if slide is not None and slide.info.fingerprint == fingerprint:
                return layer
        return None

    def _offer(self) -> None:
        if not self._results:
            self._section.show_nothing()
            return
        self._section.show_results([(_title(r), r) for r in self._results], self.current)
        several = self.current is not None and len(self._of_slide(self.current)) > 1
        possible = several and self._slide_layer() is not None
        self._section.show_beside(possible=possible or self._beside.is_on, on=self._beside.is_on)

    def _on_threshold(self, index: int, threshold: float, final: bool) -> None:
        if self.current is None:
            return
        pm, rule = self.current.pm, self.current.rule
        own = dict(zip(pm.classes, rule.thresholds_for(pm.spec), strict=True))
        named = {
            name: value
            for i, (name, value) in enumerate(own.items())
            if i != pm.spec.background and (name in rule.thresholds or i == index)
        }
        named[pm.classes[index]] = threshold
        self.set_rule(
            DecisionRule(named, default=rule.default, clip_to_tissue=rule.clip_to_tissue),
            final=final,
        )

    def _on_shown(self, index: int, shown: bool) -> None:
        if self.current is not None:
            self.current.set_shown(index, shown)
            keep_hidden(self.current.pm, self.current.hidden)

    def _on_heatmap(self, index: int | None) -> None:
        if self.current is not None:
            self.appearing.finish()
            self.current.show_scores(index)

    def _on_outline(self, outline: bool) -> None:
        if self.current is not None:
            self.current.set_outline(outline)

    def _on_opacity(self, percent: int) -> None:
        if self.current is not None:
            self.current.labels.opacity = percent / 100

    def _ask_result(self) -> None:
        path = QFileDialog.getExistingDirectory(self._dialogs, "Open a result (a folder .ome.zarr)")
        if path:
            self.open_result(Path(path))

    def open_result(self, path: Path) -> None:
        """Open a result, and its slide where it is beside it."""
        from napari_wsiseg._napari.open_result import open_result
        from napari_wsiseg._napari.slide_layer import tell

        try:
            open_result(self._context.viewer, path)
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            tell(error)


def _title(layers: ResultLayers) -> str:
    name: str = layers.labels.name.removesuffix(" · classes")
    try:
        return result_title(name, layers.pm)
    except StoreError:
        return f"{name} (gone or damaged)"
