"""`ResultLayers`: the napari layers of one result, which follow it while it grows.

Knows neither the dock nor the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from napari.utils.notifications import show_warning

from napari_wsiseg._napari.lazy_labels import LazyLabels, LazyScores
from napari_wsiseg._napari.live_map import LiveMap
from napari_wsiseg._napari.slide_layer import METADATA
from napari_wsiseg.labels import MODELS_OWN, DecisionRule
from napari_wsiseg.labels.corrected import CorrectedLabels
from napari_wsiseg.store import ProbabilityMap

if TYPE_CHECKING:
    import dask.array as da
    from napari import Viewer

    from napari_wsiseg.errors import StoreError

_OPACITY = 0.4
_OUTLINE_PX = 2
_FORGET_COARSEST = "_reset_thumbnail_level_data"
_BRUSHES = {"polygon", "brush_stroke"}
_TRANSPARENT = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ResultSource:
    """What a layer of a result shows, and what it belongs to."""

    pm: ProbabilityMap
    layers: ResultLayers = field(repr=False, compare=False)


def result_of(layer: Layer) -> ResultLayers | None:
    """What a layer of ours belongs to, whoever added it; None for any other layer."""
    source = layer.metadata.get(METADATA)
    return source.layers if isinstance(source, ResultSource) else None


class ResultLayers:
    """The layers of one result: labels of all classes, and the scores of one.

    To be used from the main thread. Whoever removes a layer from the window is left in
    peace: nothing here fails then.

    Parameters
    ----------
    pm
        The result; it may still grow.
    slide_name
        Begins the layers' names.
    rule
        What makes a label.

    Attributes
    ----------
    pm
        The result.
    labels
        "<slide> · <model> · classes": i + 1 for class i, in the classes' colours.
    scores
        "<slide> · <model> · probability": stored values of one class, hidden at first.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have.
    """

    def __init__(
        self, pm: ProbabilityMap, slide_name: str, rule: DecisionRule = MODELS_OWN
    ) -> None:
        self.pm = pm
        self._live = LiveMap(pm, rule, on_error=show_warning)
        self._hidden: set[int] = set()
        name = f"{slide_name} · {pm.spec.name}"
        self.labels = Labels(
            _levels([LazyLabels(self._live, level) for level in self._level_numbers]),
            name=f"{name} · classes",
            opacity=_OPACITY,
            colormap=self._label_colormap(),
            features=_class_names(pm),
            **_placement(pm),
            metadata={METADATA: ResultSource(pm, self)},
        )
        self.labels.editable = False
        _spare_brushes(self.labels)
        self.scores = Image(
            _levels([self._lazy_scores(level) for level in self._level_numbers]),
            name=f"{name} · probability",
            visible=False,
            cache=False,
            rgb=False,
            contrast_limits=(0, 255 if pm.layout.dtype == "uint8" else 1),
            colormap=self._score_colormap(),
            **_placement(pm),
            metadata={METADATA: ResultSource(pm, self)},
        )

    @property
    def rule(self) -> DecisionRule:
        """What makes a label."""
        return self._live.rule

    @property
    def scored(self) -> int:
        """Index of the class whose scores the probability layer holds."""
        return self._live.scored

    def add_to(self, viewer: Viewer) -> None:
        """Add both layers to a window, the labels above the scores."""
        self.add_scores_to(viewer)
        self.add_labels_to(viewer)

    def add_labels_to(self, viewer: Viewer) -> None:
        """Add the labels alone: napari takes 0.1 s for each layer."""
        if self.labels not in viewer.layers:
            viewer.add_layer(self.labels)

    def add_scores_to(self, viewer: Viewer) -> None:
        """Add the scores alone, below the labels."""
        layers = viewer.layers
        if self.scores not in layers:
            place = layers.index(self.labels) if self.labels in layers else len(layers)
            layers.insert(place, self.scores)

    def remove_from(self, viewer: Viewer) -> None:
        """Take out of a window what is still there of them."""
        for layer in (self.labels, self.scores):
            if layer in viewer.layers:
                viewer.layers.remove(layer)

    def lie_over(self, slide: Image) -> None:
        """Lie where a layer shows the slide, whatever its scale, units and place are.

        A map pixel averages several slide pixels; its centre lies in their middle.
        """
        pixel, step = np.asarray(slide.scale[-2:]), np.asarray(self.pm.downsample)
        for layer in (self.labels, self.scores):
            layer.units = slide.units[-2:]
            layer.scale = pixel * step
            layer.translate = slide.translate[-2:] + pixel * (step - 1) / 2

    def read_again(self) -> None:
        """Read what the map has by now of what is looked at; from any thread."""
        self._live.read_again()

    def refresh(self) -> None:
        """Show what was read; a hidden layer shows it when it is shown."""
        self._redraw(self.labels)
        self._redraw(self.scores)

    def set_rule(self, rule: DecisionRule) -> None:
        """Decide anew what is shown.

        Raises
        ------
        JobError
            If the rule names a class that the model does not have.
        """
        self._live.rule = rule
        self._redraw(self.labels)

    def tell(self, error: StoreError) -> None:
        """Say that the result cannot be read; once, whoever finds it."""
        self._live.tell(error)

    @property
    def is_corrected(self) -> bool:
        """Whether the labels are those that were corrected by hand."""
        return self._live.corrected is not None

    def show_corrected(self, corrected: bool) -> None:
        """Show the labels as they were corrected by hand by now, or those of the rule.

        Raises
        ------
        StoreError
            If there are no corrections, or they are damaged.
        """
        self._live.corrected = CorrectedLabels.open(self.pm) if corrected else None
        self._redraw(self.labels)

    @property
    def hidden(self) -> frozenset[int]:
        """Indices of the classes whose labels have no colour."""
        return frozenset(self._hidden)

    def is_shown(self, class_index: int) -> bool:
        """Whether a class's label has its colour."""
        return class_index not in self._hidden

    def set_shown(self, class_index: int, shown: bool) -> None:
        """Show a class's label in its colour, or in none: no label changes."""
        if shown == self.is_shown(class_index):
            return
        if shown:
            self._hidden.discard(class_index)
        else:
            self._hidden.add(class_index)
        self.labels.colormap = self._label_colormap()

    def show_scores(self, class_index: int | None) -> None:
        """Show the scores of a class, or of none."""
        if class_index is not None and class_index != self._live.scored:
            self._live.scored = class_index
            self.scores.colormap = self._score_colormap()
            self._redraw(self.scores)
        if self.scores.visible != (class_index is not None):
            self.scores.visible = class_index is not None

    def set_outline(self, outline: bool) -> None:
        """Show labels by their outlines, or filled."""
        self.labels.contour = _OUTLINE_PX if outline else 0

    def scores_at(self, world_position: Sequence[float]) -> tuple[float, ...] | None:
        """All classes' scores (0..1) at a position in world coordinates.

        Returns
        -------
        One a class, in their order; None outside the map and where it is not covered.
        """
        row, column = np.rint(self.labels.world_to_data(world_position)).astype(int)
        return self._live.scores_at(int(row), int(column))

    @property
    def _level_numbers(self) -> range:
        return range(len(self.pm.layout.sizes))

    def _lazy_scores(self, level: int) -> da.Array:
        import dask.array as da

        array = LazyScores(self._live, level)
        # The same name twice would be the same pixels to dask: `name=False` makes a new one.
        lazy: da.Array = da.from_array(
            array,
            chunks=array.chunks,
            name=False,
            asarray=False,
            inline_array=True,  # half the time of a graph that looks the array up
            meta=np.empty((0, 0), array.dtype),
        )
        return lazy

    def _label_colormap(self) -> DirectLabelColormap:
        colors: dict[int | None, Any] = {None: _TRANSPARENT, 0: _TRANSPARENT}
        for index, color in enumerate(self.pm.spec.class_colors):
            colors[index + 1] = color if self.is_shown(index) else _TRANSPARENT
        return DirectLabelColormap(color_dict=colors)

    def _score_colormap(self) -> Colormap:
        name, color = self.pm.classes[self.scored], self.pm.spec.class_colors[self.scored]
        return Colormap([f"{color}00", f"{color}FF"], name=f"{name} {color}")

    def _redraw(self, layer: Layer) -> None:
        """Show the data of now at every zoom, without a flash.

        napari keeps the coarsest level until it is told; a hidden layer is read when it
        is shown.
        """
        forget_coarsest = getattr(layer, _FORGET_COARSEST, None)
        if forget_coarsest is None:
            layer.data = layer.data
            return
        forget_coarsest()
        if layer.visible:
            layer.refresh(extent=False)


def _levels(levels: list[Any]) -> Any:
    """What napari calls multiscale; it takes one level as an array only."""
    return levels if len(levels) > 1 else levels[0]


def _spare_brushes(labels: Labels) -> None:
    """Nobody paints here: napari need not make what shows its brushes, a third of 0.1 s."""
    overlays = getattr(labels, "_overlays", {})
    for name in _BRUSHES & overlays.keys():
        overlays[name].visible = False


def _class_names(pm: ProbabilityMap) -> dict[str, list[Any]]:
    """Names for the status bar, by label."""
    return {"index": list(range(len(pm.classes) + 1)), "class": ["none", *pm.classes]}


def _placement(pm: ProbabilityMap) -> dict[str, Any]:
    """Where the map lies over its slide, whose first pixel's centre is the origin.

    A map pixel averages several slide pixels; its centre lies in their middle.
    """
    pixel = pm.downsample if pm.mpp is None else pm.mpp
    return {
        "scale": tuple(pixel),
        "translate": tuple((p - p / d) / 2 for p, d in zip(pixel, pm.downsample, strict=True)),
        "units": ("pixel", "pixel") if pm.mpp is None else ("um", "um"),
        "axis_labels": ("y", "x"),
        "multiscale": len(pm.layout.sizes) > 1,
    }
