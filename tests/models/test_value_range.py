"""The quick look at an answer's range sees all that the plain one sees."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.models.place import value_range

FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 1.0000001, -1e-45, np.nan, np.inf])


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_range(given_values: list[float]) -> None:
    values = np.array(given_values, np.float32)
    low, high = value_range(values)
    least, greatest = float(values.min()), float(values.max())
    np.testing.assert_array_equal(high, greatest)
    # Within 0..1 the least is not asked for.
    np.testing.assert_array_equal(low, 0.0 if least >= 0 and greatest <= 1 else least)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_probabilities_need_no_second_look(given_values: list[float]) -> None:
    values = np.array(given_values, np.float32)
    assert value_range(values) == (0.0, float(values.max()))
