"""`python -m napari_wsiseg._napari`: the window with the panel, and with what was named."""

from __future__ import annotations

import socket
from typing import Any

import napari
import pytest

from gui.dock_driver import PATIENCE
from napari_wsiseg._napari.__main__ import main


@pytest.fixture
def asked(monkeypatch) -> list[Any]:
    """The other machines that Python looks up or connects to meanwhile."""
    addresses: list[Any] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def watched_connect(own: socket.socket, address: Any) -> None:
        # Windows makes pairs of sockets that way.
        if own.family in (socket.AF_INET, socket.AF_INET6) and address[0] != "127.0.0.1":
            addresses.append(address)
        connect(own, address)

    def watched_look_up(*arguments: Any, **options: Any) -> Any:
        addresses.append(arguments)
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", watched_connect)
    monkeypatch.setattr(socket, "getaddrinfo", watched_look_up)
    return addresses


# napari ignores it where it makes colours; a worker that ends just then undoes that, as Python's
# filters are the whole process's.
@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")
def test_slides_and_results_open_beside_the_panel(
    make_napari_viewer, qtbot, monkeypatch, told, result, make_slide, asked
) -> None:
    viewer = make_napari_viewer()
    monkeypatch.setattr(napari, "Viewer", lambda: viewer)
    seen: list[str] = []

    def look() -> None:
        """As long as the window would be there."""
        qtbot.waitUntil(
            lambda: {"case", "other"} <= {x.name for x in viewer.layers}, timeout=PATIENCE
        )
        seen.extend(viewer.window.dock_widgets)

    monkeypatch.setattr(napari, "run", look)
    bad = result.with_name("bad.svs")
    bad.write_text("bad")
    assert main([str(bad), str(result), str(make_slide("other.svs"))]) == 0
    assert any("Segment slide" in name for name in seen)
    assert any(x.name.endswith("classes") for x in viewer.layers)
    assert [text for severity, text in told if severity == "error" and "bad.svs" in text]
    assert asked == []
