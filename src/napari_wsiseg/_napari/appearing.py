"""Layers of a run appear in the window a part a turn of its loop, so that it stays usable.

Measured without graphics hardware: napari takes 0.1 to 0.2 s to add a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

from napari_wsiseg._napari.result_layers import ResultLayers

if TYPE_CHECKING:
    from napari import Viewer
    from napari.components import LayerList

_NEXT_TURN_MS = 50
_REST_MS = 700
_SELECT_WHAT_IS_ADDED = "_activate_on_insert"


class Appearing(QObject):
    """Signal: `appeared` when a run's labels are there.

    Their scores, hidden at first, come when the user's hand rests, or when they are needed.

    Parameters
    ----------
    viewer
        The window.
    choose
        Makes a result the one that is looked at.
    parent
        Owns this.
    """

    appeared = Signal()

    def __init__(
        self, viewer: Viewer, choose: Callable[[ResultLayers], None], parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._choose = viewer, choose
        self._turns: dict[ResultLayers, Iterator[None]] = {}
        self._without_scores: list[ResultLayers] = []
        self._next_turn = _timer(self, _NEXT_TURN_MS, self._go_on)
        self._resting = _timer(self, _REST_MS, self.finish)
        camera = viewer.scene.camera.events
        self._moves = (camera.center, camera.zoom)
        for moved in self._moves:
            moved.connect(self._on_move)

    def start(self, layers: ResultLayers) -> None:
        """Add labels that nobody sees yet; `appeared` comes, whatever fails.

        What the user has selected stays so.
        """
        self._next_turn.start()
        self._turns[layers] = self._show(layers)
        self._without_scores.append(layers)
        # Not drawn: that has a turn of its own.
        layers.labels.visible = False
        with _selection_kept(self._viewer.layers):
            layers.add_labels_to(self._viewer)

    @property
    def is_done(self) -> bool:
        """Whether all layers of all runs are there."""
        return not self._without_scores

    def is_on_its_way(self, layers: ResultLayers) -> bool:
        """Whether its labels are not looked at yet."""
        return layers in self._turns

    def forget(self, layers: ResultLayers) -> None:
        """It was removed meanwhile."""
        self._turns.pop(layers, None)
        if layers in self._without_scores:
            self._without_scores.remove(layers)

    def finish(self) -> None:
        """Add what waits for rest, now."""
        while self._without_scores:
            layers = self._without_scores.pop(0)
            with _selection_kept(self._viewer.layers):
                layers.add_scores_to(self._viewer)

    def close(self) -> None:
        """Add no more."""
        self._next_turn.stop()
        self._resting.stop()
        for moved in self._moves:
            moved.disconnect(self._on_move)

    def _show(self, layers: ResultLayers) -> Iterator[None]:
        layers.labels.visible = True
        yield
        self._choose(layers)
        yield

    def _go_on(self) -> None:
        try:
            layers = next(iter(self._turns), None)
            if layers is not None and next(self._turns[layers], self) is self:
                del self._turns[layers]
        finally:
            # A run waits for it: also where a turn has failed, which is then its last.
            if self._turns:
                self._next_turn.start()
            else:
                self._resting.start()
                self.appeared.emit()

    def _on_move(self) -> None:
        if self._resting.isActive():
            self._resting.start()


def _timer(parent: QObject, ms: int, act: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(ms)
    timer.timeout.connect(act)
    return timer


@contextmanager
def _selection_kept(layers: LayerList) -> Iterator[None]:
    """Select no layer that is added: it takes napari 0.03 s, and as long to go back."""
    selected = layers.selection.active
    before = getattr(layers, _SELECT_WHAT_IS_ADDED, True)
    setattr(layers, _SELECT_WHAT_IS_ADDED, False)
    try:
        yield
    finally:
        setattr(layers, _SELECT_WHAT_IS_ADDED, before)
    # Where napari has no such switch.
    if layers.selection.active is not selected:
        layers.selection.active = selected
