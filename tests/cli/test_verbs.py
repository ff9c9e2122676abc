"""What the light verbs print, and what they load for it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

import napari_wsiseg as ws
from napari_wsiseg.cli.app import run
from napari_wsiseg.notice import RESEARCH_USE


def test_version_comes_with_the_notice(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"napari-wsiseg {ws.__version__}\n{RESEARCH_USE}\n"


@pytest.mark.parametrize("verb", [[], ["demo"], ["info"], ["models"], ["segment"]])
def test_every_verb_has_help(capsys, verb):
    assert run([*verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage" in text
    assert "--verbose" in text


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["nonsense"], "No such command 'nonsense'"),
            (["info"], "Missing argument 'SLIDE'"),
            (["segment", "--nonsense"], "No such option"),
            (["segment", "x.svs", "--batch-size", "many"], "'--batch-size'"),
            (["segment", "x.svs", "--stride", "0,1,2"], "--stride cannot be '0,1,2'"),
            (["segment", "x.svs", "--stride", "0"], "stride_shape cannot be"),
            (["segment", "x.svs", "--memory-threshold", "0"], "memory_threshold cannot be 0"),
            (["segment", "x.svs", "--memory-limit", "lots"], "'lots' is not a size"),
            (["segment", "x.svs", "--resolution", "big"], "'big' is not a resolution"),
            (["segment", "x.svs", "--job", "none.yaml"], "The job file none.yaml cannot be read"),
            (["segment", "missing.svs"], "There is no slide missing.svs"),
            (["segment"], "There is no slide to segment"),
            (["info", "missing.svs"], "There is no slide at missing.svs"),
            (["models", "he-stian"], "did you mean he-stain"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_one_sentence_on_stderr_and_status_2(self, capsys, arguments, complaint):
        assert run(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("Error: ")
        assert complaint in err
        assert err.count("\n") == 1

    def test_no_verb_shows_the_help(self, capsys):
        assert run([]) == 2
        out, err = capsys.readouterr()
        assert "Usage" in out + err
        assert "Error" not in out + err

    @pytest.mark.parametrize(
        "arguments", [["--verbose", "info", "x.svs"], ["info", "x.svs", "--verbose"]]
    )
    def test_verbose_anywhere_adds_the_traceback(self, capsys, arguments):
        assert run(arguments) == 2
        assert capsys.readouterr().err.startswith("Traceback")


class TestInfo:
    def test_facts(self, capsys, slide):
        assert run(["info", str(slide)]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "Size 1024 x 1024 px (width x height)" in text
        assert "Scale 0.5 µm/px (from the file)" in text
        assert "0 1024 1024 1 256 x 256" in text

    def test_json(self, capsys, slide):
        assert run(["info", str(slide), "--json"]) == 0
        values = json.loads(capsys.readouterr().out)
        assert (values["height"], values["width"]) == (1024, 1024)
        assert values["mpp"] == [0.5, 0.5]
        assert values["mpp_source"] == "metadata"
        assert values["levels"][0]["tile"] == {"height": 256, "width": 256}
        assert len(values["fingerprint"]) >= 32
        assert values["warnings"] == []

    def test_warnings_are_plain_sentences(self, capsys, slide, tmp_path):
        odd = tmp_path / "slide.png"
        odd.write_bytes(slide.read_bytes())
        assert run(["info", str(odd)]) == 0
        err = capsys.readouterr().err
        assert err.startswith("Warning: slide.png is not what its name says")
        assert err.count("\n") == 1

    def test_a_damaged_slide_is_one_sentence(self, process, real_slide, tmp_path):
        (tmp_path / "cut.svs").write_bytes(real_slide.read_bytes()[:400_000])
        done = process("info", "cut.svs")
        assert done.returncode == 2
        assert done.stderr.startswith("Error: cut.svs cannot be opened as a slide")
        assert done.stderr.count("\n") == 1

    def test_a_real_slide(self, capsys, real_slide):
        assert run(["info", str(real_slide)]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "Format aperio" in text
        assert "Objective 20x" in text
        assert "Size 2220 x 2967 px" in text
        assert "Scale 0.499 µm/px" in text


class TestModels:
    def test_the_table_has_all_and_cuts_nothing(self, capsys):
        assert run(["models"]) == 0
        text = capsys.readouterr().out
        for name, spec in ws.models().items():
            line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
            assert spec.license in line
            assert ", ".join(spec.classes) in line
        assert "…" not in text

    def test_one_with_thresholds_in_optical_density(self, capsys):
        assert run(["models", "hdab-stain"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        spec = ws.models()["hdab-stain"]
        assert "DAB ≥ OD 0.25" in text
        assert "none needed" in text
        assert spec.description in text
        assert spec.citation in text

    def test_json(self, capsys):
        assert run(["models", "--json"]) == 0
        every = {values["name"]: values for values in json.loads(capsys.readouterr().out)}
        assert every.keys() == ws.models().keys()
        assert every["fcn-tissue_mask"]["weights"] in ("on this machine", "to download")
        assert run(["models", "tissue", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == every["tissue"]


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--version"], ("torch", "zarr", "numpy", "pydantic")),
        (["--help"], ("torch", "zarr", "numpy", "pydantic")),
        (["models"], ("torch", "zarr", "dask", "skimage", "scipy")),
        (["info", "SLIDE"], ("torch", "dask.array", "skimage")),
    ],
    ids=lambda value: value[0],
)
def test_light_verbs_load_nothing_heavy(slide, arguments, heavy):
    arguments = [str(slide) if a == "SLIDE" else a for a in arguments]
    code = (
        "import sys; from napari_wsiseg.cli.app import run; status = run(sys.argv[1:]);"
        f"print(status, [m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr == "0 []\n"


class TestStreams:
    def test_a_c_locale_crashes_nothing(self, process, slide):
        plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        # tox asks for UTF-8 with this one, which wins over the locale.
        plain["PYTHONIOENCODING"] = ""
        done = process("info", slide, **plain)
        assert done.returncode == 0, done.stderr
        assert "0.5 um/px" in done.stdout

    @pytest.mark.skipif(sys.platform == "win32", reason="a shell's `>&-`")
    @pytest.mark.parametrize(("closed", "left"), [(">&-", "err"), ("2>&-", "out")])
    def test_a_closed_stream_crashes_nothing(self, closed, left):
        command = f"exec {shlex.quote(sys.executable)} -m napari_wsiseg --version {closed}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert bool(done.stdout) == (left == "out")

    def test_a_reader_that_has_left_ends_it_without_a_word(self):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "napari_wsiseg", "models", "--json"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (130, b"")
