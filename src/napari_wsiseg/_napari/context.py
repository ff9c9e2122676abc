"""What the parts of the dock share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari import Viewer

    from napari_wsiseg._napari.background import Background
    from napari_wsiseg._napari.panel import PanelModel


@dataclass(frozen=True)
class Context:
    """What the parts of the dock share.

    Parameters
    ----------
    viewer
        The window that the dock is in.
    panel
        What the user has chosen.
    background
        For what takes time.
    """

    viewer: Viewer
    panel: PanelModel
    background: Background
