"""The dock can be read and used: names for screen readers, room at 350 px, large fonts, themes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollBar,
    QWidget,
)
from superqt import QCollapsible

import napari_wsiseg as ws
from maps import map_of
from napari_wsiseg._napari.area_words import summary_words
from napari_wsiseg._napari.dock import SegmentDock
from napari_wsiseg._napari.sections.parts import Line, warn
from napari_wsiseg.notice import RESEARCH_USE

CONTROLS = (
    QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QProgressBar
)  # fmt: skip
NARROW = 350
FONTS = (1.0, 1.5)
LONG = "fcn_resnet50_unet-bcss"


@pytest.fixture
def dock(make_napari_viewer, qtbot) -> Iterator[SegmentDock]:
    """The dock in a window, with all there is to see: unfolded, a result with many classes."""
    viewer = make_napari_viewer(show=True)
    made = SegmentDock(viewer)
    held = viewer.window.add_dock_widget(made, name="Segment slide")
    held.setFixedWidth(NARROW)
    yield made
    made.close_all()


def fill(dock: SegmentDock) -> None:
    """Show what every section may have to show, at its longest."""
    spec = ws.models()[LONG]
    values = np.full((len(spec.classes), 16, 16), 1 / len(spec.classes))
    with map_of(values, spec) as result:
        areas = ws.measure(result)
    dock.model_section.show_spec(spec)
    dock.model_section.show_state("Not here.", needs_weights=True, can_download=True)
    dock.model_section.show_warning("It may not suit the slide.")
    dock.slide_section.ask_mpp.show()
    dock.slide_section.default.show()
    dock.where_section.show_where("shapes")
    dock.where_section.file.show()
    dock.run_section.show_running()
    dock.run_section.show_state("Row 3 of 12 · 210 of 900 patches · 31 patches/s · 0:22 left")
    section = dock.result_section
    section.show_results([(f"S21-04567_HE_{i} · {spec.name} (cancelled)", i) for i in range(9)], 1)
    section.show_spec(spec, ws.DecisionRule(), [])
    section.show_areas(areas, [summary_words(areas)])
    section.show_cursor(" · ".join(f"{name} 0.20" for name in spec.classes))
    section.show_beside(possible=True, on=False)
    section.show_corrected(possible=True, on=False)
    dock.export_section.show_progress("outlining", 0.4)
    dock.export_section.show_correcting(correcting=True, text="Paint.")
    dock.export_section.correct.show()
    for fold in dock.findChildren(QCollapsible):
        fold.expand()


def shown(dock: SegmentDock, *kinds: type[QWidget]) -> list[QWidget]:
    """What can be seen of these kinds, without the parts that Qt makes controls of."""
    own = (QAbstractSpinBox, QComboBox, QScrollBar)
    return [
        widget
        for kind in kinds
        for widget in dock.findChildren(kind)
        if widget.isVisibleTo(dock)
        and not isinstance(widget, QScrollBar)
        and not isinstance(widget.parent(), own)
        and "scrollbar" not in widget.parent().objectName()
    ]


def name_of(widget: QWidget) -> str:
    """What a screen reader says: the name, else a button's own text."""
    return widget.accessibleName() or (
        widget.text() if isinstance(widget, (QPushButton, QCheckBox)) else ""
    )


def test_every_control_has_a_name(dock) -> None:
    fill(dock)
    controls = shown(dock, *CONTROLS)
    assert len(controls) > 50
    unnamed = [w for w in controls if not name_of(w)]
    assert [(type(w).__name__, w.parent().accessibleName()) for w in unnamed] == []


def test_names_tell_controls_of_a_section_apart(dock) -> None:
    fill(dock)
    for section in (dock.result_section, dock.export_section, dock.slide_section):
        names = [name_of(w) for w in section.findChildren(QWidget) if isinstance(w, CONTROLS)]
        names = [name for name in names if name]
        assert sorted(set(names)) == sorted(names)


@pytest.fixture
def font(qtbot) -> Callable[[float], None]:
    """Set napari's font to a multiple of its usual size."""
    usual = get_settings().appearance.font_size

    def change(factor: float) -> None:
        get_settings().appearance.font_size = round(usual * factor)

    return change


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("factor", FONTS)
def test_nothing_is_wider_than_the_dock(dock, qtbot, font, factor, theme) -> None:
    get_settings().appearance.theme = theme
    font(factor)
    fill(dock)
    held = dock.column
    qtbot.waitUntil(lambda: held.width() <= NARROW and _is_laid_out(dock))
    needed = held.layout().minimumSize().width()
    assert needed <= held.width()
    edge = held.width()
    beyond = [
        (type(w).__name__, name_of(w))
        for w in shown(dock, *CONTROLS, QLabel)
        if held.isAncestorOf(w) and w.mapTo(held, w.rect().topRight()).x() > edge
    ]
    assert beyond == []


@pytest.mark.parametrize("factor", FONTS)
def test_buttons_show_their_whole_text(dock, qtbot, font, factor) -> None:
    font(factor)
    fill(dock)
    qtbot.waitUntil(lambda: _is_laid_out(dock))
    cut = [
        (w.text(), w.width())
        for w in shown(dock, QPushButton)
        if w.fontMetrics().horizontalAdvance(w.text()) > w.width()
    ]
    assert cut == []


@pytest.mark.parametrize("factor", FONTS)
def test_texts_are_as_high_as_they_need(dock, qtbot, font, factor) -> None:
    font(factor)
    fill(dock)
    qtbot.waitUntil(lambda: _is_laid_out(dock))
    cut = [
        (w.text(), w.height())
        for w in shown(dock, QLabel)
        if w.text() and w.wordWrap() and w.height() < w.heightForWidth(w.width())
    ]
    assert cut == []


def _is_laid_out(dock: SegmentDock) -> bool:
    """Whether no line of it would rather lie the other way, and nothing waits to be moved."""
    held = dock.column
    return held.height() >= held.layout().totalHeightForWidth(held.width())


def test_a_line_stacks_where_there_is_no_room(qtbot) -> None:
    parts = [QPushButton(f"A long text of a button {i}") for i in range(2)]
    line = Line(*parts, stretch=None)
    qtbot.addWidget(line)
    line.resize(600, 40)
    line.show()
    qtbot.waitUntil(lambda: parts[0].y() == parts[1].y() and parts[0].x() < parts[1].x())
    assert parts[0].width() == pytest.approx(parts[1].width(), abs=1)
    line.resize(200, 80)
    qtbot.waitUntil(lambda: parts[0].y() < parts[1].y() and parts[0].x() == parts[1].x())
    parts[1].hide()
    qtbot.waitUntil(lambda: parts[0].width() == 200)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_colours_are_the_theme_s(dock, qtbot, theme) -> None:
    get_settings().appearance.theme = theme
    fill(dock)
    ground = get_theme(theme).background.as_rgb_tuple()[:3]
    picture = dock.column.grab().toImage()
    # Between sections there is nothing but ground.
    corner = picture.pixelColor(1, 1)
    assert (corner.red(), corner.green(), corner.blue()) == tuple(int(v) for v in ground)


def test_nothing_sets_a_colour_of_its_own(dock) -> None:
    fill(dock)
    styled = [w for w in dock.findChildren(QWidget) if "color" in w.styleSheet()]
    assert styled == []


def test_states_are_told_in_words(dock) -> None:
    label = QLabel()
    warn(label, "Patch 3 could not be read.")
    assert label.text() == "⚠ Patch 3 could not be read."
    dock.run_section.show_paused(paused=True)
    assert dock.run_section.pause.text() == "Resume"
    dock.run_section.show_paused(paused=False)
    assert dock.run_section.pause.text() == "Pause"


def test_a_fold_says_whether_it_is_open(dock, qtbot) -> None:
    fold = dock.advanced_section.fold
    assert fold.text().startswith("▸")
    qtbot.mouseClick(fold.toggleButton(), Qt.MouseButton.LeftButton)
    assert fold.text().startswith("▾")
    assert dock.advanced_section.device.native.isVisibleTo(dock)
    qtbot.mouseClick(fold.toggleButton(), Qt.MouseButton.LeftButton)
    assert fold.text().startswith("▸")


def test_the_research_use_sentence_is_always_there(dock) -> None:
    (notice,) = [w for w in dock.findChildren(QLabel) if w.accessibleName() == "Research use only"]
    assert RESEARCH_USE in notice.text()
    assert not dock.column.isAncestorOf(notice)
