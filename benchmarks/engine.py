"""The engine beside what no engine can do without: time, memory, start-up.

    ./scripts/bench                    the tables, as Markdown, and the plot of memory
    ./scripts/bench --quick            the same questions on small slides
    ./scripts/bench --only time half   the tables whose names are given

Limits and engine run in one process, in turns, with the same settings; a ratio is that of the
wall clock within one turn, its spread that of the turns. Each case has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from cases import CASES

from napari_wsiseg.threads import let_waiting_threads_sleep

WIDTHS, HEIGHT = (8000, 16000, 32000), 4000
QUICK_WIDTHS, QUICK_HEIGHT = (4000, 8000), 2000
MEMORY_WIDTH, MEMORY_HEIGHTS = 16000, (8000, 16000, 32000)
QUICK_MEMORY_WIDTH, QUICK_MEMORY_HEIGHTS = 4000, (2000, 4000)
CURVE_WIDTHS, CURVE_HEIGHT = (4000, 8000, 16000, 32000, 64000, 100000), 1024
LIMIT = "300 MB"
TOGETHER, TOGETHER_QUICK = 6000, 2600
PASSES = (4, 16, 64)
"""How many times a model goes over its scores, to cost more."""


def in_own_process(case: str, *arguments: object) -> dict[str, Any]:
    """What a case of this script answers in a process of its own; what it says first is printed."""
    command = [sys.executable, __file__, "--case", case, json.dumps(arguments)]
    line = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in child.stdout or ():
                if not line.startswith("{"):
                    print(line, end="", flush=True)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        sys.exit(child.returncode)
    answer: dict[str, Any] = json.loads(line)
    return answer


class Slides:
    """Makes slides when they are asked for, and keeps them while the tables are made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def __call__(self, width: int, height: int, *, half: bool = False) -> str:
        from tiled_slide import write

        from napari_wsiseg.geometry import Size

        path = self._folder / f"{width}x{height}{'-half' if half else ''}.tif"
        if not path.exists():
            write(path, Size(height, width), half=half)
        return str(path)


def spread(values: list[float], digits: int = 2) -> str:
    """Median, least and greatest."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def time_table(slides: Slides, quick: bool, rounds: int) -> None:
    widths, height = (QUICK_WIDTHS, QUICK_HEIGHT) if quick else (WIDTHS, HEIGHT)
    print("\n| wide | patches | decode | model | write | limit | engine | engine / limit |", end="")
    print(" processor time / limit's | plain loop |")
    print("|---:|---:|---:|---:|---:|---:|---:|---|---|---:|")
    for width in widths:
        first = width == widths[0]
        case = in_own_process("time", slides(width, height), rounds, first)
        plain = f"{1e3 * case['plain']['wall'] / case['patches']:.2f}" if first else ""
        cells = " | ".join([*_milliseconds(case), *_ratios(case)])
        print(f"| {width} | {case['patches']} | {cells} | {plain} |", flush=True)
    print("\nms a patch on the wall clock.")


def models_table(slides: Slides, quick: bool, rounds: int) -> None:
    width, height = (QUICK_WIDTHS[0], QUICK_HEIGHT) if quick else (WIDTHS[0], HEIGHT)
    print("\n| passes | decode | model | write | limit | engine | engine / limit |", end="")
    print(" processor time / limit's |")
    print("|---:|---:|---:|---:|---:|---:|---|---|")
    for passes in PASSES[:2] if quick else PASSES:
        case = in_own_process("time", slides(width, height), rounds, False, passes)
        cells = " | ".join([*_milliseconds(case), *_ratios(case)])
        print(f"| {passes} | {cells} |", flush=True)
    print("\nms a patch on the wall clock, of models that go over their scores so many times.")


_LIMITS = ("decode", "model", "write")


def _milliseconds(case: dict[str, Any]) -> list[str]:
    """What decoding, model, writing, these together and the engine take a patch."""
    walls = [{part: cost["wall"] for part, cost in turn.items()} for turn in case["turns"]]
    rows = [{**wall, "limit": sum(wall[part] for part in _LIMITS)} for wall in walls]
    each = 1e3 / case["patches"]
    parts = (*_LIMITS, "limit", "engine")
    return [f"{each * median(row[part] for row in rows):.2f}" for part in parts]


def _ratios(case: dict[str, Any]) -> list[str]:
    """The engine's time over the limit's, on the wall clock and of the processor."""
    return [
        spread([t["engine"][kind] / sum(t[part][kind] for part in _LIMITS) for t in case["turns"]])
        for kind in ("wall", "processor")
    ]


def half_table(slides: Slides, quick: bool, rounds: int) -> None:
    width, height = (QUICK_WIDTHS[-1], QUICK_HEIGHT) if quick else (WIDTHS[1], 2 * HEIGHT)
    case = in_own_process("tissue", slides(width, height), slides(width, height, half=True), rounds)
    print("\n| tissue, found by itself | patches | s | half / whole |\n|---|---:|---:|---|")
    for name in ("whole", "half"):
        seconds = [turn[name]["wall"] for turn in case["turns"]]
        ratios = [turn["half"]["wall"] / turn["whole"]["wall"] for turn in case["turns"]]
        cell = spread(ratios) if name == "half" else ""
        print(f"| {name} | {case['patches'][name]} | {median(seconds):.2f} | {cell} |", flush=True)


def unet_table(slides: Slides, quick: bool, rounds: int) -> None:
    side = 2000 if quick else 6000
    print()
    case = in_own_process("unet", "turns_alone", slides(side, side), max(1, rounds // 2))
    turns = case["turns"]
    walls, processors = (
        spread([turn["engine"][kind] / turn["model"][kind] for turn in turns], 3)
        for kind in ("wall", "processor")
    )
    alone, whole = (median(turn[part]["wall"] for turn in turns) for part in ("model", "engine"))
    print("\n| UNet | patches | model only, s | engine, s | engine / model | processor time |")
    print("|---|---|---:|---:|---|---|")
    print(
        f"| {case['way']} | {case['patches']} | {alone:.1f} | {whole:.1f} | {walls} "
        f"| {processors} |",
        flush=True,
    )


def together_table(slides: Slides, quick: bool, rounds: int) -> None:
    side, sample = (TOGETHER_QUICK, 4) if quick else (TOGETHER, 6)
    print()
    case = in_own_process("unet", "turns_together", slides(side, side), max(1, rounds // 2), sample)
    turns, loops, engines = case["turns"], case["loops"], case["engines"]
    walls = {name: [turn[name]["wall"] for turn in turns] for name in (*loops, *engines)}
    print(
        f"\n| {side} x {side} px | patches | s |", " | ".join(f"{n}, times" for n in engines), "|"
    )
    print("|---|---|---|" + "---|" * len(engines))
    for name, patches in loops.items():
        ratios = [
            spread([a / b for a, b in zip(walls[name], walls[engine], strict=True)], 1)
            for engine in engines
        ]
        print(f"| {name} | {patches} | {spread(walls[name], 1)} | {' | '.join(ratios)} |")
    for name, patches in engines.items():
        print(f"| {name} | {patches} | {spread(walls[name], 1)} |{' |' * len(engines)}", flush=True)
    print(f"\nOf a loop, {sample} patches a turn are timed, spread over the slide; s are for all.")


def agreement_table(slides: Slides, quick: bool, rounds: int) -> None:  # noqa: ARG001 - as the others
    side = TOGETHER_QUICK if quick else TOGETHER
    slide = slides(side, side)
    maps = Path(slide).with_suffix(".maps")
    print()
    rows = in_own_process("unet", "agreement", slide, str(maps))
    print("\n| map | patches | largest difference | mean | same most probable class |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['patches']} | {row['largest']:.1e} | {row['mean']:.1e} "
            f"| {100 * row['same']:.3f} % |",
            flush=True,
        )
    print("\nFrom the map of patches of 1024 -> 512 at stride 448, in exact arithmetic.")


def memory_table(slides: Slides, quick: bool, rounds: int) -> None:  # noqa: ARG001 - as the others
    from memory_plot import draw

    width = QUICK_MEMORY_WIDTH if quick else MEMORY_WIDTH
    heights = QUICK_MEMORY_HEIGHTS if quick else MEMORY_HEIGHTS
    print("\n| slide | limit | peak MB | plan MB | ms a patch | went to disk | bits |")
    print("|---|---|---:|---:|---:|---|---|")
    curves = {}
    for height, limit in [*((height, None) for height in heights), (heights[0], LIMIT)]:
        case = in_own_process("memory", slides(width, height), limit)
        _memory_row(f"{width} x {height}", limit, case)
        curves[f"{width} x {height}, {limit or 'no limit'}"] = case["curve"]
    peaks = {}
    for wide in CURVE_WIDTHS[:2] if quick else CURVE_WIDTHS:
        case = in_own_process("memory", [CURVE_HEIGHT, wide], None)
        _memory_row(f"{wide} x {CURVE_HEIGHT}, computed", None, case)
        peaks[wide] = (case["peak_mb"], case["plan_mb"])
    target = Path(__file__).parent / "results" / "engine-memory.png"
    if not quick:
        draw(curves, peaks, target)


def _memory_row(name: str, limit: str | None, case: dict[str, Any]) -> None:
    print(
        f"| {name} | {limit or ''} | {case['peak_mb']:.0f} | {case['plan_mb']:.0f} "
        f"| {1e3 * case['seconds'] / case['patches']:.2f} "
        f"| {'yes' if case['spilled'] else ''} | {case['bits']} |",
        flush=True,
    )


def start_table(slides: Slides, quick: bool, rounds: int) -> None:  # noqa: ARG001 - as the others
    slide = slides(QUICK_WIDTHS[0], QUICK_HEIGHT)
    print("\n| start-up | s, of 5 |\n|---|---|")
    for name, arguments in (
        ("python alone", ["-c", "pass"]),
        ("import napari_wsiseg", ["-c", "import napari_wsiseg"]),
        ("napari-wsiseg info SLIDE", ["-m", "napari_wsiseg", "info", slide]),
    ):
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
        print(f"| {name} | {spread(seconds)} |", flush=True)


def pieces_table(slides: Slides, quick: bool, rounds: int) -> None:  # noqa: ARG001 - as the others
    file = Path(__file__).with_name("pieces.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    most = ["--benchmark-max-time=0.2"] if quick else []
    columns = "--benchmark-columns=min,median,max,rounds"
    if status := subprocess.call([*command, columns, *most]):
        sys.exit(status)


TABLES = {
    "time": time_table,
    "models": models_table,
    "half": half_table,
    "unet": unet_table,
    "together": together_table,
    "agreement": agreement_table,
    "memory": memory_table,
    "start": start_table,
    "pieces": pieces_table,
}


def machine() -> str:
    """Processor, cores, memory and versions."""
    import psutil
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    gigabytes = psutil.virtual_memory().total / 1e9
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{name}, {os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads; load {load:.1f} at the start."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small slides, two turns")
    parser.add_argument("--only", nargs="*", choices=TABLES, default=list(TABLES))
    parser.add_argument("--rounds", type=int, help="turns that count (5; 2 with --quick)")
    parser.add_argument("--slides", type=Path, help="keep the slides here for the next time")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    # As the command line does, and limits and loops alike.
    let_waiting_threads_sleep()
    if given.case:
        name, arguments = given.case
        print(json.dumps(CASES[name](*json.loads(arguments))))
        return
    print(machine(), flush=True)
    rounds = given.rounds or (2 if given.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        slides = Slides(given.slides or Path(folder))
        for name in given.only:
            TABLES[name](slides, given.quick, rounds)


if __name__ == "__main__":
    main()
