"""How far something is, as a bar."""

from __future__ import annotations

from qtpy.QtWidgets import QProgressBar


class ProgressBar(QProgressBar):
    """Painted with the rest of the window.

    Qt's own paints itself each time it is set, and over a canvas that is the whole window:
    45 ms without graphics hardware.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)

    def show_part(self, done: int, total: int) -> None:
        """So many of so many; full where there is nothing to do."""
        self.setUpdatesEnabled(False)
        self.setRange(0, max(total, 1))
        self.setValue(done if total else 1)
        self.setUpdatesEnabled(True)
