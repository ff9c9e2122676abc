"""The cases of `engine.py`, each of which is run in a process of its own.

Imports stand in the cases: what a case does not need takes no memory from what it measures.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HELD = 32
"""Patches that the model's loop goes round."""


def turns_of_time(slide: str, rounds: int, plain: bool, passes: int = 1) -> dict[str, Any]:
    """Limits and engine in turns on a slide that is tissue all over; the first turn warms up."""
    from limits import decode_once, model_only, patches_in_memory, plain_loop, timed, write_once
    from virtual import TrivialModel

    from napari_wsiseg.config import SegmentationJob
    from napari_wsiseg.engine import plan, run
    from napari_wsiseg.slides import open_slide

    path, model, turns = Path(slide), TrivialModel(passes=passes), []
    with tempfile.TemporaryDirectory() as folder, open_slide(path) as opened:
        settled = plan(SegmentationJob(tissue="none"), opened, model)
        patches = patches_in_memory(opened, settled.grid, _HELD)
        for number in range(rounds + 1):
            job = SegmentationJob(output=Path(folder) / f"{number}.ome.zarr", tissue="none")
            written = Path(folder) / f"{number}"
            written.mkdir()
            results: list[Any] = []
            turn = {
                "decode": decode_once(path),
                "model": model_only(model, patches, settled.batch_size, settled.patches),
                "engine": timed(lambda job=job, to=results: to.append(run(job, opened, model))),
                "write": write_once(results[0], written),
            }
            turns.append({name: vars(cost) for name, cost in turn.items()})
        loop = vars(plain_loop(opened, model, settled.grid)) if plain else None
    return {"patches": settled.patches, "turns": turns[1:], "plain": loop}


def turns_of_tissue(whole: str, half: str, rounds: int) -> dict[str, Any]:
    """A slide of tissue and one that is half glass, in turns, with the tissue found by itself."""
    from limits import timed
    from virtual import TrivialModel

    from napari_wsiseg.config import SegmentationJob
    from napari_wsiseg.engine import plan, run

    model, turns = TrivialModel(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            turn = {}
            for name, path in (("whole", whole), ("half", half)):
                output = Path(folder) / f"{name}{number}.ome.zarr"
                job = SegmentationJob(slide=Path(path), output=output)
                turn[name] = vars(timed(lambda job=job: run(job, model=model)))
            turns.append(turn)
        patches = {
            name: plan(SegmentationJob(slide=Path(path)), model=model).patches
            for name, path in (("whole", whole), ("half", half))
        }
    return {"patches": patches, "turns": turns[1:]}


def memory(slide: str | list[int], limit: str | None) -> dict[str, Any]:
    """Peak memory of a run above the loaded program; a slide's file, or a computed one's size."""
    from peak import Peak
    from virtual import TrivialModel, VirtualSlide

    from napari_wsiseg.config import SegmentationJob
    from napari_wsiseg.engine import plan, run
    from napari_wsiseg.geometry import Size
    from napari_wsiseg.slides import open_slide

    model = TrivialModel()
    opened = open_slide(Path(slide)) if isinstance(slide, str) else VirtualSlide(Size(*slide))
    with tempfile.TemporaryDirectory() as folder, opened:
        output = Path(folder) / "a.ome.zarr"
        job = SegmentationJob(output=output, tissue="none", memory_limit=limit)
        settled = plan(job, opened, model)
        with Peak() as peak:
            result = run(job, opened, model)
        digest = hashlib.sha256()
        for file in sorted(output.rglob("c/**/*")):
            if file.is_file():
                digest.update(f"{file.relative_to(output)}".encode() + file.read_bytes())
        return {
            "peak_mb": peak.bytes / 1e6,
            "plan_mb": settled.memory_bytes / 1e6,
            "patches": settled.patches,
            "seconds": peak.seconds,
            "spilled": bool(result.provenance.get("spilled")),
            "bits": digest.hexdigest()[:16],
            "curve": peak.curve[:: max(1, len(peak.curve) // 400)],
        }


def of_unet(case: str, *arguments: object) -> dict[str, Any]:
    """A case of the UNet's."""
    import unet_runs

    answer: dict[str, Any] = getattr(unet_runs, case)(*arguments)
    return answer


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "time": turns_of_time,
    "tissue": turns_of_tissue,
    "unet": of_unet,
    "memory": memory,
}
