"""The slide: which one, what is known of it, and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QLabel, QWidget

from napari_wsiseg._napari.panel import Stain
from napari_wsiseg._napari.sections.parts import (
    Choice,
    Line,
    Section,
    button,
    named,
    note,
    say,
)
from napari_wsiseg.words import SCALE_SOURCES, in_mpp

if TYPE_CHECKING:
    from napari_wsiseg.slides import SlideInfo

# What OpenSlide and we call formats, as their makers do.
_FORMATS = {
    "aperio": "Aperio",
    "array": "Image layer",
    "dicom": "DICOM",
    "generic-tiff": "TIFF",
    "hamamatsu": "Hamamatsu",
    "jpeg": "JPEG",
    "leica": "Leica",
    "mirax": "3DHISTECH MIRAX",
    "ome-tiff": "OME-TIFF",
    "ome-zarr": "OME-Zarr",
    "philips": "Philips",
    "png": "PNG",
    "sakura": "Sakura",
    "tiff": "TIFF",
    "trestle": "Trestle",
    "ventana": "Ventana",
    "zeiss": "Zeiss",
}
_STAIN_NAMES = {"H&E": "H&E", "H-DAB": "H-DAB (IHC)", "other": "Other"}


class SlideSection(Section):
    """Shows the slides of the window.

    Signals: `open_asked`, `folder_asked`, `default_asked`; `layer_chosen` with a layer;
    `mpp_given` with µm per pixel; `stain_chosen` with a `Stain`.
    """

    open_asked = Signal()
    folder_asked = Signal()
    layer_chosen = Signal(object)
    mpp_given = Signal(float)
    stain_chosen = Signal(object)
    default_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("1  Slide", parent)
        self.layers = Choice("Slide", "The slide to segment: any RGB image that is open.")
        self.layers.chosen.connect(self.layer_chosen)
        self.open = button(
            "Open slide ...",
            "Open a whole slide image: SVS, NDPI, MRXS, SCN, BIF, DICOM, TIFF ...",
            self.open_asked.emit,
        )
        self.open_folder = button(
            "Open folder ...",
            "Open a slide that is a folder: OME-Zarr, DICOM.",
            self.folder_asked.emit,
        )
        self.rows.addWidget(self.layers)
        self.rows.addWidget(Line(self.open, self.open_folder, stretch=None))
        self.about = note(name="About the slide")
        self.rows.addWidget(self.about)
        self._add_mpp()
        self._add_stain()
        self.default = button(
            "Always open slides this way",
            "Then a slide scanner's file that you drop opens with this plugin, without a question. "
            "Not .tif and .zarr: other things are called so too.",
            self.default_asked.emit,
        )
        self.default.hide()
        self.rows.addWidget(self.default)

    def _add_mpp(self) -> None:
        self.mpp = QDoubleSpinBox()
        self.mpp.setDecimals(4)
        self.mpp.setRange(0.01, 100)
        self.mpp.setSingleStep(0.05)
        self.mpp.setValue(0.5)
        named(
            self.mpp,
            "µm per pixel of the slide",
            "Width of a pixel at full size, from the scanner: about 0.25 at 40x, 0.5 at 20x.",
        )
        give = button(
            "Set", "Use this scale for areas and resolutions.", self._give_mpp, "Set µm per pixel"
        )
        self.give = give
        ask = QLabel("µm per pixel?")
        self.ask_mpp = Line(ask, self.mpp, give, stretch=1)
        self.ask_mpp.hide()
        self.rows.addWidget(self.ask_mpp)

    def _add_stain(self) -> None:
        self.stain = Choice(
            "Stain", "How the slide is stained: a guess from its colours, or what the settings say."
        )
        self.stain.offer([(_STAIN_NAMES[s], s) for s in get_args(Stain)], None, "not known yet")
        self.stain.chosen.connect(self.stain_chosen)
        self.row(QLabel("Stain"), self.stain, stretch=1)

    def _give_mpp(self) -> None:
        self.mpp.interpretText()
        self.mpp_given.emit(self.mpp.value())

    def show_layers(self, layers: Sequence[tuple[str, object]], current: object) -> None:
        """Offer these layers."""
        self.layers.offer(layers, current, "No slide is open")
        self.layers.setEnabled(bool(layers))

    def show_info(self, info: SlideInfo | None, state: str = "") -> None:
        """Tell of the slide; None: of `state`, such as "Opening ..."."""
        # One that was given may have been mistyped.
        is_users = info is not None and info.mpp_source in (None, "user")
        self.ask_mpp.setVisible(is_users)
        if info is not None and info.mpp is not None and is_users:
            self.mpp.setValue(info.mpp.x)
        say(self.about, state if info is None else _about(info))


def _about(info: SlideInfo) -> str:
    kind = _FORMATS.get(info.vendor, info.vendor)
    objective = "" if info.objective_power is None else f", {info.objective_power:g}x objective"
    lines = [f"{kind}, {info.size.width} x {info.size.height} px (width x height){objective}"]
    if info.mpp is None or info.mpp_source is None:
        lines.append(
            "The file does not say how large a pixel is. Without it areas are in pixels, not in "
            "mm², and a trained model does not find its resolution."
        )
    else:
        lines.append(f"{in_mpp(info.mpp)}, {SCALE_SOURCES[info.mpp_source]}")
    return "\n".join(lines)
