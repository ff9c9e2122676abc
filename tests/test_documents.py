"""Files of others are read as far as is sensible, and take no more memory than they hold."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from napari_wsiseg.documents import LARGEST_JSON, UnreadableError, read_bounded, read_yaml


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_bytes(b"{}")
    tracemalloc.start()
    try:
        assert read_bounded(path, LARGEST_JSON) == b"{}"
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 200_000])
def test_the_bound_is_kept_to_the_byte(tmp_path: Path, most: int) -> None:
    path = tmp_path / "file"
    data = bytes(range(256)) * (most // 256 + 1)
    path.write_bytes(data[:most])
    assert read_bounded(path, most) == data[:most]
    path.write_bytes(data[: most + 1])
    with pytest.raises(UnreadableError, match="the most that is read"):
        read_bounded(path, most)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 1", "a: {b: 1, 'b': 2}", "a: [{b: 1, b: 1}]"])
def test_a_field_that_is_said_twice_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(UnreadableError, match=r"it says '[ab]' twice"):
        read_yaml(path)


def test_a_set_that_is_a_list_is_refused_in_yamls_words(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("a: !!set [1, 2]")
    with pytest.raises(UnreadableError, match="expected a mapping node"):
        read_yaml(path)
