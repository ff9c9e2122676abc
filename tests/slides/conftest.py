from __future__ import annotations

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from napari_wsiseg.slides import display_cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv(display_cache.VARIABLE, str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def micrograph() -> np.ndarray:
    """(500, 431, 3) uint8 of a real stained section: odd sides, no symmetry."""
    return np.ascontiguousarray(immunohistochemistry()[:500, :431])
