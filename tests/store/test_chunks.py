"""A chunk has a file where any of its pixels is not 0, whatever its value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.store.chunks import ChunkWriter


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.bool_])
@given(value=st.integers(0, 255), place=st.integers(0, 299), width=st.integers(1, 30))
def test_only_an_empty_chunk_has_no_file(
    dtype: type[np.generic], value: int, place: int, width: int
) -> None:
    wide = np.zeros((10, 30), dtype)
    wide.flat[place] = value
    pixels = wide[:, :width]
    put: dict[str, bytes | None] = {}
    writer = ChunkWriter((), lambda key, data, _rank: put.update({key: data}))
    writer._encode("0", (10, 30), pixels, 0)
    writer.close()
    assert (put["0"] is not None) == bool((pixels != 0).any())
