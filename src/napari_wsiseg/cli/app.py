"""The verbs and their options, as typer reads them; what they do is loaded when it is asked for."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_wsiseg import __version__
from napari_wsiseg.cli.terminal import fail, out, prepare_streams, say
from napari_wsiseg.errors import JobError, WsisegError
from napari_wsiseg.notice import RESEARCH_USE

INTERRUPTED = 130

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


def _remember_verbose(context: typer.Context, value: bool) -> bool:
    context.obj.verbose |= value
    return value


def _show_version(value: bool) -> None:
    if value:
        out(f"napari-wsiseg {__version__}")
        out(RESEARCH_USE)
        raise typer.Exit


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", callback=_remember_verbose, help="Show the traceback of an error."),
]


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    _verbose: Verbose = False,
) -> None:
    """Segment whole slide images, and measure what was found. For research use only."""


@app.command()
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


@app.command()
def info(
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", help="A slide's file or folder.")],
    as_json: AsJson = False,
    _verbose: Verbose = False,
) -> None:
    """Tell a slide's format, size, scale and levels."""
    from napari_wsiseg.cli.info import show_info

    show_info(slide, as_json=as_json)


@app.command("models")
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


_MODEL = "Model"
_WHERE = "Which part of the slide"
_PATCHES = "Patches"
_RESULT = "Result"
_MACHINE = "Machine"


def _option(panel: str, *names: str, metavar: str, text: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel)


def _flag(panel: str, name: str, text: str) -> Any:
    return typer.Option(name, help=text, rich_help_panel=panel)


@app.command("segment")
def segment_command(
    slides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SLIDE...", help="Files, folders of slides, or quoted patterns."),
    ] = None,
    model: Annotated[
        str | None,
        _option(
            _MODEL,
            "--model",
            "-m",
            metavar="NAME",
            text="A name that `models` lists, or a model file.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        _option(
            _MODEL, "--weights", metavar="FILE", text="A weights file in place of the download."
        ),
    ] = None,
    resolution: Annotated[
        str | None,
        _option(
            _MODEL,
            "--resolution",
            metavar="TEXT",
            text="'0.5 mpp', '20x', 'level 1' or 'baseline 0.5'; default: the model's.",
        ),
    ] = None,
    mpp: Annotated[
        str | None,
        _option(
            _MODEL,
            "--mpp",
            metavar="NUMBER",
            text="µm per level-0 pixel where the file does not say: 0.5, or y,x.",
        ),
    ] = None,
    trust: Annotated[
        bool, _flag(_MODEL, "--trust", "Allow a model file that runs code when it is loaded.")
    ] = False,
    tissue: Annotated[
        str | None,
        _option(
            _WHERE,
            "--tissue",
            metavar="HOW",
            text="auto, none (take all), a mask file, or a folder of masks by slide name.",
        ),
    ] = None,
    min_mask_ratio: Annotated[
        float | None,
        _option(
            _WHERE,
            "--min-mask-ratio",
            metavar="PART",
            text="0 to 1: keep a patch when more of it than this is tissue.",
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        _option(
            _WHERE,
            "--region",
            metavar="T,L,H,W",
            text="top,left,height,width in level-0 pixels, or a GeoJSON file; may be repeated.",
        ),
    ] = None,
    patch_input: Annotated[
        str | None,
        _option(
            _PATCHES, "--patch-input", metavar="PX", text="What goes in: 1024, or height,width."
        ),
    ] = None,
    patch_output: Annotated[
        str | None,
        _option(_PATCHES, "--patch-output", metavar="PX", text="What comes out, centred on it."),
    ] = None,
    stride: Annotated[
        str | None,
        _option(_PATCHES, "--stride", metavar="PX", text="From one patch to the next."),
    ] = None,
    window: Annotated[
        str | None,
        _option(
            _PATCHES,
            "--window",
            metavar="HOW",
            text="uniform or gaussian: how patches are weighed where they overlap.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        _option(
            _RESULT,
            "--output",
            "-o",
            metavar="DIR",
            text="Where SLIDE.ome.zarr goes; default: the current folder.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        _option(
            _RESULT, "--dtype", metavar="TYPE", text="uint8, float16 or float32; default: uint8."
        ),
    ] = None,
    save_resolution: Annotated[
        str | None,
        _option(
            _RESULT,
            "--save-resolution",
            metavar="TEXT",
            text="Store coarser, by a whole factor: '1 mpp'.",
        ),
    ] = None,
    on_exists: Annotated[
        str | None,
        _option(
            _RESULT,
            "--on-exists",
            metavar="WHAT",
            text="resume, overwrite or error, when the result is there; default: resume.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        _flag(_RESULT, "--strict", "Stop at the first patch that cannot be read or predicted."),
    ] = False,
    batch_size: Annotated[
        int | None, _option(_MACHINE, "--batch-size", metavar="N", text="Patches a predict call.")
    ] = None,
    device: Annotated[
        str | None,
        _option(_MACHINE, "--device", metavar="NAME", text="auto, cpu, cuda, cuda:1, mps ..."),
    ] = None,
    precision: Annotated[
        str | None,
        _option(_MACHINE, "--precision", metavar="HOW", text="auto, exact, fp32, bf16 or fp16."),
    ] = None,
    memory_threshold: Annotated[
        float | None,
        _option(
            _MACHINE,
            "--memory-threshold",
            metavar="PERCENT",
            text="Of the available memory, before it works from disk; default 80.",
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        _option(_MACHINE, "--memory-limit", metavar="SIZE", text="'2 GB', as a cap beside it."),
    ] = None,
    job: Annotated[
        Path | None,
        typer.Option(
            "--job", metavar="FILE", help="A job as YAML; options given here win over its fields."
        ),
    ] = None,
    patches: Annotated[
        bool,
        typer.Option(
            "--patches",
            help="The SLIDEs are pictures of single patches: writes a label PNG for each.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON a slide, in place of tables.")
    ] = False,
    verbose: Verbose = False,
) -> int:
    """Segment slides: a probability map (OME-Zarr) and a table of areas for each.

    Exit status: 0 done, 1 a slide failed (the others ran), 2 bad usage or input, 3 complete but
    for patches that failed, 130 interrupted (the same command goes on).
    """
    from napari_wsiseg.cli.arguments import find_slides, job_of, one_or_two, places, regions

    def shape(option: str, text: str | None) -> Any:
        return None if text is None else one_or_two(option, text, int)

    settled = job_of(
        job,
        {
            "model": model,
            "weights": weights,
            "resolution": resolution,
            "mpp": None if mpp is None else one_or_two("--mpp", mpp, float),
            "trust": trust or None,
            "tissue": tissue,
            "min_mask_ratio": min_mask_ratio,
            "region": regions(region) if region else None,
            "patch_input_shape": shape("--patch-input", patch_input),
            "patch_output_shape": shape("--patch-output", patch_output),
            "stride_shape": shape("--stride", stride),
            "window": window,
            "dtype": dtype,
            "save_resolution": save_resolution,
            "on_exists": on_exists,
            "strict": strict or None,
            "batch_size": batch_size,
            "device": device,
            "precision": precision,
            "memory_threshold": memory_threshold,
            "memory_limit": memory_limit,
        },
    )
    if slides:
        found = find_slides(slides)
    elif settled.slide is not None:
        found = [settled.slide]
    else:
        raise JobError("There is no slide to segment; name files, folders or patterns.")
    settled, folder = places(settled, output, len(found))
    if patches:
        from napari_wsiseg.cli.patches import segment_pictures

        return segment_pictures(found, settled, folder, as_json=as_json, verbose=verbose)
    from napari_wsiseg.cli.segment import Settings, segment_slides

    return segment_slides(found, Settings(settled, folder, as_json=as_json, verbose=verbose))
