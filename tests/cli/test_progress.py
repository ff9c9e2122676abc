from __future__ import annotations

import io
import os
import signal
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.text import Text

from napari_wsiseg.cli import progress
from napari_wsiseg.cli.interrupt import Interrupt
from napari_wsiseg.engine import Progress


def step(kind="batch", *, row=0, done=0, total=40, elapsed=0.0, eta=None, message=None) -> Progress:
    return Progress(
        kind=kind,
        result=SimpleNamespace(),
        row=row,
        rows=6,
        patches_done=done,
        patches_total=total,
        elapsed=elapsed,
        eta=eta,
        memory=410_000_000,
        message=message,
    )


class TestLines:
    def test_every_row_and_batches_now_and_then(self, capsys):
        lines = progress.Lines()
        for second in range(1, 21):
            lines.show(step(done=second, elapsed=float(second)))
            if second == 12:
                lines.show(step("row", row=1, done=12, elapsed=12.0, eta=28.0))
        printed = capsys.readouterr().err.splitlines()
        assert [line.split(",")[0].strip() for line in printed] == [
            "row 0/6: 5/40 patches",
            "row 0/6: 10/40 patches",
            "row 1/6: 12/40 patches",
            "row 0/6: 17/40 patches",
        ]
        assert printed[2] == "  row 1/6: 12/40 patches, 1/s, 0:28 left, 0.4 GB"

    def test_a_pipe_gets_lines(self, capsys):
        with progress.shown_progress(Interrupt()) as shown:
            shown.show(step("row", row=6, done=40, elapsed=1))
        assert "\r" not in capsys.readouterr().err


class TestBar:
    @pytest.fixture
    def screen(self, monkeypatch) -> io.StringIO:
        text = io.StringIO()
        terminal = Console(file=text, force_terminal=True, width=80, legacy_windows=False)
        monkeypatch.setattr(progress, "console", lambda **_: terminal)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        return text

    def test_it_fits_80_columns_with_large_numbers(self, screen):
        with progress.shown_progress(Interrupt()) as shown:
            shown.show(
                Progress("row", SimpleNamespace(), 103, 206, 123456, 234567, 9e3, 8e3, 34 * 10**8)
            )
        text = Text.from_ansi(screen.getvalue()).plain
        assert "  row 103/206 " in text
        assert "123456/234567 patches, 13.7/s, 2:13:20 left, 3.4 GB" in text

    def test_it_says_at_once_that_it_stops(self, screen):
        interrupt = Interrupt()
        with progress.shown_progress(interrupt) as shown:
            shown.show(step(done=1, elapsed=1))
            interrupt.asked = True
        assert "stopping after this batch" in screen.getvalue()


def test_a_message_is_told_once(capsys):
    told: set[str] = {"Known."}
    for text in ("Known.", "New.", "New."):
        progress.tell(step("warning", message=text), told)
    progress.tell(step("spill", message="Working from disk."), told)
    progress.tell(step(), told)
    assert capsys.readouterr().err == "Warning: New.\n  Working from disk.\n"


class TestInterrupt:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_within_a_run_the_first_only_asks(self, number):
        with Interrupt() as interrupt, interrupt.gently():
            interrupt.gentle = True
            os.kill(os.getpid(), number)
            assert interrupt.asked
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
            with pytest.raises(KeyboardInterrupt):
                interrupt.check()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_elsewhere_it_stops_at_once(self, number):
        with Interrupt() as interrupt:
            with interrupt.gently():
                interrupt.gentle = True
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)

    @pytest.mark.skipif(sys.platform == "win32", reason="no terminal there hangs up")
    def test_nohup_is_heeded(self):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with Interrupt() as interrupt:
                os.kill(os.getpid(), signal.SIGHUP)
                assert not interrupt.asked
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_handlers_are_put_back(self):
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with Interrupt():
            assert signal.getsignal(signal.SIGINT) != before[0]
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
