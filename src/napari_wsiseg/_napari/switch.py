"""`Switch`: stops what runs in another thread, or holds it. No Qt."""

from __future__ import annotations

import threading


class Switch:
    """Stops a run at its next batch, or holds it there; used from any thread."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._go = threading.Event()
        self._go.set()

    def stop(self) -> None:
        """Stop, also where it is held."""
        self._stopped.set()
        self._go.set()

    def hold(self) -> None:
        """Hold until `go` or `stop`."""
        self._go.clear()
        # Stopped before, or meanwhile: it must not wait.
        if self._stopped.is_set():
            self._go.set()

    def go(self) -> None:
        """Go on."""
        self._go.set()

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped.is_set()

    @property
    def is_held(self) -> bool:
        """Whether it is held."""
        return not self._go.is_set()

    def passes(self) -> bool:
        """Wait while it is held; whether it may go on."""
        self._go.wait()
        return not self.is_stopped
