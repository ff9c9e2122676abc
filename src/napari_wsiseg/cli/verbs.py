"""The light verbs; what they do is loaded when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_wsiseg.cli.options import AsJson, Verbose


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write.")
    ] = Path("wsiseg-demo"),
    real: Annotated[
        bool,
        typer.Option(
            "--real", help="Take a real H&E slide, downloaded once (2 MB), not the made one."
        ),
    ] = False,
    verbose: Verbose = False,
) -> int:
    """Make a small slide, segment it, and show what comes out. Needs no file and no network."""
    from napari_wsiseg.cli.demo import run_demo

    return run_demo(output, real=real, verbose=verbose)


def info(
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", help="A slide's file or folder.")],
    as_json: AsJson = False,
    _verbose: Verbose = False,
) -> None:
    """Tell a slide's format, size, scale and levels."""
    from napari_wsiseg.cli.info import show_info

    show_info(slide, as_json=as_json)


def list_models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Tell all about this one.")
    ] = None,
    as_json: AsJson = False,
    _verbose: Verbose = False,
) -> None:
    """List the models, or tell all about one."""
    from napari_wsiseg.cli.zoo import show_model, show_models

    if name is None:
        show_models(as_json=as_json)
    else:
        show_model(name, as_json=as_json)


def view(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="SLIDE|RESULT...", help="Slides, and results of `segment`."),
    ],
    _verbose: Verbose = False,
) -> int:
    """Open slides and results in napari, with the panel that segments and measures."""
    from napari_wsiseg.cli.view import view_paths

    return view_paths(paths)
