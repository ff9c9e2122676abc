"""The overlay: what it shows, what it says, and what it leaves when it fails."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import napari_wsiseg as ws
from maps import SOFTMAX, map_of
from napari_wsiseg.errors import ExportError
from napari_wsiseg.export import write_overlay
from napari_wsiseg.geometry import YX
from napari_wsiseg.labels import DecisionRule
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.spec import ModelSpec

INK = (0x22, 0x22, 0x22)


@pytest.fixture
def slide():
    """Grey on the left, coloured on the right; 400 wide, 200 high."""
    pixels = np.full((200, 400, 3), 180, np.uint8)
    pixels[:, 200:] = (200, 120, 160)
    with ws.open_slide(pixels) as opened:
        yield opened


def halves(slide, spec=SOFTMAX, **options):
    """A map of the slide: its left half is surely of class 0, its right half not covered."""
    probabilities = np.zeros((len(spec.classes), 200, 400))
    probabilities[0] = 0.9
    covered = np.zeros((200, 400), bool)
    covered[:, :200] = True
    made_from = {"stem": slide.info.stem, "fingerprint": slide.info.fingerprint}
    return map_of(
        probabilities, spec, coverage=covered, chunk=50, provenance={"slide": made_from}, **options
    )


def drawn(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")), dict(image.text)


def longest_bar(pixels):
    """Length of the longest horizontal line of ink."""
    longest = 0
    for row in (pixels == INK).all(2):
        edges = np.flatnonzero(np.diff(row, prepend=False, append=False)).reshape(-1, 2)
        longest = max(longest, *(edges[:, 1] - edges[:, 0]), 0)
    return int(longest)


def test_labels_lie_over_the_slide_where_they_are_and_nowhere_else(slide, tmp_path):
    path = tmp_path / "overlay.png"
    write_overlay(halves(slide), slide, path, size=400)
    pixels, _ = drawn(path)
    left = (pixels.shape[1] - 400) // 2
    picture = pixels[:200, left : left + 400]
    colour = np.array([int(SOFTMAX.class_colors[0][i : i + 2], 16) for i in (1, 3, 5)])
    labelled = picture[20:180, 20:180].reshape(-1, 3).astype(int)
    assert (labelled == labelled[0]).all()
    part = (labelled[0] - 180) / (colour - 180)
    assert part == pytest.approx(part[0], abs=0.01)
    assert 0.3 < part[0] < 0.7
    assert (picture[20:180, 220:380] == (200, 120, 160)).all()


def test_a_threshold_takes_labels_away(slide, tmp_path):
    path = tmp_path / "overlay.png"
    write_overlay(halves(slide), slide, path, DecisionRule({"Tumour": 0.95}), size=400)
    pixels, text = drawn(path)
    left = (pixels.shape[1] - 400) // 2
    assert (pixels[20:180, left + 20 : left + 180] == 180).all()
    assert json.loads(text["napari_wsiseg"])["thresholds"]["Tumour"] == 0.95


def test_a_scale_bar_is_as_long_as_it_says(slide, tmp_path):
    path = tmp_path / "overlay.png"
    # 400 px at 1 µm: 0.12 mm is the most that fits, so 0.1 mm, at 2 drawn px a map px.
    write_overlay(halves(slide, mpp=YX(1.0, 1.0)), slide, path, size=800)
    assert longest_bar(drawn(path)[0][401:]) == pytest.approx(200, abs=2)


def test_without_a_scale_there_is_no_bar(slide, tmp_path):
    path = tmp_path / "overlay.png"
    write_overlay(halves(slide, mpp=None), slide, path, size=800)
    assert longest_bar(drawn(path)[0][401:]) < 40


@pytest.mark.parametrize("size", [200, 400, 1600])
@pytest.mark.parametrize("turned", [False, True], ids=["wide", "high"])
def test_nothing_is_cut_off(tmp_path, size, turned):
    names = ("Tumour with a name as long as they come", "Entzündung", "Class 3 (not declared)")
    spec = ModelSpec("a-model-with-a-long-name", names)
    shape = (900, 60) if turned else (60, 900)
    pm = map_of(np.ones((3, *shape)) / 3, spec, chunk=100)
    path = tmp_path / "overlay.png"
    with ws.open_slide(np.full((*shape, 3), 200, np.uint8)) as slide:
        write_overlay(pm, slide, path, size=size)
    pixels, _ = drawn(path)
    footer = pixels[size if turned else round(60 * size / 900) :][3:]
    # Margins without a drop of ink all round.
    for margin in (footer[:, :6], footer[:, -6:], footer[-4:]):
        assert (margin == 255).all()
    assert (footer == INK).all(2).any()


def test_it_carries_where_it_comes_from_and_no_path(slide, tmp_path):
    path = tmp_path / "overlay.png"
    write_overlay(halves(slide), slide, path)
    _, text = drawn(path)
    values = json.loads(text["napari_wsiseg"])
    assert values["notice"] == RESEARCH_USE
    assert values["result"]["slide"]["fingerprint"] == slide.info.fingerprint
    assert values["thresholds"] == {"Tumour": 0, "Stroma": 0, "Other": 0}
    assert values["mpp_source"] == "metadata"
    assert str(tmp_path) not in "".join(text.values())


class TestBadTargets:
    def test_what_is_there_is_kept_unless_asked(self, slide, tmp_path):
        path = tmp_path / "overlay.png"
        path.write_bytes(b"mine")
        with pytest.raises(ExportError, match="is there already"):
            write_overlay(halves(slide), slide, path)
        assert path.read_bytes() == b"mine"
        write_overlay(halves(slide), slide, path, overwrite=True)
        assert drawn(path)[0].shape[1] == 1600

    def test_a_folder_and_no_folder(self, slide, tmp_path):
        for path in (tmp_path, tmp_path / "nowhere" / "overlay.png"):
            with pytest.raises(ExportError, match="folder"):
                write_overlay(halves(slide), slide, path, overwrite=True)
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_leaves_nothing_new(self, slide, tmp_path):
        resource = pytest.importorskip("resource", reason="only POSIX limits a file's size")
        path, pm = tmp_path / "overlay.png", halves(slide)
        path.write_bytes(b"mine")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(ExportError, match="cannot be written"):
                write_overlay(pm, slide, path, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
            ("overlay.png", b"mine")
        ]

    def test_another_slide(self, slide, tmp_path):
        pm = halves(slide)
        with (
            ws.open_slide(np.zeros((200, 400, 3), np.uint8)) as other,
            pytest.raises(ExportError, match="is not the slide that the result was made from"),
        ):
            write_overlay(pm, other, tmp_path / "overlay.png")
