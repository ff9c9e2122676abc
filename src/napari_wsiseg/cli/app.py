"""The command line: its verbs, and how it ends."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from napari_wsiseg._version import __version__
from napari_wsiseg.cli.options import Verbose
from napari_wsiseg.cli.result_verbs import compare, export, measure
from napari_wsiseg.cli.segment_verb import segment
from napari_wsiseg.cli.terminal import INTERRUPTED, fail, out, prepare_streams, say
from napari_wsiseg.cli.verbs import demo, info, list_models, view
from napari_wsiseg.errors import WsisegError
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.threads import let_waiting_threads_sleep

# typer's own click or the package of that name: it depends on typer's version.
_ClickException = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="napari-wsiseg",
    help="Segment whole slide images, and measure what was found. For research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass
class _Asked:
    """What was asked for beside a verb's own options."""

    verbose: bool = False


def run(arguments: list[str] | None = None) -> int:
    """Run the command line on these arguments, `sys.argv`'s by default; the exit status."""
    prepare_streams()
    let_waiting_threads_sleep()
    # Without a handler Python prints what libraries log (tifffile does, of a damaged slide);
    # what of it concerns the user comes as a warning or an error of ours.
    logging.getLogger().addHandler(logging.NullHandler())
    asked = _Asked()
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Not `app()`: it turns Ctrl-C and a closed pipe into its own exits.
        command = typer.main.get_command(app)
        with command.make_context("napari-wsiseg", given, obj=asked) as context:
            status = command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as done:
        return done.exit_code
    except BrokenPipeError:
        return _reader_gone()
    except KeyboardInterrupt:
        say("Interrupted.")
        return INTERRUPTED
    # The last resort: whatever went wrong is one sentence here.
    except Exception as error:  # noqa: BLE001
        if not isinstance(error, _ClickException):
            fail(error, verbose=asked.verbose)
            return 2 if isinstance(error, WsisegError | OSError) else 1
        if usage := _usage(error):
            say(f"Error: {usage}")
        return 2
    return int(status or 0)


def _usage(error: Any) -> str:
    """What typer complains of, as a sentence; empty where it has shown the help instead."""
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    if not text or context is None:
        return text
    return f"{text.rstrip('.')}; see '{context.command_path} --help'."


def _reader_gone() -> int:
    """Whoever read our output has left (`| head`): stop without a word."""
    # Python flushes both once more when it ends, and would complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    return INTERRUPTED


def _show_version(value: bool) -> None:
    if value:
        out(f"napari-wsiseg {__version__}")
        out(RESEARCH_USE)
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    _verbose: Verbose = False,
) -> None:
    """Segment whole slide images, and measure what was found. For research use only."""


for _name, _verb in (
    ("demo", demo),
    ("info", info),
    ("models", list_models),
    ("segment", segment),
    ("export", export),
    ("measure", measure),
    ("compare", compare),
    ("view", view),
):
    app.command(_name)(_verb)
