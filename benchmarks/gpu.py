"""What a run makes of a GPU: model only against engine, memory, agreement, a profile.

    PYTHONPATH=src:tests python benchmarks/gpu.py --out FOLDER      a few minutes on a GPU
    PYTHONPATH=src:tests python benchmarks/gpu.py --small           the same code, on the processor

Model only: patches that are on the device already, in the best batch found, nothing but `predict`.
Engine: `ws.segment` from a slide that costs a memory copy to read, to a finished map on disk.
The slide is a texture; the UNet's weights are made up (`tests/models/deterministic_weights.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Self

import numpy as np
import torch  # noqa: TID253 - it is what is measured
from numpy.typing import NDArray
from peak import Peak
from virtual import TrivialModel, VirtualSlide

import napari_wsiseg as ws
from models.deterministic_weights import deterministic_state_dict
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import RunPlan, plan, segment, stages
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.memory import Workspace
from napari_wsiseg.messages import Band
from napari_wsiseg.models import with_shapes
from napari_wsiseg.models.unet import UNet
from napari_wsiseg.store import MapLayout, MapWriter, ProbabilityMap, RunInfo

NAME = "fcn_resnet50_unet-bcss"
PRECISIONS = ("exact", "fp32", "bf16", "fp16")
OWN = {"patch_input_shape": 1024, "patch_output_shape": 512, "stride_shape": 450}


class CopiedSlide(VirtualSlide):
    """The texture, laid out once: to read it costs a copy."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self._laid = np.tile(self._texture, (9, 9, 1))

    def _read_level(self, _level: int, region: Region) -> NDArray[np.uint8]:
        y, x = region.top % 256, region.left % 256
        return self._laid[y : y + region.size.height, x : x + region.size.width].copy()


class Trivial(TrivialModel):
    """The trivial model, where the benchmark computes."""

    def __init__(self, device: str, patch: int = 512) -> None:
        super().__init__(patch, patch)
        self.device = device

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        return super().predict(patches.to(self.device))


class Dyadic(Trivial):
    """Arithmetic that no device rounds, different at every place: what differs is the engine's."""

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        rgb = patches.to(self.device).permute(0, 3, 1, 2).float()
        place = torch.arange(rgb.shape[-1], device=rgb.device) % 256
        return torch.cat([rgb, rgb[:, :2] + place], dim=1) / 512

    def on(self, device: torch.device) -> Dyadic:
        return Dyadic(str(device))


class Bench:
    """The machine, the models, and what was found."""

    def __init__(self, *, small: bool, out: Path) -> None:
        self.small, self.out = small, out
        self.device = "cpu" if small else "cuda:0"
        self.found: dict[str, object] = {}
        self.weights = Path(tempfile.gettempdir()) / "made-up-weights.pth"
        with torch.device("meta"):
            shapes = {k: tuple(v.shape) for k, v in UNet(5, (3, 3)).state_dict().items()}
        state = deterministic_state_dict(shapes)
        torch.save({k: torch.from_numpy(v) for k, v in state.items()}, self.weights)

    def unet(self, precision: str, device: str | None = None) -> ws.Segmenter:
        return ws.load_model(NAME, self.weights, device or self.device, precision)

    def planned(self, job: SegmentationJob, slide: ws.Slide, model: ws.Segmenter) -> RunPlan:
        settled = plan(job, slide, model)
        return replace(settled, gpus=(self.device,)) if self.small else settled

    def run(
        self,
        slide: ws.Slide,
        model: ws.Segmenter,
        gpus: tuple[str, ...] | None = None,
        **job: object,
    ) -> tuple[dict[str, object], ProbabilityMap]:
        """One run of the engine; the map is in memory, or open in the benchmark's folder."""
        whole = SegmentationJob(tissue="none", **job)  # type: ignore[arg-type]
        settled = self.planned(whole, slide, model)
        if gpus is not None:
            settled = replace(settled, gpus=gpus)
        reset_peak()
        with Peak() as peak:
            for progress in segment(whole, slide, model, settled=settled):
                last = progress
        rows = {
            "patch": str(settled.grid.patch_input),
            "output": str(settled.grid.patch_output),
            "batch": settled.batch_size,
            "patches": last.patches_done,
            "seconds": peak.seconds,
            "ms/patch": 1e3 * peak.seconds / last.patches_done,
            "host peak MB": peak.bytes / 1e6,
            "host plan MB": settled.memory_bytes / 1e6,
            "gpu peak MB": peak_device() / 1e6,
            "gpu plan MB": settled.need.gpu / 1e6,
            "gpus": settled.gpus,
        }
        return rows, last.result

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """One part; that one fails does not cost the rest."""
        start = time.perf_counter()
        try:
            yield
        except Exception:  # noqa: BLE001
            self.found[name] = traceback.format_exc()
        print(f"== {name}: {time.perf_counter() - start:.1f} s", flush=True)
        print(json.dumps(self.found.get(name), indent=1, default=str), flush=True)
        (self.out / "gpu.json").write_text(json.dumps(self.found, indent=1, default=str))


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_device() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def patches_on(device: str, count: int, side: Size) -> torch.Tensor:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, side.height, side.width, 3), np.uint8)
    return torch.from_numpy(pixels).to(device)


def model_only(model: ws.Segmenter, patch: Size, most: int, device: str) -> dict[str, float]:
    """Milliseconds a patch for batches of 1, 2, 4 ...; the median of 7 timings of some calls."""
    found = {}
    count = 1
    while count <= most:
        patches = patches_on(device, count, patch)
        with torch.no_grad():
            for _ in range(3):
                model.predict(patches)
            synchronize()
            samples = []
            for _ in range(2 if device == "cpu" else 7):
                start = time.perf_counter()
                for _ in range(1 if device == "cpu" else 4):
                    model.predict(patches)
                synchronize()
                samples.append((time.perf_counter() - start) / (1 if device == "cpu" else 4))
        found[str(count)] = 1e3 * float(np.median(samples)) / count
        count *= 2
    return found


def differences(one: ProbabilityMap, other: ProbabilityMap) -> dict[str, object]:
    """Stored steps between two maps, of all levels."""
    pairs = [(a.compute(), b.compute()) for a, b in zip(one.levels, other.levels, strict=True)]
    steps = [np.abs(a.astype(float) - b.astype(float)) for a, b in pairs]
    covered = all(
        np.array_equal(a.compute(), b.compute())
        for a, b in zip(one.coverage, other.coverage, strict=True)
    )
    return {
        "largest": max(float(s.max()) for s in steps),
        "part that differs": float((steps[0] > 0).mean()),
        "coverage equal": covered,
    }


def equality(bench: Bench) -> None:
    """The device's map against the host's."""
    side = 700 if bench.small else 1600
    slide = CopiedSlide(Size(side, side + 100))
    found: dict[str, object] = {}
    for label, job in {
        "uniform uint8": {},
        "gaussian uint8": {"window": "gaussian", "stride_shape": 300},
        "scale 2 float16": {"save_resolution": "baseline 0.5", "dtype": "float16"},
        "gaussian float32": {"window": "gaussian", "stride_shape": 300, "dtype": "float32"},
    }.items():
        _, there = bench.run(slide, Dyadic(bench.device), batch_size=5, **job)
        _, here = bench.run(slide, Dyadic("cpu"), gpus=(), batch_size=5, **job)
        found[f"no rounding, {label}"] = differences(there, here)
        _, twice = bench.run(slide, Dyadic(bench.device), (bench.device,) * 2, batch_size=3, **job)
        found[f"no rounding, {label}, two replicas"] = differences(there, twice)
    if not bench.small:
        job = {"resolution": "baseline 1.0", **OWN}
        _, there = bench.run(slide, bench.unet("exact"), **job)
        _, here = bench.run(slide, bench.unet("exact", "cpu"), gpus=(), **job)
        found["UNet exact, GPU against CPU"] = differences(there, here)
        _, twice = bench.run(slide, bench.unet("exact"), (bench.device,) * 2, **job)
        found["UNet exact, two replicas against one"] = differences(there, twice)
    bench.found["equality"] = found


def agreement(bench: Bench) -> None:
    """Each precision against exact, on the same patches."""
    patch = Size(256, 256) if bench.small else Size(1024, 1024)
    patches = patches_on("cpu", 1 if bench.small else 8, patch)
    slide = CopiedSlide(Size(4096, 4096))
    for i in range(len(patches) // 2):  # half noise, half texture
        patches[i] = torch.from_numpy(slide.read_at(Region(37 * i, 11 * i, patch), YX(1, 1)))
    output = Size(patch.height // 2, patch.width // 2)
    answers = {}
    for precision in PRECISIONS[:3] if bench.small else PRECISIONS:
        model = with_shapes(bench.unet(precision), patch, output)
        with torch.no_grad():
            answers[precision] = model.predict(patches.to(bench.device)).float().cpu()
    exact = answers.pop("exact")
    bench.found["agreement with exact"] = {
        precision: {
            "largest difference": float((answer - exact).abs().max()),
            "mean difference": float((answer - exact).abs().mean()),
            "argmax agrees": float((answer.argmax(1) == exact.argmax(1)).float().mean()),
        }
        for precision, answer in answers.items()
    }


def against_model(
    bench: Bench, name: str, model: ws.Segmenter, side: int, most: int = 16, **job: object
) -> None:
    """The engine against the model alone on as many patches of the same shape."""
    slide = CopiedSlide(Size(side, side))
    job = {"resolution": "baseline 1.0", **job}
    settled = bench.planned(SegmentationJob(tissue="none", **job), slide, model)  # type: ignore[arg-type]
    grid = settled.grid
    fitted = with_shapes(model, grid.patch_input, grid.patch_output)
    alone = model_only(fitted, grid.patch_input, most, bench.device)
    best = min(alone.values())
    found: dict[str, object] = {"model only, ms/patch by batch": alone}
    bench.found[name] = found
    with tempfile.TemporaryDirectory() as folder:
        for where in ("memory", "memory", "disk"):
            output = Path(folder) / "a.ome.zarr" if where == "disk" else None
            rows, result = bench.run(slide, model, output=output, **job)
            result.close()
            ratio = best / rows["ms/patch"]  # type: ignore[operator]
            speed = side * side / rows["seconds"] / 1e6  # type: ignore[operator]
            label = f"to {where}" if f"to {where}" not in found else f"to {where}, again"
            found[label] = {"model only / engine": ratio, "map Mpx/s": speed, **rows}


def write_only(bench: Bench) -> None:
    """Rows of 5 classes as a GPU hands them over, into a map: the store's own limit."""
    width, height = (2000, 1024) if bench.small else (22000, 11264)
    slide = CopiedSlide(Size(height, width))
    rng = np.random.default_rng(0)
    shade = np.add.outer(np.arange(512), np.arange(width))[None] // 7
    shade = shade + np.arange(5)[:, None, None] * 30 + rng.integers(0, 8, (5, 512, width))
    values, coverage = shade.astype(np.uint8), np.ones((512, width), bool)
    found = {}
    for where in ("memory", "disk"):
        with tempfile.TemporaryDirectory() as folder, Workspace(10**10, Path(folder)) as workspace:
            output = Path(folder) / "a.ome.zarr" if where == "disk" else None
            job = SegmentationJob(tissue="none", output=output)
            settled = plan(job, slide, Trivial("cpu"))
            layout = MapLayout(
                grid=settled.grid,
                spec=settled.spec,
                dtype="uint8",
                downsample=settled.map_downsample,
                slide_size=settled.info.size,
                slide_bounds=None,
                mpp=settled.map_mpp,
                mpp_source="metadata",
            )
            writer = MapWriter.create(output, layout, RunInfo({}, {}, {}), workspace)
            writer.begin(np.ones(settled.grid.chunk_shape, bool))
            start = time.perf_counter()
            for top in range(0, height, 256):
                rows = slice(top % 512, top % 512 + 256)
                writer.add(Band(top, 0, values[:, rows], coverage[rows]))
                writer.advance(top + 256)
            writer.flush()
            found[f"Mpx/s to {where}"] = width * height / (time.perf_counter() - start) / 1e6
            writer.close("cancelled")
    bench.found["write only"] = found


class Whereabouts:
    """Samples what each thread of the engine is doing."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.005):
            self.looks += 1
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():  # noqa: SLF001
                name = names.get(ident, "")
                if name in {"MainThread", "wsiseg-loader", "wsiseg-map-writer"}:
                    self.seen[name, _own_function(frame)] += 1

    def table(self) -> dict[str, float]:
        """Part of the looks, for what was seen in at least one of fifty."""
        common = {key: count / self.looks for key, count in self.seen.items()}
        return {
            f"{thread}: {function}": round(part, 3)
            for (thread, function), part in sorted(common.items(), key=lambda item: -item[1])
            if part >= 0.02
        }


def _own_function(frame: FrameType | None) -> str:
    """The innermost function of ours, or of a wait."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("napari_wsiseg"):
            return (
                f"{module.removeprefix('napari_wsiseg.')}.{frame.f_code.co_name}:{frame.f_lineno}"
            )
        frame = frame.f_back
    return "elsewhere"


def out_of_memory(bench: Bench) -> None:
    """A batch far too large for the memory that torch is allowed: it is halved, the map stays."""
    predictors = []
    plain = stages.Predictor

    class Noting(plain):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            predictors.append(self)

    slide, model = CopiedSlide(Size(5000, 5000)), bench.unet("exact")
    total = torch.cuda.get_device_properties(0).total_memory
    job = {"resolution": "baseline 1.0", **OWN}
    _, expected = bench.run(slide, model, batch_size=4, **job)
    stages.Predictor = Noting
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(6e9 / total, 1.0))
    try:
        rows, result = bench.run(slide, model, batch_size=64, **job)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        stages.Predictor = plain
    bench.found["out of memory"] = {
        "asked for": rows["batch"],
        "ended with": predictors[0].batch_size,
        "gpu peak MB": rows["gpu peak MB"],
        "against batch 4": differences(result, expected),
    }


def profile(bench: Bench) -> None:
    """Where the GPU's time goes in an engine run, and how much of the time it works."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    model = bench.unet("bf16")
    job = {"resolution": "baseline 1.0", "batch_size": 16, **OWN}
    with Whereabouts() as whereabouts:
        bench.run(CopiedSlide(Size(16000, 16000)), model, **job)
    slide = CopiedSlide(Size(7000, 7000))
    with profiled(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        rows, _ = bench.run(slide, model, **job)
    spans = sorted(
        (e.time_range.start, e.time_range.end)
        for e in record.events()
        if str(e.device_type).endswith("CUDA") and not e.name.startswith("Mem")
    )
    busy, end = 0.0, 0.0
    for start, stop in spans:
        busy += max(stop - max(start, end), 0)
        end = max(end, stop)
    table = record.key_averages().table(
        sort_by="self_cuda_time_total", row_limit=22, max_name_column_width=60
    )
    (bench.out / "profile.txt").write_text(table)
    bench.found["profile"] = {
        "GPU busy, part of first to last kernel": busy / (end - spans[0][0]),
        "threads, part of a longer run": whereabouts.table(),
        **rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="on the processor, tiny")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", help="sections by a word in their names")
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp())
    bench = Bench(small=given.small, out=out)
    big = not given.small
    bench.found["machine"] = {
        "gpu": torch.cuda.get_device_name(0) if big else None,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
    }
    unet = "UNet {}, 1024 to 512, stride 450"
    sections: dict[str, Callable[[str], None]] = {
        unet.format("bf16"): lambda name: against_model(
            bench, name, bench.unet("bf16"), 22000 if big else 500, 16 if big else 1, **OWN
        ),
        "UNet bf16, wide fields": lambda name: against_model(
            bench, name, bench.unet("bf16"), 27000 if big else 500, 1, **({} if big else OWN)
        ),
        "equality": lambda _: equality(bench),
        "write only": lambda _: write_only(bench),
        unet.format("exact"): lambda name: against_model(
            bench, name, bench.unet("exact"), 7000 if big else 500, 8 if big else 1, **OWN
        ),
        "agreement with exact": lambda _: agreement(bench),
    }
    if big:
        sections |= {
            "out of memory": lambda _: out_of_memory(bench),
            "profile": lambda _: profile(bench),
        }
    sections["trivial, 1024"] = lambda name: against_model(
        bench, name, Trivial(bench.device, 1024), 20000 if big else 3000, 16 if big else 2
    )
    for name, part in sections.items():
        if not given.only or any(word in name for word in given.only):
            with bench.section(name):
                part(name)
    bench.weights.unlink()


if __name__ == "__main__":
    main()
