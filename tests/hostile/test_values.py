"""Jobs and specs are made of whatever a file or a script holds: an object, or a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_wsiseg as ws
from napari_wsiseg.errors import WsisegError
from napari_wsiseg.models.stains import StainVectors

FIELDS: dict[Any, list[str]] = {
    ws.SegmentationJob: list(ws.SegmentationJob.model_fields),
    ws.ModelSpec: list(ws.ModelSpec.__dataclass_fields__),
}
SOUND: dict[Any, dict[str, Any]] = {
    ws.SegmentationJob: {},
    ws.ModelSpec: {"name": "m", "classes": ("A", "B"), "resolution": "0.5 mpp"},
}
ERRORS: dict[Any, type[WsisegError]] = {
    ws.SegmentationJob: ws.JobError,
    ws.ModelSpec: ws.ModelError,
}
TEXTS = (
    *(
        "auto",
        "none",
        "0.5 mpp",
        "20x",
        "1e999 mpp",
        "nan mpp",
        "level 99999999999999999999",
        "-1x",
    ),
    *("2 GB", "9" * 5000, "9" * 5000 + " GB", "\ud800", "\0", "a\nb", "#112233", ""),
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.binary(max_size=4), st.sampled_from(TEXTS),
    # Longer numbers than Python writes.
    st.integers(4300, 5000).map(lambda digits: 10**digits),
    st.sampled_from([Path("a"), object(), np.float64("nan"), 1j]), st.builds(np.zeros, st.just(3)),
)  # fmt: skip
NAMES = st.sampled_from(["top", "left", "height", "width", "size", "mpp"]) | st.text(max_size=4)
VALUES = st.recursive(
    LEAVES,
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.tuples(parts, parts)
        | st.dictionaries(NAMES, parts, max_size=4)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", FIELDS)
@given(data=st.data(), begun=st.booleans())
@settings(max_examples=150, deadline=None)
def test_anything_makes_an_object_or_a_sentence(
    kind: Any, data: st.DataObject, begun: bool
) -> None:
    names = st.sampled_from(FIELDS[kind])
    values = data.draw(st.dictionaries(names, VALUES, max_size=3))
    told = ""
    try:
        kind(**{**(SOUND[kind] if begun else {}), **values})
    except ERRORS[kind] as error:
        told = str(error)
    assert "\n" not in told
    assert len(told) < 2000


def test_a_resolution_too() -> None:
    for value in ("9" * 5000, None, 0.5, object()):
        with pytest.raises(ws.JobError, match="is not a resolution") as caught:
            ws.Resolution.parse(value)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 300


def test_a_number_of_thousands_of_digits_is_refused_in_a_sentence(tmp_path):
    """Python prints none, not even in an error."""
    path = tmp_path / "a.yaml"
    number = f"0x{'f' * 9000}"
    path.write_text(f"first: [{number}, 1, 1]\nsecond: [1, 1, 1]\n")
    with pytest.raises(ws.WsisegError, match="first cannot be that list; give red"):
        StainVectors.from_yaml(path)
    path.write_text(f"batch_size: {number}\n")
    with pytest.raises(ws.WsisegError, match="batch_size"):
        ws.SegmentationJob.from_yaml(path)


def test_a_size_of_hundreds_of_digits_is_none():
    with pytest.raises(ws.JobError, match="is not a size in bytes"):
        ws.SegmentationJob(memory_limit="9" * 400 + " GB")
