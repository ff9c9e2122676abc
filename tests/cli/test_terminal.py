from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from napari_wsiseg import words
from napari_wsiseg.cli import terminal
from napari_wsiseg.errors import SlideError
from napari_wsiseg.geometry import YX


@pytest.fixture
def streams(monkeypatch):
    """Replace stdout and stderr by ones of an encoding."""

    def replace(encoding: str) -> tuple[io.BytesIO, io.BytesIO]:
        files = io.BytesIO(), io.BytesIO()
        for name, file in zip(("stdout", "stderr"), files, strict=True):
            stream = io.TextIOWrapper(file, encoding=encoding, write_through=True, newline="\n")
            monkeypatch.setattr(f"sys.{name}", stream)
        terminal.prepare_streams()
        return files

    return replace


class TestEncodings:
    @pytest.mark.parametrize(
        ("encoding", "shown"),
        [
            ("utf-8", "0.5 µm/px → 3 mm², a≥b 病\n".encode()),
            ("cp1252", "0.5 µm/px -> 3 mm², a>=b ?\n".encode("cp1252")),
            ("ascii", b"0.5 um/px -> 3 mm2, a>=b ?\n"),
        ],
    )
    def test_what_a_terminal_cannot_show_has_a_stand_in(self, streams, encoding, shown):
        out, err = streams(encoding)
        for write in (terminal.out, terminal.say):
            write("0.5 µm/px → 3 mm², a≥b 病")
        assert out.getvalue() == err.getvalue() == shown

    def test_a_file_name_that_is_no_text(self, streams):
        out, _ = streams("utf-8")
        terminal.out("s\udcff.svs")
        assert out.getvalue() == b"s?.svs\n"

    def test_tables_too(self, streams):
        out, _ = streams("ascii")
        terminal.print_table(("Class", "mm²"), [("[bold]µ[/bold]", "1")])
        assert out.getvalue().decode().split() == ["Class", "mm2", "[bold]u[/bold]", "1"]


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (SlideError("x.svs\n is  bad."), "x.svs is bad."),
            (PermissionError(13, "Permission denied", "/x"), "Permission denied: /x."),
            (KeyError("x"), "Unexpected KeyError: 'x' (--verbose shows where)."),
        ],
    )
    def test_one_sentence(self, capsys, error, sentence):
        terminal.fail(error, verbose=False)
        assert capsys.readouterr() == ("", f"Error: {sentence}\n")

    def test_a_traceback_when_asked_for(self, capsys):
        terminal.fail(SlideError("Broken."), verbose=True)
        text = capsys.readouterr().err
        assert text.startswith("napari_wsiseg.errors.SlideError: Broken.")
        assert text.endswith("Error: Broken.\n")


class TestColumns:
    COLUMNS = (("Name", "he-stain"), ("Classes", "Hematoxylin-dominant, Eosin"), ("At", "0.5 mpp"))

    def test_all_fit(self):
        assert terminal.column_widths(self.COLUMNS, 80) == [8, 27, 7]

    def test_narrow_ones_break_between_words_only(self):
        widths = terminal.column_widths(self.COLUMNS, 40)
        assert sum(widths) == 40
        assert widths[0] == 8
        assert widths[1] >= len("Hematoxylin-dominant,")
        assert widths[2] >= 3

    def test_too_narrow_a_terminal_breaks_nothing(self):
        assert terminal.column_widths(self.COLUMNS, 10) == [8, 21, 3]


@pytest.mark.parametrize(
    ("words_of", "text"),
    [
        (words.in_bytes(999), "1 kB"),
        (words.in_bytes(20e6), "20 MB"),
        (words.in_bytes(410e6), "0.4 GB"),
        (words.in_bytes(12.3e9), "12.3 GB"),
        (words.about(0.2), "about 1 s"),
        (words.about(89), "about 89 s"),
        (words.about(90), "about 2 min"),
        (words.about(9000), "about 2.5 h"),
        (words.clock(7), "0:07"),
        (words.clock(3723), "1:02:03"),
        (words.in_mpp(YX(0.5, 0.5)), "0.5 µm/px"),
        (words.in_mpp(YX(0.5, 0.25)), "0.25 x 0.5 µm/px (x, y)"),
        (words.in_mpp(None), "unknown scale"),
        (words.several(1, "slide"), "1 slide"),
        (words.several(2, "patch"), "2 patches"),
    ],
)
def test_numbers_in_words(words_of, text):
    assert words_of == text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "3000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given, expected) -> None:
    """Set before anything loads torch, which reads it once."""
    code = (
        "import os, sys\n"
        "from napari_wsiseg.cli.app import run\n"
        "run(['--version'])\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP", "OMP"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{expected} False"
