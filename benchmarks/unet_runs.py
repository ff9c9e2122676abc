"""The BCSS UNet in the engine: beside the model alone, beside plain loops, and its maps compared.

Cases of `engine.py`, each run in a process of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from limits import Cost, model_only, patches_in_memory, plain_loop, timed
from unet_weights import weights_in

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import run
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.models import Segmenter, load_model, predict, with_shapes
from napari_wsiseg.slides import Slide, open_slide
from napari_wsiseg.store import ProbabilityMap

BCSS = "fcn_resnet50_unet-bcss"
MPP = 0.25
"""What the model reads: level 0 of the slide is taken for that."""

PATCH, OUTPUT = Size(1024, 1024), Size(512, 512)
FASTEST, EXACT = "engine at its fastest", "engine in exact"
_BAND = 512


def turns_alone(slide: str, rounds: int) -> dict[str, Any]:
    """The model alone on patches in memory and in the engine, as quick as it gets here."""
    turns = []
    with tempfile.TemporaryDirectory() as folder, open_slide(Path(slide), mpp=MPP) as opened:
        model = _model(Path(folder), "auto")
        grid, batch = _began(Path(folder), FASTEST, opened, model)
        fitted = with_shapes(model, grid.patch_input, grid.patch_output)
        count = int(grid.keep.sum())
        patches = patches_in_memory(opened, grid, count)
        for number in range(rounds):
            job = SegmentationJob(output=Path(folder) / f"{number}.ome.zarr", tissue="none")
            turns.append(
                {
                    "model": _told_cost("model only", model_only(fitted, patches, batch, count)),
                    "engine": _told_cost("engine", timed(lambda job=job: run(job, opened, model))),
                }
            )
    return {"patches": _told(grid), "way": _way(model), "turns": turns}


def turns_together(slide: str, rounds: int, sample: int) -> dict[str, Any]:
    """Plain loops and whole runs, in turns; what is asked of each first is off the clock."""
    turns, engines = [], {}
    with tempfile.TemporaryDirectory() as folder, open_slide(Path(slide), mpp=MPP) as opened:
        grid = PatchGrid(opened.info.size, PATCH, OUTPUT, Size(450, 450))
        loops = _loops(Path(folder))
        models = {
            FASTEST: (_model(Path(folder), "auto"), "uint8"),
            EXACT: (_model(Path(folder), "exact"), "float32"),
        }
        for name, (model, _) in models.items():
            wider, _ = _began(Path(folder), name, opened, model)
            engines[name] = f"{_way(model)}, {_told(wider)}"
        patch = patches_in_memory(opened, grid, 1)
        for model in loops.values():
            predict(model, patch)
        for number in range(rounds):
            turn = {}
            for name, model in loops.items():
                turn[name] = _told_cost(name, plain_loop(opened, model, grid, sample))
            for name, (model, dtype) in models.items():
                output = Path(folder) / f"{name} {number}.ome.zarr"
                job = SegmentationJob(output=output, tissue="none", dtype=dtype)
                turn[name] = _told_cost(
                    name, timed(lambda job=job, model=model: run(job, opened, model))
                )
            turns.append(turn)
    return {"turns": turns, "loops": dict.fromkeys(loops, _told(grid)), "engines": engines}


def _began(folder: Path, name: str, slide: Slide, model: Segmenter) -> tuple[PatchGrid, int]:
    """What a run of the model comes to, from one of a corner: the first, which compiles."""
    job = SegmentationJob(
        output=folder / f"{name} first.ome.zarr",
        tissue="none",
        region=Region(0, 0, Size(_BAND, _BAND)),
    )
    results: list[ProbabilityMap] = []
    _told_cost(f"{name}, its first patch", timed(lambda: results.append(run(job, slide, model))))
    return results[0].grid, int(results[0].provenance["batch_size"])


def _told_cost(name: str, cost: Cost) -> dict[str, float]:
    """A cost, which is printed as soon as it is known."""
    print(f"- {name}: {cost.wall:.1f} s, {cost.processor:.1f} of the processor", flush=True)
    return vars(cost)


def _loops(folder: Path) -> dict[str, Segmenter]:
    """What a plain loop may ask, in torch's float32: from the network as it was published on."""
    exact, folded = (_model(folder, precision, "torch") for precision in ("exact", "fp32"))
    return {
        "loop, network as published": with_shapes(exact, PATCH, PATCH),
        "loop, batch norms folded": with_shapes(folded, PATCH, PATCH),
        "loop, so, and only the centre decoded": folded,
    }


def agreement(slide: str, folder: str) -> dict[str, Any]:
    """How far maps lie from that of the plain grid at stride 448; they are kept in the folder."""
    home = Path(folder)
    home.mkdir(exist_ok=True)
    shapes = {"patch_input_shape": 1024, "patch_output_shape": 512}
    plain = {**shapes, "dtype": "float32"}
    jobs: dict[str, tuple[str, Literal["auto", "torch"], dict[str, Any]]] = {
        "stride 448": ("exact", "torch", {**plain, "stride_shape": 448}),
        FASTEST: ("auto", "auto", {}),
        EXACT: ("exact", "auto", {"dtype": "float32"}),
        "stride 450": ("fp32", "auto", {**plain, "stride_shape": 450}),
    }
    rows: dict[str, Any] = {}
    with open_slide(Path(slide), mpp=MPP) as opened:
        maps = {}
        for name, (precision, backend, values) in jobs.items():
            output = home / f"{name.replace(' ', '-')}.ome.zarr"
            model = _model(home, precision, backend)
            maps[name] = run(SegmentationJob(output=output, tissue="none", **values), opened, model)
            row = rows[f"{name}, {_way(model)}"] = _apart(maps[name], maps["stride 448"])
            print(f"- {name}: {row['largest']:.2e}, {100 * row['same']:.4f} % the same", flush=True)
    return rows


def _apart(one: ProbabilityMap, other: ProbabilityMap) -> dict[str, Any]:
    """Largest and mean difference of probabilities, and the part of pixels of the same class."""
    height, width = one.probabilities().shape[1:]
    largest, total, same = 0.0, 0.0, 0
    for top in range(0, height, _BAND):
        a, b = (pm.probabilities()[:, top : top + _BAND].compute() for pm in (one, other))
        difference = np.abs(a - b)
        largest = max(largest, float(difference.max()))
        total += float(difference.sum(dtype=np.float64))
        same += int((a.argmax(0) == b.argmax(0)).sum())
    pixels = height * width
    return {
        "patches": _told(one.grid),
        "largest": largest,
        "mean": total / pixels / len(one.classes),
        "same": same / pixels,
    }


def _model(folder: Path, precision: str, backend: Literal["auto", "torch"] = "auto") -> Segmenter:
    return load_model(
        BCSS, weights=weights_in(folder), device="cpu", precision=precision, backend=backend
    )


def _way(model: Segmenter) -> str:
    return f"{getattr(model, 'backend', '')} {getattr(model, 'precision', '')}"


def _told(grid: PatchGrid) -> str:
    """How many patches of which height and width."""
    (h, w), (oh, ow) = ((s.height, s.width) for s in (grid.patch_input, grid.patch_output))
    return f"{int(grid.keep.sum())} of {h} x {w} -> {oh} x {ow}"
