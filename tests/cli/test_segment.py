"""`segment` as a user meets it: what is printed, what is written, how it ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

import napari_wsiseg as ws
from napari_wsiseg.cli.app import run
from napari_wsiseg.notice import RESEARCH_USE


def result(folder: Path, stem: str = "small") -> ws.ProbabilityMap:
    return ws.ProbabilityMap.open(folder / f"{stem}.ome.zarr")


@pytest.fixture(scope="module")
def done(slide, tmp_path_factory):
    """A run in a pipe: its folder, exit status, stdout and stderr."""
    folder = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-m", "napari_wsiseg", "segment", str(slide), "-o", str(folder)]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return folder, ended


class TestOneSlide:
    def test_it_writes_a_complete_map(self, done):
        folder, ended = done
        assert ended.returncode == 0, ended.stderr
        with result(folder) as pm:
            assert pm.status == "complete"
            assert pm.spec.name == "he-stain"

    def test_stdout_holds_the_areas_and_the_notice(self, done):
        folder, ended = done
        with result(folder) as pm:
            areas = ws.measure(pm)
        lines = ended.stdout.splitlines()
        table = {
            name: cells for name, *cells in (re.split(" {2,}", line.rstrip()) for line in lines)
        }
        for row in areas.rows:
            printed = table[row.name]
            assert printed[0].replace(",", "") == str(row.pixels)
            assert printed[1] == f"{row.area_mm2:.3f}"
            assert printed[2:] == ([] if row.fraction is None else [f"{100 * row.fraction:.1f}"])
        assert "mm² at 0.5 µm/px; the slide's scale is from the file." in lines
        assert f"Result: {folder / 'small.ome.zarr'}" in lines
        assert lines[-1] == RESEARCH_USE

    def test_stderr_tells_the_plan_and_every_row_without_carriage_returns(self, done):
        _, ended = done
        assert "0.5 µm/px -> 1024 x 1024 px, " in ended.stderr
        assert " patch, about " in ended.stderr
        assert "of memory" in ended.stderr
        assert [f"row {n}/2" in ended.stderr for n in (1, 2)] == [True, True]
        assert "\r" not in ended.stderr

    def test_again_it_is_complete_already(self, done, slide, capsys):
        folder, ended = done
        assert run(["segment", str(slide), "-o", str(folder)]) == 0
        out, err = capsys.readouterr()
        assert "complete already" in err
        assert out == ended.stdout

    def test_json(self, done, slide, capsys):
        folder, _ = done
        assert run(["segment", str(slide), "-o", str(folder), "--json"]) == 0
        values = json.loads(capsys.readouterr().out)
        with result(folder) as pm:
            areas = ws.measure(pm)
        assert values["status"] == "complete"
        assert values["output"] == str(folder / "small.ome.zarr")
        assert values["size"] == {"height": 1024, "width": 1024}
        assert values["mpp"] == [0.5, 0.5]
        assert values["mpp_source"] == "metadata"
        assert [row["pixels"] for row in values["areas"]] == [row.pixels for row in areas.rows]
        assert (values["failed_patches"], values["notice"]) == ([], RESEARCH_USE)
        assert values["seconds"] >= 0

    def test_another_model_is_refused_and_nothing_is_lost(self, done, slide, capsys):
        folder, _ = done
        assert run(["segment", str(slide), "-o", str(folder), "-m", "tissue"]) != 0
        assert "cannot be continued" in capsys.readouterr().err
        with result(folder) as pm:
            assert pm.spec.name == "he-stain"

    def test_another_slide_of_the_same_name_gets_a_name_of_its_own(
        self, done, make_slide, tmp_path, capsys
    ):
        folder, _ = done
        other = make_slide(tmp_path / "small.tif", 512)
        for _ in range(2):
            assert run(["segment", str(other), "-o", str(folder)]) == 0
        assert "complete already" in capsys.readouterr().err
        with ws.open_slide(other) as opened:
            mark = opened.info.fingerprint[:8]
        with result(folder, f"small-{mark}") as pm:
            assert pm.slide_size == ws.Size(512, 512)
        with result(folder) as pm:
            assert pm.slide_size == ws.Size(1024, 1024)


class TestOptions:
    def test_all_reach_the_job(self, slide, tmp_path):
        mask = tmp_path / "mask.png"
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(mask)
        options = shlex.split(
            "--model he-stain --resolution 1mpp --patch-input 256 --patch-output 256 "
            "--stride 128,256 --window gaussian --batch-size 2 --device cpu --precision exact "
            "--backend torch --dtype float32 --save-resolution 2mpp --min-mask-ratio 0.1 "
            "--memory-threshold 50 --memory-limit 2GB --mpp 0.25 --region 0,0,256,1024 "
            "--on-exists error --strict"
        )
        output = tmp_path / "own.ome.zarr"
        assert run(["segment", str(slide), "-o", str(output), "--tissue", str(mask), *options]) == 0
        with ws.ProbabilityMap.open(output) as pm:
            grid = pm.grid
            assert (grid.patch_input, grid.stride) == (ws.Size(256, 256), ws.Size(128, 256))
            assert pm.mpp == pytest.approx((2, 2))
            assert pm.mpp_source == "user"
            assert pm.levels[0].dtype == np.float32
            job = pm.job
        asked = {
            "model": "he-stain",
            "window": "gaussian",
            "batch_size": 2,
            "device": "cpu",
            "precision": "exact",
            "backend": "torch",
            "min_mask_ratio": 0.1,
            "memory_threshold": 50,
            "memory_limit": 2 * 10**9,
            "on_exists": "error",
            "strict": True,
            "tissue": "mask.png",
        }
        assert {name: job[name] for name in asked} == asked
        assert run(["segment", str(slide), "-o", str(output), *options]) == 2

    def test_a_region_first_and_the_rest_later(self, slide, tmp_path):
        common = ["segment", str(slide), "-o", str(tmp_path), "--tissue", "none", "--stride", "512"]
        common += ["--patch-input", "512", "--patch-output", "512"]
        assert run([*common, "--region", "0,0,100,100"]) == 0
        with result(tmp_path) as pm:
            assert pm.finished.tolist() == [[True, False], [False, False]]
        assert run(common) == 0
        with result(tmp_path) as pm:
            assert pm.finished.all()

    def test_a_job_file_with_its_own_slide_and_output(self, slide, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        shutil.copy(slide, "s.tif")
        Path("job.yaml").write_text("slide: s.tif\nmodel: tissue\noutput: x.ome.zarr\n")
        assert run(["segment", "--job", "job.yaml", "--dtype", "float16"]) == 0
        with ws.ProbabilityMap.open("x.ome.zarr") as pm:
            assert (pm.spec.name, pm.levels[0].dtype) == ("tissue", np.float16)

    def test_a_slide_without_scale(self, make_slide, tmp_path, capsys):
        path = make_slide(tmp_path / "bare.tif", 512, mpp=None)
        assert run(["segment", str(path), "-o", str(tmp_path)]) == 2
        assert "--mpp 0.5" in capsys.readouterr().err
        assert not (tmp_path / "bare.ome.zarr").exists()
        options = ["--resolution", "baseline 0.5", "--json"]
        assert run(["segment", str(path), "-o", str(tmp_path), *options]) == 0
        out, err = capsys.readouterr()
        values = json.loads(out)
        assert "baseline 0.5 -> 256 x 256 px" in err
        assert (values["mpp"], values["mpp_source"]) == (None, None)
        assert {row["area_mm2"] for row in values["areas"]} == {None}


def test_going_on_keeps_the_precision_that_the_result_was_begun_in(slide, tmp_path, monkeypatch):
    """What "auto" stands for differs by machine; a result is gone on with as it was begun."""
    from napari_wsiseg.engine import inputs

    class Wide:
        """Answers the same in any precision, and says in which it was loaded."""

        def __init__(self, precision):
            self.precision = "bf16" if precision == "auto" else precision
            self.spec = inner.spec
            self.predict = inner.predict

    inner = ws.load_model("he-stain")
    loaded = []

    def load(model, *, precision="", **_):
        if isinstance(model, Wide):
            return model
        loaded.append(precision)
        return Wide(precision)

    monkeypatch.setattr(inputs, "load_model", load)
    common = ["segment", str(slide), "-o", str(tmp_path), "--tissue", "none"]
    assert run([*common, "--precision", "fp32", "--region", "0,0,9,9"]) == 0
    assert run(common) == 0
    assert loaded[1:] == ["auto", "fp32"]
    with result(tmp_path) as pm:
        assert pm.finished.all()
        assert pm.provenance["model"]["precision"] == "fp32"
    # Asked for by name, another one is refused.
    assert run([*common, "--precision", "fp16"]) == 2


class TestNothingToDo:
    def test_glass_alone_is_a_complete_result(self, tmp_path, capsys):
        path = tmp_path / "glass.png"
        Image.fromarray(np.full((600, 700, 3), 244, np.uint8)).save(path)
        assert run(["segment", str(path), "-o", str(tmp_path), "--mpp", "0.5"]) == 0
        out, err = capsys.readouterr()
        assert "Warning: There is nothing to analyse" in err
        assert re.search(r"^Total tissue +0 ", out, re.MULTILINE)
        with result(tmp_path, "glass") as pm:
            assert pm.status == "complete"

    def test_a_region_on_glass(self, slide, tmp_path, capsys):
        # The right quarter is glass; far from the tissue no patch is kept.
        options = ["--patch-input", "64", "--patch-output", "64", "--stride", "64"]
        region = ["--region", "0,960,1024,64"]
        mask = tmp_path / "mask.png"
        Image.fromarray(np.repeat([[255, 0]], 2, 0).astype(np.uint8)).save(mask)
        common = ["segment", str(slide), "-o", str(tmp_path), "--tissue", str(mask)]
        assert run([*common, *options, *region]) == 0
        assert "No tissue lies in the region; nothing was computed." in capsys.readouterr().err


class TestSeveralSlides:
    @pytest.fixture
    def folder(self, tmp_path, slide):
        folder = tmp_path / "slides"
        folder.mkdir()
        shutil.copy(slide, folder / "a.tif")
        (folder / "b.tif").write_bytes(slide.read_bytes()[:5000])
        shutil.copy(slide, folder / "c.tif")
        return folder

    def test_a_bad_one_is_listed_and_the_rest_run(self, folder, tmp_path, capsys):
        output = tmp_path / "out"
        arguments = ["segment", str(folder), "-o", str(output), "-m", "tissue", "--json"]
        assert run(arguments) == 1
        out, err = capsys.readouterr()
        statuses = [json.loads(line)["status"] for line in out.splitlines()]
        assert statuses == ["complete", "failed", "complete"]
        listing = err[err.index("1 of 3 slides failed:") :].splitlines()
        assert len(listing) == 2
        assert listing[1].startswith(f"  {folder / 'b.tif'}: ")
        assert sorted(path.name for path in output.iterdir()) == ["a.ome.zarr", "c.ome.zarr"]

    def test_each_line_of_json_comes_when_its_slide_ends(self, folder, tmp_path, monkeypatch):
        from napari_wsiseg.cli import segment

        events = []
        opened = segment.open_slide

        def open_and_note(path, **options):
            events.append(path.name)
            return opened(path, **options)

        monkeypatch.setattr(segment, "open_slide", open_and_note)
        monkeypatch.setattr(segment, "out", lambda text: events.append(json.loads(text)["status"]))
        run(["segment", str(folder), "-o", str(tmp_path / "out"), "-m", "tissue", "--json"])
        ran = ["a.tif", "complete", "b.tif", "failed", "c.tif", "complete"]
        # Finding the folder's slides opens each of them as well, elsewhere.
        assert events == ran

    def test_none_that_opens_is_bad_input(self, folder, tmp_path, capsys):
        for name in ("a.tif", "c.tif"):
            (folder / name).write_bytes(b"")
        assert run(["segment", str(folder), "-o", str(tmp_path / "out"), "-m", "tissue"]) == 2
        assert "3 of 3 slides failed:" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_one_output_cannot_hold_several(self, folder, tmp_path, capsys):
        assert run(["segment", str(folder), "-o", str(tmp_path / "x.ome.zarr")]) == 2
        assert "give a folder" in capsys.readouterr().err

    def test_an_unknown_model_stops_before_anything_is_written(self, folder, tmp_path, capsys):
        output = tmp_path / "out"
        assert run(["segment", str(folder), "-o", str(output), "-m", "he-stian"]) == 2
        err = capsys.readouterr().err
        assert "did you mean he-stain" in err
        assert "Traceback" not in err
        assert not output.exists()


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder that is called like a result and is none."""
    folder = tmp_path / "small.ome.zarr"
    folder.mkdir()
    (folder / "thesis.txt").write_text("three years")
    return folder


@pytest.mark.parametrize("on_exists", ["resume", "overwrite", "error"])
def test_a_foreign_folder_is_left_alone(slide, foreign, capsys, on_exists):
    output = str(foreign.parent)
    assert run(["segment", str(slide), "-o", output, "--on-exists", on_exists]) == 2
    assert str(foreign) in capsys.readouterr().err
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]


class TestFailedPatches:
    def test_they_are_listed_and_the_status_is_3(self, tmp_path, capsys):
        pixels = np.random.default_rng(0).integers(0, 200, (1024, 1024, 3), np.uint8)
        path = tmp_path / "small.tif"
        tifffile.imwrite(
            path, pixels, tile=(256, 256), photometric="rgb", compression="jpeg",
            resolution=(2e4, 2e4), resolutionunit=3, metadata=None,
        )  # fmt: skip
        with tifffile.TiffFile(path) as file:
            offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\0" * count)
        options = ["--patch-input", "512", "--patch-output", "512", "--stride", "512"]
        common = ["segment", str(path), "-o", str(tmp_path), "--tissue", "none", *options]
        assert run([*common, "--json"]) == 3
        out, err = capsys.readouterr()
        values = json.loads(out)
        assert values["status"] == "complete"
        (patch,) = values["failed_patches"]
        assert "a tile's JPEG is cut short or damaged" in patch.pop("reason")
        box = {"top": 0, "left": 0, "height": 512, "width": 512}
        assert patch == {"row": 0, "column": 0, **box}
        assert "Warning: The patch at x 0, y 0 on the slide is left out: small cannot be" in err

        # Once more it is complete, and still not whole; nothing is tried again.
        assert run(common) == 3
        out, err = capsys.readouterr()
        assert "1 patch could not be computed and is left out, at x 0, y 0 on the slide" in out
        assert "It is complete already" in err
        result = str(tmp_path / "small.ome.zarr")
        assert run(["measure", result]) == 0
        assert "1 patch could not be computed and is left out" in capsys.readouterr().out
        assert run(["export", result, "--format", "geojson"]) == 0
        assert "1 patch could not be computed and is left out" in capsys.readouterr().err

        assert run([*common, "--strict"]) == 1
        assert "an earlier run left patches out" in capsys.readouterr().err
        assert ws.ProbabilityMap.open(result).status == "complete"
        assert run([*common, "--strict", "--on-exists", "overwrite"]) == 1
        assert "without strict" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tall(make_slide, tmp_path_factory):
    """Many rows: long enough to be interrupted in its middle."""
    return make_slide(tmp_path_factory.mktemp("tall") / "tall.tif", 2048)


class TestInterrupted:
    OPTIONS = shlex.split(
        "--tissue none --patch-input 256 --patch-output 256 --stride 256 --batch-size 1"
    )

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals")
    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
    def test_what_is_finished_stays_and_the_same_command_goes_on(self, tall, tmp_path, name):
        command = [sys.executable, "-m", "napari_wsiseg", "segment", str(tall), *self.OPTIONS]
        started = subprocess.Popen(
            [*command, "--json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        with started:
            for line in started.stderr:
                if "row 1/" in line:
                    started.send_signal(getattr(signal, name))
                    break
            rest = started.stderr.read()
            told = json.loads(started.stdout.read())
        assert started.returncode == 130, rest
        assert "Interrupted: what is finished is kept in tall.ome.zarr" in rest
        assert "run the same command again" in rest
        assert "Traceback" not in rest
        assert told["status"] == "cancelled"
        with result(tmp_path, "tall") as pm:
            assert pm.status == "cancelled"
            rows = pm.finished.all(1)
        assert not (tmp_path / "tall.ome.zarr" / "lock").exists()
        assert rows[0]
        assert not rows[-1]
        kept = zarr.open_array(tmp_path / "tall.ome.zarr" / "0", mode="r")[:, :512].copy()

        assert run(["segment", str(tall), "-o", str(tmp_path), *self.OPTIONS]) == 0
        with result(tmp_path, "tall") as pm:
            assert (pm.status, pm.finished.all()) == ("complete", True)
            assert np.array_equal(pm.levels[0][:, :512].compute(), kept)


def test_interrupting_a_folder_says_how_many_ended(slide, tmp_path, monkeypatch, capsys):
    """Ctrl-C while the second of two slides is opened."""
    from napari_wsiseg.cli import segment

    names = iter(["first", "second"])
    opened = segment.open_slide

    def open_or_stop(*arguments, **options):
        if next(names) == "second":
            raise KeyboardInterrupt
        return opened(*arguments, **options)

    monkeypatch.setattr(segment, "open_slide", open_or_stop)
    for name in ("a.tif", "b.tif"):
        shutil.copy(slide, tmp_path / name)
    arguments = [str(tmp_path / "?.tif"), "-o", str(tmp_path), "-m", "tissue", "--json"]
    assert run(["segment", *arguments]) == 130
    out, err = capsys.readouterr()
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["complete", "cancelled"]
    assert "Interrupted: 1 of 2 slides ended" in err


class TestStains:
    def test_those_of_the_slide_are_said_and_kept(self, slide, tmp_path, capsys):
        asked = ["segment", str(slide), "-m", "hdab-stain", "--stains", "slide"]
        for _ in range(2):
            assert run([*asked, "-o", str(tmp_path)]) == 0
            told = [line for line in capsys.readouterr().err.splitlines() if "glass" in line]
            assert len(told) == 1
            assert re.fullmatch(
                r"  Measured by \(red, green, blue\): glass 245, 245, 245; "
                r"Hematoxylin 0\.\d\d, 0\.\d\d, 0\.\d\d; DAB 0\.2\d, 0\.5\d, 0\.8\d; "
                r"this slide, estimated from \d+ stained pixels \(Macenko .*\)",
                told[0],
            )
        with result(tmp_path) as pm:
            assert pm.provenance["model"]["parameters"]["background"] == [245, 245, 245]

    def test_a_model_that_takes_none(self, slide, tmp_path, capsys):
        asked = ["segment", str(slide), "-m", "fcn-tissue_mask", "--stains", "slide"]
        assert run([*asked, "-o", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert "Error: Model 'fcn-tissue_mask' measures no stains" in err
        assert not (tmp_path / "out").exists()


class TestPatches:
    @pytest.fixture
    def pictures(self, slide, tmp_path):
        with ws.open_slide(slide) as opened:
            for name, left in (("p1", 0), ("p2", 24)):
                region = ws.Region(0, left, ws.Size(1024, 1024))
                pixels = opened.read(region, ws.Resolution.parse("baseline"))
                Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        return tmp_path

    def test_labels_and_probabilities_beside(self, pictures, capsys):
        pattern, output = str(pictures / "p*.png"), pictures / "out"
        assert run(["segment", "--patches", pattern, "-o", str(output), "-m", "hdab-stain"]) == 0
        names = sorted(path.name for path in output.iterdir())
        assert names == [
            f"{stem}-{what}"
            for stem in ("p1", "p2")
            for what in ("labels.png", "probabilities.npz")
        ]
        expected = ws.segment_patches([pictures / "p1.png"], ws.load_model("hdab-stain"))
        with Image.open(output / "p1-labels.png") as image:
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image), expected.labels[0])
            assert image.getpalette()[3:6] == [0x00, 0x9E, 0x73]
            assert image.text["Description"] == RESEARCH_USE
            assert image.text["Label 2"] == "DAB"
        with np.load(output / "p1-probabilities.npz") as file:
            assert np.array_equal(file["probabilities"], expected.probabilities[0])
            assert file["classes"].tolist() == ["Hematoxylin", "DAB"]
        assert capsys.readouterr().out.splitlines()[-1] == RESEARCH_USE

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--resolution", "20x", "--stride", "9"], "resolution, stride_shape cannot be chosen"),
            (["deeper/p1.png", "--on-exists", "overwrite"], "would have the same results"),
            (["-o", "x.zarr"], "give a folder"),
        ],
        ids=["for slides", "one name", "a result's path"],
    )
    def test_what_cannot_be_is_refused_before_anything_is_written(
        self, pictures, capsys, monkeypatch, options, complaint
    ):
        monkeypatch.chdir(pictures)
        Path("deeper").mkdir()
        shutil.copy("p2.png", "deeper/p1.png")
        before = sorted(pictures.rglob("*"))
        assert run(["segment", "--patches", "p1.png", *options]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert complaint in err
        assert sorted(pictures.rglob("*")) == before

    def test_a_wrong_name_is_one_plain_warning(self, pictures, capsys):
        (pictures / "p1.png").rename(pictures / "p1.svs")
        assert run(["segment", "--patches", str(pictures / "p1.svs"), "-o", str(pictures)]) == 0
        err = capsys.readouterr().err
        assert err.startswith("Warning: p1.svs is not what its name says")
        assert err.count("\n") == 1

    def test_a_patch_without_an_answer_fails_and_leaves_nothing(
        self, pictures, capsys, monkeypatch
    ):
        from napari_wsiseg.cli import patches

        model = ws.load_model("he-stain")

        class Blind:
            spec = model.spec

            def predict(self, patches):
                return model.predict(patches) * float("nan")

        monkeypatch.setattr(patches, "loaded_model", lambda _: Blind())
        output = pictures / "out"
        assert run(["segment", "--patches", str(pictures / "p1.png"), "-o", str(output)]) == 1
        assert "p1.png has no answer" in capsys.readouterr().err
        assert list(output.iterdir()) == []

    def test_a_write_that_fails_leaves_nothing(self, pictures, capsys, monkeypatch):
        def full(file, **_):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez_compressed", full)
        output = pictures / "out"
        assert run(["segment", "--patches", str(pictures / "p1.png"), "-o", str(output)]) == 1
        assert "No space left on device" in capsys.readouterr().err
        assert list(output.iterdir()) == []

    def test_nothing_is_overwritten_unasked(self, pictures, capsys):
        arguments = [
            "segment",
            "--patches",
            str(pictures / "p1.png"),
            "-o",
            str(pictures),
            "--json",
        ]
        assert run(arguments) == 0
        assert json.loads(capsys.readouterr().out)["pixels"].keys() == {
            "Hematoxylin-dominant",
            "Eosin-dominant",
        }
        assert run(arguments) == 1
        assert "p1-labels.png exists" in capsys.readouterr().err
        assert run([*arguments, "--on-exists", "overwrite"]) == 0
