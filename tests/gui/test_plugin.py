"""napari finds the plugin, and a window opens with the binding under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from npe2 import PluginManager

if TYPE_CHECKING:
    from napari import Viewer


def test_napari_finds_the_manifest() -> None:
    manager = PluginManager()
    manager.discover()
    assert manager.get_manifest("napari-wsiseg").display_name == "WSI segmentation"


def test_a_window_opens_in_the_binding_under_test(
    make_napari_viewer: Callable[..., Viewer], pytestconfig: pytest.Config
) -> None:
    import qtpy

    viewer = make_napari_viewer()
    assert viewer.layers == []
    # tox names the binding; without it, whichever is installed will do.
    assert qtpy.API_NAME.lower() == (pytestconfig.getini("qt_api") or qtpy.API)
