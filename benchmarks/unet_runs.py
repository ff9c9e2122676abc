"""The BCSS UNet in the engine: beside the model alone, beside plain loops, and its maps compared.

Cases of `engine.py`, each run in a process of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from limits import model_only, patches_in_memory, plain_loop, timed
from unet_weights import weights_in

from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import plan, run
from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.models import Segmenter, load_model, predict, with_shapes
from napari_wsiseg.slides import open_slide
from napari_wsiseg.store import ProbabilityMap

BCSS = "fcn_resnet50_unet-bcss"
MPP = 0.25
"""What the model reads: level 0 of the slide is taken for that."""

PATCH, OUTPUT = Size(1024, 1024), Size(512, 512)
FASTEST, FP32 = "engine at its fastest", "engine in float32"
_BAND = 512


def turns_alone(slide: str, rounds: int) -> dict[str, Any]:
    """The model alone on patches in memory and in the engine, as quick as it gets here."""
    turns = []
    with tempfile.TemporaryDirectory() as folder, open_slide(Path(slide), mpp=MPP) as opened:
        model = _model(Path(folder), "auto")
        settled = plan(SegmentationJob(tissue="none"), opened, model)
        grid = settled.grid
        fitted = with_shapes(model, grid.patch_input, grid.patch_output)
        patches = patches_in_memory(opened, grid, settled.patches)
        for number in range(rounds + 1):
            job = SegmentationJob(output=Path(folder) / f"{number}.ome.zarr", tissue="none")
            alone = model_only(fitted, patches, settled.batch_size, settled.patches)
            whole = timed(lambda job=job: run(job, opened, model))
            turns.append({"model": vars(alone), "engine": vars(whole)})
    return {"patches": _told(grid), "way": _way(model), "turns": turns[1:]}


def turns_together(slide: str, rounds: int, sample: int) -> dict[str, Any]:
    """Plain loops and whole runs, in turns; what is asked of each first is off the clock."""
    turns, engines = [], {}
    with tempfile.TemporaryDirectory() as folder, open_slide(Path(slide), mpp=MPP) as opened:
        grid = PatchGrid(opened.info.size, PATCH, OUTPUT, Size(450, 450))
        loops = _loops(Path(folder))
        models = {
            FASTEST: (_model(Path(folder), "auto"), "uint8"),
            FP32: (_model(Path(folder), "fp32"), "float32"),
        }
        patch = patches_in_memory(opened, grid, 1)
        for model in (*loops.values(), *(model for model, _ in models.values())):
            predict(model, patch)
        for number in range(rounds):
            turn = {
                name: vars(plain_loop(opened, model, grid, sample)) for name, model in loops.items()
            }
            for name, (model, dtype) in models.items():
                output = Path(folder) / f"{name} {number}.ome.zarr"
                job = SegmentationJob(output=output, tissue="none", dtype=dtype)
                turn[name] = vars(timed(lambda job=job, model=model: run(job, opened, model)))
                with ProbabilityMap.open(output) as result:
                    engines[name] = f"{_way(model)}, {_told(result.grid)}"
            turns.append(turn)
    return {"turns": turns, "loops": dict.fromkeys(loops, _told(grid)), "engines": engines}


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
    jobs: dict[str, tuple[str, dict[str, Any]]] = {
        "stride 448": ("exact", {**shapes, "stride_shape": 448, "dtype": "float32"}),
        "stride 450": ("fp32", {**shapes, "stride_shape": 450, "dtype": "float32"}),
        FASTEST: ("auto", {}),
        FP32: ("fp32", {"dtype": "float32"}),
    }
    rows: dict[str, Any] = {}
    with open_slide(Path(slide), mpp=MPP) as opened:
        maps = {}
        for name, (precision, values) in jobs.items():
            output = home / f"{name.replace(' ', '-')}.ome.zarr"
            model = _model(home, precision)
            maps[name] = run(SegmentationJob(output=output, tissue="none", **values), opened, model)
            rows[f"{name}, {_way(model)}"] = _apart(maps[name], maps["stride 448"])
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
