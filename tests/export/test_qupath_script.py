"""The script for QuPath: its numbers and strings. There is no QuPath here to run it."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maps import SIGMOID, SOFTMAX, map_of
from napari_wsiseg.errors import ExportError
from napari_wsiseg.export.qupath_script import (
    check_script,
    quoted,
    script,
    script_path,
    write_script,
)
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import LabelMap
from napari_wsiseg.notice import RESEARCH_USE


def map_with(spec=SOFTMAX, **options):
    return map_of(np.ones((len(spec.classes), 20, 30)), spec, downsample=YX(2.5, 4.0), **options)


def request_of(pm, codes=(1, 2), names=None, origin="slide"):
    names = names or {code: pm.classes[code - 1] for code in codes}
    return ExportRequest(LabelMap(pm), codes, names, origin)


def value(text, name):
    """What a line of the script sets `name` to; its lists and numbers are Python's too."""
    (found,) = re.findall(rf"^(?:def|double) {name} = (.*?)d?$", text, re.MULTILINE)
    return ast.literal_eval(found)


def classes(text):
    (found,) = re.findall(r"^def classes = (\[\n.*?^\])", text, re.MULTILINE | re.DOTALL)
    return ast.literal_eval(found.replace(r"\$", "$"))


def test_the_numbers_are_those_of_the_map(monkeypatch):
    with map_with() as pm:
        text = script(request_of(pm), "slide.ome.tif")
        assert value(text, "scanned") == [0, 0, 120, 50]
        monkeypatch.setattr(type(pm), "slide_bounds", Region(7, 9, Size(40, 100)))
        for origin in ("slide", "bounds"):
            text = script(request_of(pm, origin=origin), "slide.ome.tif")
            # x, y, width, height: QuPath's order.
            assert value(text, "scanned") == [9, 7, 100, 40]
    assert value(text, "labelImage") == "slide.ome.tif"
    assert (value(text, "scaleX"), value(text, "scaleY")) == (4.0, 2.5)
    assert value(text, "slide") == [120, 50]
    colors = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in SOFTMAX.class_colors]
    assert classes(text) == [["Tumour", 0, 1, colors[0]], ["Stroma", 0, 2, colors[1]]]


def test_classes_that_overlap_are_read_from_their_channels():
    with map_with(SIGMOID) as pm:
        found = classes(script(request_of(pm), "a.ome.tif"))
        assert [entry[:3] for entry in found] == [["Nuclei", 0, 1], ["Glands", 1, 2]]
        # Of one class the file has one channel.
        (only,) = classes(script(request_of(pm, codes=(2,)), "a.ome.tif"))
        assert only[:3] == ["Glands", 0, 2]


def test_it_says_what_it_is_for():
    with map_with() as pm:
        text = script(request_of(pm), "a.ome.tif")
    assert RESEARCH_USE in text.split("*/")[0]
    assert "${" not in text
    assert text.isascii()


def test_names_cannot_leave_their_strings():
    nasty = {1: "It's $HOME \\u0041 \\", 2: "'] // µm² \n end"}
    with map_with() as pm:
        text = script(request_of(pm, names=nasty), "a'$b.ome.tif")
    assert [entry[0] for entry in classes(text)] == [nasty[1], "'] // µm²   end"]
    assert r"def labelImage = 'a\'\$b.ome.tif'" in text


def groovy_string(literal):
    """What Groovy makes of a string in single quotes."""
    assert re.fullmatch(r"'(?:[^'\\$\n]|\\['\\$]|\\u[0-9a-f]{4})*'", literal)
    units = re.sub(
        r"\\u([0-9a-f]{4})|\\(.)",
        lambda match: chr(int(match[1], 16)) if match[1] else match[2],
        literal[1:-1],
    )
    return units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_printable_text_comes_back(text):
    literal = quoted(text)
    assert literal.isascii()
    assert "\n" not in literal
    expected = "".join(letter if letter.isprintable() else " " for letter in text)
    assert groovy_string(literal) == expected


@pytest.mark.parametrize(
    ("tiff", "name"),
    [
        ("slide.ome.tif", "slide.groovy"),
        ("slide.OME.TIFF", "slide.groovy"),
        ("a.b.tif", "a.b.groovy"),
    ],
)
def test_it_lies_beside_its_image(tmp_path, tiff, name):
    assert script_path(tmp_path / tiff) == tmp_path / name


def test_it_is_written_whole_and_replaces_only_its_like(tmp_path):
    target = tmp_path / "slide.ome.tif"
    with map_with() as pm:
        for request in (request_of(pm), request_of(pm, codes=(2,))):
            check_script(target)
            path = write_script(request, target)
            assert path.read_text(encoding="ascii") == script(request, target.name)
    assert [file.name for file in tmp_path.iterdir()] == ["slide.groovy"]
    path.write_bytes(b"\xff mine")
    with pytest.raises(ExportError, match=r"slide\.groovy is there"):
        check_script(target)
    path.unlink()
    path.mkdir()
    with pytest.raises(ExportError, match=r"slide\.groovy is there"):
        check_script(target)


def test_a_background_is_not_imported():
    spec = replace(SOFTMAX, background=2)
    with map_with(spec) as pm:
        names = [entry[0] for entry in classes(script(request_of(pm), "a.ome.tif"))]
    assert names == ["Tumour", "Stroma"]
