"""The verb `segment` and its options; what it does is loaded when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_wsiseg.cli.options import Verbose, flag, option
from napari_wsiseg.errors import JobError

_MODEL = "Model"
_WHERE = "Which part of the slide"
_PATCHES = "Patches"
_RESULT = "Result"
_MACHINE = "Machine"


def segment(
    slides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SLIDE...", help="Files, folders of slides, or quoted patterns."),
    ] = None,
    model: Annotated[
        str | None,
        option(
            _MODEL,
            "--model",
            "-m",
            metavar="NAME",
            text="A name that `models` lists, or a model file.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        option(
            _MODEL, "--weights", metavar="FILE", text="A weights file in place of the download."
        ),
    ] = None,
    stains: Annotated[
        str | None,
        option(
            _MODEL,
            "--stains",
            metavar="WHICH",
            text="For stain models: standard, or slide (its own glass level and stain vectors).",
        ),
    ] = None,
    resolution: Annotated[
        str | None,
        option(
            _MODEL,
            "--resolution",
            metavar="TEXT",
            text="'0.5 mpp', '20x', 'level 1' or 'baseline 0.5'; default: the model's.",
        ),
    ] = None,
    mpp: Annotated[
        str | None,
        option(
            _MODEL,
            "--mpp",
            metavar="NUMBER",
            text="µm per level-0 pixel where the file does not say: 0.5, or y,x.",
        ),
    ] = None,
    trust: Annotated[
        bool, flag(_MODEL, "--trust", "Allow a model file that runs code when it is loaded.")
    ] = False,
    tissue: Annotated[
        str | None,
        option(
            _WHERE,
            "--tissue",
            metavar="HOW",
            text="auto, none (take all), a mask file, or a folder of masks by slide name.",
        ),
    ] = None,
    min_mask_ratio: Annotated[
        float | None,
        option(
            _WHERE,
            "--min-mask-ratio",
            metavar="PART",
            text="0 to 1: keep a patch when more of it than this is tissue.",
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        option(
            _WHERE,
            "--region",
            metavar="T,L,H,W",
            text="top,left,height,width in level-0 pixels, or a GeoJSON file; may be repeated.",
        ),
    ] = None,
    patch_input: Annotated[
        str | None,
        option(
            _PATCHES, "--patch-input", metavar="PX", text="What goes in: 1024, or height,width."
        ),
    ] = None,
    patch_output: Annotated[
        str | None,
        option(_PATCHES, "--patch-output", metavar="PX", text="What comes out, centred on it."),
    ] = None,
    stride: Annotated[
        str | None,
        option(_PATCHES, "--stride", metavar="PX", text="From one patch to the next."),
    ] = None,
    window: Annotated[
        str | None,
        option(
            _PATCHES,
            "--window",
            metavar="HOW",
            text="uniform or gaussian: how patches are weighed where they overlap.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        option(
            _RESULT,
            "--output",
            "-o",
            metavar="DIR",
            text="Where SLIDE.ome.zarr goes; default: the current folder.",
        ),
    ] = None,
    alias: Annotated[
        str | None,
        option(
            _RESULT,
            "--alias",
            metavar="NAME",
            text="What one slide is called in place of its file's name; default: by that.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        option(
            _RESULT, "--dtype", metavar="TYPE", text="uint8, float16 or float32; default: uint8."
        ),
    ] = None,
    save_resolution: Annotated[
        str | None,
        option(
            _RESULT,
            "--save-resolution",
            metavar="TEXT",
            text="Store coarser, by a whole factor: '1 mpp'.",
        ),
    ] = None,
    on_exists: Annotated[
        str | None,
        option(
            _RESULT,
            "--on-exists",
            metavar="WHAT",
            text="resume, overwrite or error, when the result is there; default: resume.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        flag(_RESULT, "--strict", "Stop at the first patch that cannot be read or predicted."),
    ] = False,
    batch_size: Annotated[
        int | None, option(_MACHINE, "--batch-size", metavar="N", text="Patches a predict call.")
    ] = None,
    device: Annotated[
        str | None,
        option(_MACHINE, "--device", metavar="NAME", text="auto, cpu, cuda, cuda:1, mps ..."),
    ] = None,
    precision: Annotated[
        str | None,
        option(_MACHINE, "--precision", metavar="HOW", text="auto, exact, fp32, bf16 or fp16."),
    ] = None,
    backend: Annotated[
        str | None,
        option(_MACHINE, "--backend", metavar="NAME", text="auto, torch or openvino."),
    ] = None,
    memory_threshold: Annotated[
        float | None,
        option(
            _MACHINE,
            "--memory-threshold",
            metavar="PERCENT",
            text="Of the available memory, before it works from disk; default 80.",
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        option(_MACHINE, "--memory-limit", metavar="SIZE", text="'2 GB', as a cap beside it."),
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
            "stains": stains,
            "resolution": resolution,
            "mpp": None if mpp is None else one_or_two("--mpp", mpp, float),
            "trust": trust or None,
            "tissue": tissue,
            "min_mask_ratio": min_mask_ratio,
            "region": regions(region, alias) if region else None,
            "patch_input_shape": shape("--patch-input", patch_input),
            "patch_output_shape": shape("--patch-output", patch_output),
            "stride_shape": shape("--stride", stride),
            "window": window,
            "alias": alias,
            "dtype": dtype,
            "save_resolution": save_resolution,
            "on_exists": on_exists,
            "strict": strict or None,
            "batch_size": batch_size,
            "device": device,
            "precision": precision,
            "backend": backend,
            "memory_threshold": memory_threshold,
            "memory_limit": memory_limit,
        },
    )
    if slides:
        found = find_slides(slides, settled.alias)
    elif settled.slide is not None:
        found = [settled.slide]
    else:
        raise JobError("There is no slide to segment; name files, folders or patterns.")
    if settled.alias is not None and (patches or len(found) > 1):
        raise JobError(
            f"--alias {settled.alias!r} is a name for one slide; segment slides that need one "
            "one by one."
        )
    settled, folder = places(settled, output, len(found))
    if patches:
        from napari_wsiseg.cli.patches import segment_pictures

        return segment_pictures(found, settled, folder, as_json=as_json, verbose=verbose)
    from napari_wsiseg.cli.segment import Settings, segment_slides

    return segment_slides(found, Settings(settled, folder, as_json=as_json, verbose=verbose))
