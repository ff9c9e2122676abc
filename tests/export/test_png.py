"""The overlay picture: right places, right words, nothing half-written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maps import SIGMOID, SOFTMAX, map_of
from napari_wsiseg.errors import ExportError, JobError
from napari_wsiseg.export import export
from napari_wsiseg.export.footer import Entry, Footer
from napari_wsiseg.export.png import _scale
from napari_wsiseg.geometry import YX, Size
from napari_wsiseg.labels import Cleanup, DecisionRule
from napari_wsiseg.measure import measure
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.slides import open_slide
from napari_wsiseg.spec import ModelSpec

GREY = 200
INK = (0x22, 0x22, 0x22)


def slide_of(shape=(80, 120)):
    return open_slide(np.full((*shape, 3), GREY, np.uint8))


def quarters(shape=(40, 60)):
    """Tumour top left, Stroma top right, Other bottom left; not covered bottom right."""
    height, width = shape
    values = np.zeros((3, *shape))
    values[0, : height // 2, : width // 2] = 1
    values[1, : height // 2, width // 2 :] = 1
    values[2, height // 2 :] = 1
    covered = np.ones(shape, bool)
    covered[height // 2 :, width // 2 :] = False
    return values, covered


def quarter_map(**options):
    values, covered = quarters()
    return map_of(values, SOFTMAX, coverage=covered, chunk=20, downsample=YX(2.0, 2.0), **options)


def picture(path, shape):
    """The part above the footer."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    left = (pixels.shape[1] - shape[1]) // 2
    return pixels[: shape[0], left : left + shape[1]]


def blended(color, grey=GREY):
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return np.rint((rgb + grey) / 2)


def footer(path, height):
    """The part below the picture and its frame."""
    with Image.open(path) as image:
        return np.asarray(image)[height + 3 :]


def longest_bar(pixels):
    """Length of the longest horizontal line of ink."""
    longest = 0
    for row in (pixels == INK).all(2):
        edges = np.flatnonzero(np.diff(row, prepend=False, append=False)).reshape(-1, 2)
        longest = max(longest, *(edges[:, 1] - edges[:, 0]), 0)
    return int(longest)


@pytest.mark.parametrize("size", [600, 200, 1111])
def test_labels_lie_where_they_belong(tmp_path, size):
    with slide_of() as slide, quarter_map() as pm:
        export(pm, tmp_path / "a.png", "png", slide=slide, size=size)
    found = picture(tmp_path / "a.png", (round(size * 2 / 3), size))
    height, width = found.shape[:2]
    colors = [blended(color) for color in SOFTMAX.class_colors]
    expected = {
        (0.02, 0.02): colors[0],
        (0.48, 0.49): colors[0],
        (0.02, 0.98): colors[1],
        (0.48, 0.51): colors[1],
        (0.52, 0.02): colors[2],
        (0.98, 0.49): colors[2],
        (0.52, 0.52): (GREY,) * 3,
        (0.98, 0.98): (GREY,) * 3,
    }
    for (y, x), color in expected.items():
        np.testing.assert_allclose(found[int(y * height), int(x * width)], color, atol=1)


def test_labels_lie_over_greys_and_the_slide_keeps_its_colours_beside_them(tmp_path):
    pink = (200, 120, 160)
    values, covered = quarters()
    with (
        open_slide(np.full((80, 120, 3), pink, np.uint8)) as slide,
        map_of(values, SOFTMAX, coverage=covered, chunk=20, downsample=YX(2.0, 2.0)) as pm,
    ):
        export(pm, tmp_path / "a.png", "png", slide=slide, size=300)
    found = picture(tmp_path / "a.png", (200, 300))
    labelled = found[20:80, 20:130].reshape(-1, 3)
    assert (labelled == labelled[0]).all()
    np.testing.assert_allclose(labelled[0], blended(SOFTMAX.class_colors[0], 160), atol=1)
    assert (found[120:180, 170:280] == pink).all()


@pytest.mark.parametrize("spot", [(100, 300), (511, 0), (900, 650)])
def test_coarse_levels_lie_where_the_fine_one_does(tmp_path, spot):
    """A map of 3 levels, shown from its coarsest: a spot stays within a pixel of its place."""
    values = np.zeros((2, 1000, 700))
    row, column = spot
    values[0, row : row + 16, column : column + 16] = 1
    with slide_of((1000, 700)) as slide, map_of(values, SIGMOID, chunk=256) as pm:
        assert len(pm.levels) == 3
        export(pm, tmp_path / "a.png", "png", slide=slide, size=250)
    found = picture(tmp_path / "a.png", (250, 175))
    rows, columns = np.nonzero((found != GREY).any(axis=2))
    assert abs(rows.mean() + 0.5 - (row + 8) / 4) < 0.6
    assert abs(columns.mean() + 0.5 - (column + 8) / 4) < 0.6
    assert 9 <= len(rows) <= 25


def test_the_rule_decides(tmp_path):
    rule = DecisionRule(thresholds={"Tumour": 1.0, "Stroma": 1.0}, default=1.0)
    values, _ = quarters()
    with slide_of() as slide, map_of(values * 0.9, SOFTMAX, downsample=YX(2, 2)) as pm:
        export(pm, tmp_path / "a.png", "png", rule, slide=slide, size=300)
    # At its edge an enlarged slide takes in some of the white around it.
    assert (picture(tmp_path / "a.png", (200, 300))[9:-9, 9:-9] == GREY).all()


@pytest.fixture
def words(monkeypatch):
    """What the footer is asked to say."""
    said = []

    def line(self, *sentences, small=False):
        said.append(" ".join(sentences))

    def legend(self, entries):
        said.extend(entries)

    def scale(self, bar, words):
        said.append((None if bar is None else bar[1], words))

    for function in (line, legend, scale):
        monkeypatch.setattr(Footer, function.__name__, function)
    return said


def test_the_legend_is_the_measured_areas(tmp_path, words):
    with slide_of() as slide, quarter_map() as pm:
        export(pm, tmp_path / "a.png", "png", slide=slide, size=300)
        areas = measure(pm)
    assert areas["Tumour"].fraction == pytest.approx(1 / 3)
    colors = SOFTMAX.class_colors
    assert [said for said in words if isinstance(said, Entry)] == [
        Entry("Tumour 33.3 % (0.00015 mm²)", colors[0]),
        Entry("Stroma 33.3 % (0.00015 mm²)", colors[1]),
        Entry("Other 33.3 % (0.00015 mm²)", colors[2]),
        Entry("Unclassified tissue 0.0 % (0 mm²)", None),
    ]
    assert "% of analysed tissue. Not analysed: 25.0 % of all tissue." in words
    assert words[-1] == RESEARCH_USE
    # 30 % of 300 pixels of 0.2 µm (the map has 0.5 µm and half the slide's size).
    assert words[-2] == ("0.005 mm", "(scale from the slide's file)")


def test_without_a_scale_no_bar_is_drawn(tmp_path, words):
    with slide_of() as slide, quarter_map(mpp=None) as pm:
        export(pm, tmp_path / "a.png", "png", slide=slide, size=300)
    assert words[-2] == (None, "Scale unknown")
    assert Entry("Tumour 33.3 %", SOFTMAX.class_colors[0]) in words


def test_the_drawn_bar_is_as_long_as_it_says(tmp_path):
    # 60 map px at 5 µm: 0.09 mm is the most that fits, so 0.05 mm, at 20 drawn px a map px.
    for mpp, drawn in ((YX(9.0, 5.0), 200), (None, 0)):
        with slide_of() as slide, quarter_map(mpp=mpp) as pm:
            export(pm, tmp_path / "a.png", "png", slide=slide, size=1200, overwrite=True)
        bar = longest_bar(footer(tmp_path / "a.png", 800))
        # Letters have strokes too.
        assert bar == pytest.approx(drawn, abs=2) if drawn else bar < 40


def test_nothing_analysed_is_said(tmp_path, words):
    values, covered = quarters()
    nothing = np.zeros_like(covered)
    with slide_of() as slide, map_of(values, SOFTMAX, coverage=nothing, downsample=YX(2, 2)) as pm:
        export(pm, tmp_path / "a.png", "png", slide=slide, size=300)
    assert Entry("Tumour -", SOFTMAX.class_colors[0]) in words
    assert "No tissue was analysed." in words


@given(mpp=st.floats(0.05, 20), factor=st.floats(0.05, 500), width=st.integers(200, 10_000))
def test_the_scale_bar_is_true_round_and_fits(mpp, factor, width):
    class Map:
        pass

    pm = Map()
    pm.mpp, pm.downsample = YX(9.0, mpp), YX(7.0, 4.0)
    length, name = _scale(pm, YX(3.0, factor), width)
    number, unit = name.split(" ")
    assert unit == "mm"
    assert length * mpp / 4 * factor / 1000 == pytest.approx(float(number))
    assert 0.3 * width / 2.5 - 1 < length <= 0.3 * width + 1e-6
    assert f"{float(number):e}"[0] in "125"


def test_provenance_is_in_the_file(tmp_path):
    with slide_of() as slide:
        known = {"stem": "a slide", "fingerprint": slide.info.fingerprint}
        made_from = {"slide": known, "versions": {"napari-wsiseg": "1"}}
        with quarter_map(provenance=made_from) as pm:
            export(
                pm, tmp_path / "a.png", "png", DecisionRule({"Tumour": 0.6}), slide=slide, size=300
            )
    with Image.open(tmp_path / "a.png") as image:
        texts = dict(image.text)
    assert texts["Description"] == RESEARCH_USE
    values = json.loads(texts["napari_wsiseg"])
    assert values["notice"] == RESEARCH_USE
    assert values["thresholds"] == {"Tumour": 0.6, "Stroma": 0.0, "Other": 0.0}
    assert values["mpp_source"] == "metadata"
    assert values["result"].items() >= made_from.items()
    assert str(tmp_path) not in "".join(texts.values())


def test_classes_that_are_left_out_are_not_shown(tmp_path, words):
    with slide_of() as slide, quarter_map() as pm:
        export(pm, tmp_path / "a.png", "png", classes=["Stroma"], slide=slide, size=600)
    found = picture(tmp_path / "a.png", (400, 600))
    assert (found[20:180, 20:280] == GREY).all()
    np.testing.assert_allclose(found[100, 400], blended(SOFTMAX.class_colors[1]), atol=1)
    assert [said.text.split(" ")[0] for said in words if isinstance(said, Entry)] == [
        "Stroma",
        "Unclassified",
    ]


def test_cleaned_labels_are_shown(tmp_path):
    values = np.zeros((2, 40, 60))
    values[0, 5:10, 5:10] = 1
    values[0, 20:22, 30:32] = 1
    with slide_of() as slide, map_of(values, SIGMOID, downsample=YX(2.0, 2.0)) as pm:
        kept = Cleanup(min_object_um2=5)
        export(pm, tmp_path / "a.png", "png", cleanup=kept, slide=slide, size=600)
    found = (picture(tmp_path / "a.png", (400, 600)) != GREY).any(axis=2)[9:-9, 9:-9]
    assert found.any()
    assert not found[180:].any()


def test_of_classes_that_overlap_the_likeliest_is_shown(tmp_path):
    values = np.full((2, 40, 60), 0.7)
    values[1, :, 30:] = 0.9
    with slide_of() as slide, map_of(values, SIGMOID, downsample=YX(2.0, 2.0)) as pm:
        export(pm, tmp_path / "a.png", "png", slide=slide, size=600)
        export(pm, tmp_path / "b.png", "png", classes=["Nuclei"], slide=slide, size=600)
    for name, colors in (("a", SIGMOID.class_colors), ("b", SIGMOID.class_colors[:1] * 2)):
        found = picture(tmp_path / f"{name}.png", (400, 600))
        np.testing.assert_allclose(found[200, 150], blended(colors[0]), atol=1)
        np.testing.assert_allclose(found[200, 450], blended(colors[1]), atol=1)


def test_an_existing_file_is_kept_unless_told(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("mine")
    with slide_of() as slide, quarter_map() as pm:
        with pytest.raises(ExportError, match=r"a\.png is there already"):
            export(pm, path, "png", slide=slide, size=300)
        assert path.read_text() == "mine"
        export(pm, path, "png", slide=slide, overwrite=True)
    with Image.open(path) as image:
        assert (image.format, image.width) == ("PNG", 1600)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(self, file, **options):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with slide_of() as slide, quarter_map() as pm:
        with pytest.raises(ExportError, match="No space left"):
            export(pm, tmp_path / "a.png", "png", slide=slide, size=300)
        (tmp_path / "folder.png").mkdir()
        for target in (tmp_path / "folder.png", tmp_path / "none" / "a.png"):
            with pytest.raises(ExportError, match="folder"):
                export(pm, target, "png", slide=slide, size=300, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_full_disk_leaves_what_was_there(tmp_path):
    resource = pytest.importorskip("resource", reason="only POSIX limits a file's size")
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with slide_of() as slide, quarter_map() as pm:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(ExportError, match="cannot be written"):
                export(pm, path, "png", slide=slide, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.png", b"mine")]


def test_bad_questions(tmp_path):
    path = tmp_path / "a.png"
    with slide_of() as slide, slide_of((80, 121)) as other, quarter_map() as pm:
        for size in (10, 10**6):
            with pytest.raises(ExportError, match="size"):
                export(pm, path, "png", slide=slide, size=size)
        with pytest.raises(ExportError, match="not the slide"):
            export(pm, path, "png", slide=other)
        with pytest.raises(JobError, match="'Tumour'"):
            export(pm, path, "png", DecisionRule({"Tumor": 0.5}), slide=slide)
    with slide_of() as slide, open_slide(np.zeros((80, 120, 3), np.uint8)) as other:
        made_from = {"slide": {"fingerprint": slide.info.fingerprint}}
        with (
            quarter_map(provenance=made_from) as pm,
            pytest.raises(ExportError, match="not the slide that the result was made from"),
        ):
            export(pm, path, "png", slide=other)
    assert not path.exists()


@pytest.mark.parametrize("size", [200, 400, 1600])
@pytest.mark.parametrize("turned", [False, True], ids=["wide", "high"])
def test_nothing_is_cut_off(tmp_path, size, turned):
    names = ("Tumour with a name as long as they come", "Entzündung", "Class 3 (not declared)")
    spec = ModelSpec("a-model-with-a-long-name", names)
    shape = (900, 60) if turned else (60, 900)
    with slide_of(shape) as slide, map_of(np.ones((3, *shape)) / 3, spec, chunk=100) as pm:
        export(pm, tmp_path / "a.png", "png", slide=slide, size=size)
    pixels = footer(tmp_path / "a.png", size if turned else round(60 * size / 900))
    # Margins without a drop of ink all round.
    for margin in (pixels[:, :6], pixels[:, -6:], pixels[-4:]):
        assert (margin == 255).all()
    assert (pixels == INK).all(2).any()


@pytest.mark.parametrize("width", [200, 640, 3000])
def test_no_text_is_cut_off_at_the_margin(width):
    footer = Footer.below(Size(width, width // 4))
    footer.line(RESEARCH_USE)
    footer.legend(
        [Entry(f"A class with quite a long name {i} 12.3 %", "#0072B2") for i in range(9)]
    )
    footer.legend([Entry("x" * 900, "#0072B2")])
    footer.line("y" * 900)
    footer.scale((width / 5, "1 mm"), "")
    pixels = np.asarray(footer.image().convert("L"))
    assert (pixels[:, :5] > 250).all()
    assert (pixels[:, -5:] > 250).all()
    assert (pixels[-4:] > 250).all()
    assert (pixels < 100).any()


def test_letters_that_the_font_lacks_become_others():
    footer = Footer(400, 16)
    plain = Footer(400, 16)
    footer.line("Gewebe für Ärzte, 5 µm²")
    plain.line("Gewebe fur Arzte, 5 um2")
    assert footer.image().tobytes() == plain.image().tobytes()
