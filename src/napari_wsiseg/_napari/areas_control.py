"""Areas of the current result: estimates while something moves, exact ones when it rests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari.layers import Shapes
from qtpy.QtCore import QObject, QTimer
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_wsiseg._napari.area_words import as_tsv
from napari_wsiseg._napari.context import Context
from napari_wsiseg._napari.live_map import check_there
from napari_wsiseg._napari.open_slides import regions_of
from napari_wsiseg._napari.results_control import ResultsControl
from napari_wsiseg._napari.sections.result import ResultSection
from napari_wsiseg._napari.slide_layer import tell
from napari_wsiseg._napari.slides_control import SlidesControl
from napari_wsiseg.errors import JobError, StoreError, WsisegError
from napari_wsiseg.labels import Cleanup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsiseg._napari.result_layers import ResultLayers
    from napari_wsiseg.geometry import Polygon
    from napari_wsiseg.measure import AreaTable
    from napari_wsiseg.regions import NamedRegion

_WHOLE, _IMPORT = "whole", "import"
_SETTLING_MS = 200
_CLEANED = "After the clean-up, which the picture does not show."
_GEOJSON = "Annotations (*.geojson *.geojson.gz *.json);;All files (*)"


@dataclass(frozen=True)
class _Imported:
    path: Path
    regions: tuple[NamedRegion, ...]
    slide: object


class AreasControl(QObject):
    """Measures the current result in the whole tissue, in shapes, or in imported annotations."""

    def __init__(
        self,
        context: Context,
        section: ResultSection,
        results: ResultsControl,
        slides: SlidesControl,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._context, self._section = context, section
        self._results, self._slides, self._dialogs = results, slides, parent
        self._place: Any = _WHOLE
        self._imported: _Imported | None = None
        self._drawing = QTimer(self)
        self._drawing.setSingleShot(True)
        self._drawing.setInterval(_SETTLING_MS)
        self._drawing.timeout.connect(self.measure)
        self._cleanups: WeakKeyDictionary[ResultLayers, Cleanup] = WeakKeyDictionary()
        self.tables: list[AreaTable] = []
        results.current_changed.connect(self._on_current)
        results.rule_changed.connect(lambda final: self.measure(estimate=not final))
        results.grown.connect(lambda: self.measure(estimate=True))
        slides.layers_changed.connect(self._offer)
        section.measured_in_chosen.connect(self._on_place)
        section.cleanup_chosen.connect(self._on_cleanup)
        section.copy_asked.connect(self._copy)
        self._offer()

    def close(self) -> None:
        """Listen no more."""
        self._drawing.stop()
        self._measure_in(_WHOLE)

    @property
    def cleanup(self) -> Cleanup:
        """Of the current result."""
        layers = self._results.current
        return Cleanup() if layers is None else self._cleanups.get(layers, Cleanup())

    def measure(self, *, estimate: bool = False) -> None:
        """Measure the current result; the answer is shown when it comes."""
        layers = self._results.current
        if layers is None:
            return
        try:
            regions = self._regions()
        except WsisegError as error:
            self._show_nothing(str(error))
            return
        pm, rule, cleanup = layers.pm, layers.rule, self.cleanup
        # A clean-up takes the whole map: not while something moves.
        used = None if estimate or cleanup.is_empty else cleanup
        corrected = layers.is_corrected

        def work() -> list[AreaTable]:
            from napari_wsiseg.measure import measure

            check_there(pm)
            if regions is None:
                return [measure(pm, rule, used, estimate=estimate, corrected=corrected)]
            return measure(pm, rule, used, regions=regions, estimate=estimate, corrected=corrected)

        def failed(error: Exception) -> None:
            self._on_error(layers, error)

        def done(tables: list[AreaTable]) -> None:
            self._show(tables, "" if used is None else _CLEANED)

        self._context.background.ask("areas", work, done, failed)

    def regions(self) -> tuple[NamedRegion, ...] | None:
        """Where areas are measured; None: in the whole tissue."""
        found = self._regions()
        return None if found is None else tuple(found)

    def outlines(self) -> tuple[Polygon, ...]:
        """The shapes that areas are measured in, in level-0 pixels; empty for none.

        Of the current result's slide, whichever slide is looked at, or open at all.
        """
        layers, place = self._results.current, self._place
        is_layer = any(place is layer for _, layer in self._slides.shapes_layers())
        if layers is None or not is_layer:
            return ()
        return regions_of(place, layers.labels, layers.pm.downsample)

    def _show_nothing(self, why: str = "") -> None:
        """Show no areas: an answer that is on its way would be of something else."""
        self._context.background.forget("areas")
        self.tables = []
        self._section.show_areas(None, [why])

    def _show(self, tables: list[AreaTable], remark: str) -> None:
        from napari_wsiseg.measure import stain_readout

        self.tables = tables
        shown = tables[0]
        self._section.show_areas(shown, [*stain_readout(shown), *([remark] if remark else [])])

    def _on_error(self, layers: ResultLayers, error: Exception) -> None:
        is_known = self._section.readout.text() == str(error)
        self._show_nothing(str(error))
        if isinstance(error, StoreError):
            layers.tell(error)
        elif not is_known:
            tell(error)

    def _on_current(self, layers: ResultLayers | None) -> None:
        self._context.background.forget("areas")
        self.tables = []
        if layers is None:
            return
        if self._imported is not None and self._imported.slide != _slide_of(layers):
            self._imported = None
            self._offer()
        self._section.show_areas(None)
        self._section.cleanup.show_cleanup(self.cleanup)
        self.measure()

    def _offer(self) -> None:
        places: list[tuple[str, object]] = [("the whole tissue", _WHOLE)]
        places += [(f"shapes: {name}", layer) for name, layer in self._slides.shapes_layers()]
        if self._imported is not None:
            places.append((f"annotations: {self._imported.path.name}", self._imported))
        places.append(("annotations from a GeoJSON file ...", _IMPORT))
        if not any(self._place is place for _, place in places[:-1]):
            self._measure_in(_WHOLE)
            self.measure()
        self._section.show_measured_in(places, self._place)

    def _on_place(self, place: Any) -> None:
        if place == _IMPORT:
            path, _ = QFileDialog.getOpenFileName(
                self._dialogs, "Annotations to measure in", "", _GEOJSON
            )
            if path:
                self.import_annotations(Path(path))
            else:
                self._offer()
            return
        # Qt gives another string back.
        self._measure_in(_WHOLE if place == _WHOLE else place)
        self.measure()

    def _measure_in(self, place: Any) -> None:
        """Take a place; of shapes, whoever draws on is measured without a click."""
        if isinstance(self._place, Shapes):
            self._place.events.set_data.disconnect(self._on_drawn)
        self._place = place
        if isinstance(place, Shapes):
            place.events.set_data.connect(self._on_drawn)

    def _on_drawn(self, *_: object) -> None:
        self._drawing.start()

    def import_annotations(self, path: Path) -> None:
        """Measure in the annotations of a GeoJSON file."""
        from napari_wsiseg.regions import excluding, read_geojson

        layers = self._results.current
        if layers is None:
            return
        try:
            regions = excluding(read_geojson(path, _origin(layers)), layers.pm.slide_size)
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            tell(error)
        else:
            self._imported = _Imported(path, regions, _slide_of(layers))
            self._measure_in(self._imported)
            self.measure()
        self._offer()

    def _regions(self) -> Sequence[NamedRegion] | None:
        from napari_wsiseg.regions import named

        if self._place is _WHOLE:
            return None
        if self._imported is not None and self._place is self._imported:
            return _with_all(self._imported.regions)
        outlines = self.outlines()
        if not outlines:
            raise JobError(
                "There is no closed shape in the Shapes layer; draw one, or measure in the whole "
                "tissue."
            )
        return _with_all(named(outlines))

    def _on_cleanup(self, cleanup: Cleanup) -> None:
        if self._results.current is not None:
            self._cleanups[self._results.current] = cleanup
            self.measure()

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        if self.tables and clipboard is not None:
            clipboard.setText(as_tsv(self.tables))


def _with_all(regions: Sequence[NamedRegion]) -> list[NamedRegion]:
    """The regions, after what they cover together."""
    import shapely

    from napari_wsiseg.regions import NamedRegion as Named
    from napari_wsiseg.regions.shapes import areas_of

    if len(regions) == 1:
        return list(regions)
    together = areas_of(shapely.union_all([region.shape for region in regions]))
    return [Named("All together", None, together), *regions]


def _slide_of(layers: ResultLayers) -> object:
    """What the slide of a result is known by."""
    return layers.pm.info.identity.get("slide")


def _origin(layers: ResultLayers) -> Any:
    """Where QuPath has its origin on the slide."""
    from napari_wsiseg.geometry import YX

    bounds = layers.pm.slide_bounds
    return YX(0.0, 0.0) if bounds is None else YX(float(bounds.top), float(bounds.left))
