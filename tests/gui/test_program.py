"""`python -m napari_wsiseg._napari`: the window with the panel, and with what was named."""

from __future__ import annotations

import napari
import pytest

from napari_wsiseg._napari.__main__ import main


# napari ignores it where it makes colours; a worker that ends just then undoes that, as Python's
# filters are the whole process's.
@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")
def test_slides_and_results_open_beside_the_panel(
    make_napari_viewer, qtbot, monkeypatch, told, result, make_slide
) -> None:
    viewer = make_napari_viewer()
    monkeypatch.setattr(napari, "Viewer", lambda: viewer)
    seen: list[str] = []

    def look() -> None:
        """As long as the window would be there."""
        qtbot.waitUntil(lambda: {"case", "other"} <= {x.name for x in viewer.layers}, timeout=30000)
        seen.extend(viewer.window.dock_widgets)

    monkeypatch.setattr(napari, "run", look)
    bad = result.with_name("bad.svs")
    bad.write_text("bad")
    assert main([str(bad), str(result), str(make_slide("other.svs"))]) == 0
    assert any("Segment slide" in name for name in seen)
    assert any(x.name.endswith("classes") for x in viewer.layers)
    assert [text for severity, text in told if severity == "error" and "bad.svs" in text]
