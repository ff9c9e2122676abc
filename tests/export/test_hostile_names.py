"""Class names that are code elsewhere are read back as names, by readers that are not ours."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tifffile import TiffFile, xml2dict

import napari_wsiseg as ws
from maps import map_of
from napari_wsiseg.spec import ModelSpec

NAMES = (
    "DAB'); DROP TABLE annotations; --",
    '<script>alert("1")</script> &amp; ]]>',
    "=cmd|' /C calc'!A0",
)


def texts(value: Any) -> Iterator[str]:
    """Every text of a document, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts(part)


def in_geojson(path: Path) -> Iterator[str]:
    return texts(json.loads(path.read_bytes()))


def in_csv(path: Path) -> Iterator[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return texts(list(csv.reader(line for line in file if not line.startswith("#"))))


def in_annotation_store(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as store:
        rows = store.execute("SELECT properties FROM annotations").fetchall()
    return texts([json.loads(properties) for (properties,) in rows])


def in_ome_tiff(path: Path) -> Iterator[str]:
    with TiffFile(path) as file:
        description = file.ome_metadata
    assert description is not None
    parsed = list(texts(xml2dict(description)))
    # Names may stand in JSON within the XML.
    for text in parsed:
        yield text
        with suppress(ValueError):
            yield from texts(json.loads(text))


def in_ome_zarr(path: Path) -> Iterator[str]:
    return texts([json.loads(file.read_bytes()) for file in path.rglob("zarr.json")])


@pytest.mark.parametrize(
    ("name", "kind", "read"),
    [
        ("a.geojson", "geojson", in_geojson),
        ("a.csv", "csv", in_csv),
        ("a.db", "annotation-store", in_annotation_store),
        ("a.ome.tif", "ome-tiff", in_ome_tiff),
        ("a.ome.zarr", "ome-zarr", in_ome_zarr),
    ],
)
def test_names_come_back_as_they_are(tmp_path: Path, name: str, kind: str, read: Any) -> None:
    probabilities = np.zeros((3, 48, 48), np.float32)
    for index in range(3):
        probabilities[index, 16 * index : 16 * (index + 1)] = 1
    result = map_of(probabilities, ModelSpec("m", NAMES), path=tmp_path / "result.ome.zarr")
    ws.export(result, tmp_path / name, format=kind)
    found = set(read(tmp_path / name))
    # A spreadsheet would run a cell that begins like a formula.
    missing = [n for n in NAMES if n not in found and f"'{n}" not in found]
    assert not missing, sorted(found)[:40]
