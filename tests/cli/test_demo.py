from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

import napari_wsiseg as ws
from napari_wsiseg import demo
from napari_wsiseg.cli.app import run
from napari_wsiseg.errors import SlideError
from napari_wsiseg.notice import RESEARCH_USE


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "immunohistochemistry.tif"
    demo.write_slide(path)
    return path


class TestMadeSlide:
    def test_it_is_a_jpeg_pyramid_that_openslide_opens(self, made):
        with openslide.OpenSlide(made) as slide:
            assert slide.level_dimensions == tuple((side, side) for side in (4096, 2048, 1024, 512))
            assert "openslide.mpp-x" not in slide.properties
        with tifffile.TiffFile(made) as file:
            assert {page.compression.name for page in file.pages} == {"JPEG"}
            assert all(page.is_tiled for page in file.pages)

    def test_its_first_corner_is_the_micrograph(self, made):
        from skimage.data import immunohistochemistry

        with ws.open_slide(made) as slide:
            assert slide.info.mpp is None
            pixels = slide.read(ws.Region(0, 0, ws.Size(512, 512)), ws.Resolution.parse("level 0"))
        difference = np.abs(pixels.astype(int) - immunohistochemistry())
        assert difference.mean() < 3

    def test_nothing_is_left_beside_it(self, made):
        assert [path.name for path in made.parent.iterdir()] == [made.name]

    def test_a_write_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        def full(file, *_, **__):
            file.filehandle.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tifffile.TiffWriter, "write", full)
        with pytest.raises(SlideError, match=r"x\.tif cannot be written \(No space left"):
            demo.write_slide(tmp_path / "x.tif")
        assert list(tmp_path.iterdir()) == []

    def test_two_who_make_it_at_once_do_not_mix(self, made, tmp_path, monkeypatch):
        path, write = tmp_path / "x.tif", tifffile.TiffWriter.write

        def meanwhile(*args, **options):
            monkeypatch.setattr(tifffile.TiffWriter, "write", write)
            demo.write_slide(path)
            assert path.read_bytes() == made.read_bytes()
            return write(*args, **options)

        monkeypatch.setattr(tifffile.TiffWriter, "write", meanwhile)
        demo.write_slide(path)
        assert path.read_bytes() == made.read_bytes()
        assert list(tmp_path.iterdir()) == [path]


def test_the_demo_and_again(made, tmp_path, capsys):
    folder = tmp_path / "there"
    folder.mkdir()
    shutil.copy(made, folder)
    for _ in range(2):
        assert run(["demo", "--output", str(folder)]) == 0
    out, err = capsys.readouterr()
    # What scikit-image's picture has at an optical density of 0.25: 55.2 % (JPEG costs a little).
    found = re.search(r"DAB-positive area ([0-9.]+) % of tissue at DAB OD >= 0.25", out)
    assert float(found[1]) == pytest.approx(55.2, abs=1)
    assert "Scale unknown" in out
    assert RESEARCH_USE in out
    assert err.count("row 8/8") == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        "immunohistochemistry-overlay.png",
        "immunohistochemistry.ome.zarr",
        "immunohistochemistry.tif",
    ]
    with ws.ProbabilityMap.open(folder / "immunohistochemistry.ome.zarr") as pm:
        assert pm.status == "complete"
    with Image.open(folder / "immunohistochemistry-overlay.png") as picture:
        assert picture.width >= 1000


@pytest.fixture(scope="module")
def after_demo(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("after")
    shutil.copy(made, folder)
    assert run(["demo", "-o", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(after_demo, tmp_path):
    return Path(shutil.copytree(after_demo, tmp_path / "demo"))


class TestWhatIsNotTheDemos:
    """Rule: another's output is never overwritten unless asked."""

    def _is_left_alone(self, folder, name, capsys):
        before = contents(folder)
        capsys.readouterr()
        assert run(["demo", "-o", str(folder)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            f"Error: {folder / name} was not made by the demo, so it is left alone; "
            "choose another folder with --output.\n"
        )
        assert contents(folder) == before

    @pytest.mark.parametrize("model", ["he-stain", "hdab-stain"])
    def test_a_result_of_ones_own(self, made, tmp_path, capsys, model):
        folder = tmp_path / "demo"
        folder.mkdir()
        slide = shutil.copy(made, folder)
        options = "--resolution baseline --on-exists overwrite --tissue none --region 0,0,600,600"
        assert run(["segment", slide, "-m", model, *options.split(), "-o", str(folder)]) == 0
        self._is_left_alone(folder, f"{made.stem}.ome.zarr", capsys)

    def test_a_result_of_another_slide(self, folder, capsys):
        with tifffile.TiffFile(folder / "immunohistochemistry.tif") as file:
            pixels = file.asarray()
        pixels[:100] = 0
        tifffile.imwrite(folder / "immunohistochemistry.tif", pixels, tile=(256, 256))
        self._is_left_alone(folder, "immunohistochemistry.ome.zarr", capsys)

    def test_labels_that_were_put_into_the_demos_result(self, folder, capsys):
        result = folder / "immunohistochemistry.ome.zarr"
        arguments = ["--format", "ome-zarr", "-o", str(result / "labels" / "mine")]
        assert run(["export", str(result), *arguments]) == 0
        self._is_left_alone(folder, result.name, capsys)

    def test_what_is_no_result(self, folder, capsys):
        result = folder / "immunohistochemistry.ome.zarr"
        (result / "state.json").write_text("{")
        self._is_left_alone(folder, result.name, capsys)
        shutil.rmtree(result)
        result.mkdir()
        (result / "mine.txt").write_text("mine")
        self._is_left_alone(folder, result.name, capsys)

    def test_a_picture_with_other_thresholds(self, folder, capsys):
        result, overlay = (
            folder / f"immunohistochemistry{end}" for end in (".ome.zarr", "-overlay.png")
        )
        slide, rule = folder / "immunohistochemistry.tif", ws.DecisionRule({"DAB": 0.3})
        with ws.ProbabilityMap.open(result) as pm:
            ws.export(pm, overlay, "png", rule=rule, slide=slide, overwrite=True)
        self._is_left_alone(folder, overlay.name, capsys)

    @pytest.mark.parametrize("kind", ["text", "png", "damaged"])
    def test_a_picture_of_another_program(self, folder, capsys, kind):
        overlay = folder / "immunohistochemistry-overlay.png"
        if kind == "text":
            overlay.write_text("mine")
        elif kind == "png":
            Image.new("RGB", (20, 20)).save(overlay)
        else:
            overlay.write_bytes(overlay.read_bytes()[:60])
        self._is_left_alone(folder, overlay.name, capsys)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path, capsys):
    place = tmp_path / "there"
    place.write_text("mine")
    assert run(["demo", "-o", str(place)]) == 2
    assert f"The folder {place} cannot be made" in capsys.readouterr().err
    assert place.read_text() == "mine"


class TestRealSlide:
    def test_a_cached_one_needs_no_network(self, real_slide, tmp_path, monkeypatch, capsys):
        cache = tmp_path / "cache"
        (cache / "slides").mkdir(parents=True)
        shutil.copy(real_slide, cache / "slides")
        monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: cache)
        assert run(["demo", "--real", "-o", str(tmp_path / "out")]) == 0
        assert "Eosin-dominant" in capsys.readouterr().out
        assert (tmp_path / "out" / "CMU-1-Small-Region-overlay.png").exists()

    def test_offline_is_one_sentence(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path)
        # A proxy that does not answer: every request fails.
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert run(["demo", "--real", "-o", str(tmp_path / "out")]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("Error: CMU-1-Small-Region.svs could not be downloaded")
        assert err.count("\n") == 1

    def test_a_cache_that_cannot_be_written_is_one_sentence(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "file")
        assert run(["demo", "--real", "-o", str(tmp_path / "out")]) == 2
        _, err = capsys.readouterr()
        assert "could not be downloaded (" in err
        assert "Error)" not in err
        assert err.count("\n") == 1
