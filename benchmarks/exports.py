"""Time and memory of every export, of `measure` and of the decision, on results of three heights.

    python benchmarks/exports.py                       the tables, as Markdown
    python benchmarks/exports.py --maps FOLDER         keep the results there, and use them again
    python benchmarks/exports.py --only geojson ...    the cases whose names hold one of the words

Peak = most bytes held (resident, not backed by files) above the program, which has exported
a small map before. Each case has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 20_000
HEIGHTS = (5_000, 10_000, 20_000)
CLEANUP = {"min_object_um2": 50, "fill_hole_um2": 50, "smooth_um": 2}


@dataclass(frozen=True)
class Case:
    """Something that is done with a result.

    Parameters
    ----------
    name
        What the table calls it.
    suffix
        Of the file that is written; empty: it goes inside the result, or nothing is written.
    format
        As `export` has it; empty: `measure`.
    options
        Of `export` or `measure`.
    cleans
        Whether labels are cleaned first.
    threshold
        Of all classes.
    """

    name: str
    suffix: str = ""
    format: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    cleans: bool = False
    threshold: float | None = None


BY_OBJECT = {"per": "object"}
CASES = (
    Case("geojson, a class", ".geojson", "geojson"),
    Case("geojson, an object", ".geojson", "geojson", BY_OBJECT),
    Case("geojson, an object, simplified", ".geojson", "geojson", BY_OBJECT | {"simplify_um": 1}),
    Case("annotation-store, an object", ".db", "annotation-store"),
    Case("annotation-store, a class", ".db", "annotation-store", {"per": "class"}),
    Case("ome-tiff, labels", ".ome.tiff", "ome-tiff"),
    Case("ome-tiff, probabilities", ".ome.tiff", "ome-tiff", {"content": "probabilities"}),
    Case("ome-zarr, a copy", ".ome.zarr", "ome-zarr"),
    Case("ome-zarr, inside", "", "ome-zarr"),
    Case("csv", ".csv", "csv"),
    Case("png", ".png", "png"),
    Case("measure"),
    Case("measure, estimate", options={"estimate": True}),
    Case("measure, cleaned", cleans=True),
    Case("measure, cleaned, estimate", options={"estimate": True}, cleans=True),
    Case("measure, threshold 0.5", threshold=0.5),
    Case("measure, threshold 0.5, estimate", options={"estimate": True}, threshold=0.5),
)


def do(case: Case, result: Path, folder: Path) -> dict[str, Any]:
    """Do a case here and now; what it answers is for the table."""
    from virtual import VirtualSlide

    import napari_wsiseg as ws
    from napari_wsiseg.export import export

    cleanup = ws.Cleanup(**CLEANUP) if case.cleans else None
    with ws.ProbabilityMap.open(result) as pm:
        if not case.format:
            rule = ws.DecisionRule(default=case.threshold)
            table = ws.measure(pm, rule, cleanup, **case.options)
            return {"percent": {row.name: row.fraction for row in table.rows}}
        options = dict(case.options)
        if case.format == "png":
            options["slide"] = VirtualSlide(pm.slide_size)
        target = folder / f"export{case.suffix}" if case.suffix else None
        written = export(pm, target, case.format, cleanup=cleanup, overwrite=True, **options)
        return {"mb": _bytes(written) / 1e6}


def one(case: Case, result: Path, folder: Path, small: Path) -> dict[str, Any]:
    """Do a case in this process; a small result before, which loads the program."""
    from peak import Peak

    do(case, small, folder)
    with Peak() as peak:
        answer = do(case, result, folder)
    return {
        "seconds": peak.seconds,
        "processor_seconds": peak.processor_seconds,
        "peak_mb": peak.bytes / 1e6,
        **answer,
    }


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def in_own_process(*arguments: str) -> dict[str, Any]:
    """What this script prints last, as JSON, when it is run with these arguments."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def make(path: Path, width: int, height: int) -> dict[str, Any]:
    """Write a result, unless it is there."""
    from blobs import write_result

    from napari_wsiseg.geometry import Size

    if not path.exists():
        write_result(path, Size(height, width))
    return {"mb": _bytes(path) / 1e6}


def objects_of(path: Path) -> int:
    """Objects in a GeoJSON export of a feature an object: a line each, and two around them."""
    with path.open("rb") as lines:
        return sum(1 for _ in lines) - 2


def exports(maps: Path, words: list[str]) -> None:
    """Print the table of exports and measures."""
    results = {height: maps / f"{WIDTH}x{height}.ome.zarr" for height in HEIGHTS}
    small = maps / "small.ome.zarr"
    in_own_process("make", str(small), "100", "100")
    for height, path in results.items():
        made = in_own_process("make", str(path), str(WIDTH), str(height))
        print(f"- {WIDTH} x {height}: {made['mb']:.0f} MB on disk")
    titles = [f"{what}, {height}" for what in ("s (CPU s)", "peak MB") for height in HEIGHTS]
    print(f"\n| | {' | '.join(titles)} | largest / smallest | file MB |")
    print("|---|" + "---:|" * (len(titles) + 2), flush=True)
    percents: dict[str, list[dict[str, float | None]]] = {}
    counts: list[int] = []
    for index, case in enumerate(CASES):
        if words and not any(word in case.name for word in words):
            continue
        rows = []
        for path in results.values():
            with tempfile.TemporaryDirectory(dir=maps) as folder:
                rows.append(in_own_process("one", str(index), str(path), folder, str(small)))
                if case.name == "geojson, an object":
                    counts.append(objects_of(Path(folder) / f"export{case.suffix}"))
        if not case.format:
            percents[case.name] = [row["percent"] for row in rows]
        peaks = [row["peak_mb"] for row in rows]
        cells = [f"{row['seconds']:.1f} ({row['processor_seconds']:.1f})" for row in rows]
        cells += [f"{peak:.0f}" for peak in peaks]
        cells += [f"{peaks[-1] / peaks[0]:.2f}", f"{rows[-1].get('mb', 0):.0f}"]
        print(f"| {case.name} | {' | '.join(cells)} |", flush=True)
    if counts:
        print(f"\nObjects: {', '.join(f'{count:,}' for count in counts)}.")
    estimates(percents)


def estimates(percents: dict[str, list[dict[str, float | None]]]) -> None:
    """Print how far the estimates are from what they estimate."""
    for name, true in percents.items():
        about = percents.get(f"{name}, estimate", [])
        off = [
            max(abs(guess[row] - part) for row, part in exact.items() if part is not None)
            for exact, guess in zip(true, about, strict=False)
        ]
        if off:
            points = ", ".join(f"{100 * value:.2f}" for value in off)
            print(f"\n{name}: its estimate is at most {points} percentage points off.")


def decisions() -> None:
    """Print how long the labels of a view take, from uint8 in memory, on this one thread."""
    from blobs import SPEC, blobs

    from napari_wsiseg.labels import DecisionRule, decide
    from napari_wsiseg.spec import ModelSpec

    side, rounds = 1250, 101
    values = np.rint(255 * blobs(np.arange(side), side)).astype(np.uint8)
    masks = np.ones((2, side, side), bool)
    some = DecisionRule(thresholds={"Tumour": 0.6, "Stroma": 0.4, "Immune": 0.5})
    sigmoid = ModelSpec("each", SPEC.classes, activation="sigmoid")
    two = ModelSpec("two", ("Background", "Tissue"), background=0)
    cases = (
        ("exclusive", values, SPEC, DecisionRule()),
        ("exclusive, thresholds", values, SPEC, some),
        ("exclusive, a background", values, replace(SPEC, background=4), some),
        ("a class and its background", values[:2], two, DecisionRule()),
        ("independent", values, sigmoid, DecisionRule(default=0.3)),
    )
    print(f"\n| labels of {side} x {side} | median ms | least ms |\n|---|---:|---:|")
    for name, given, spec, rule in cases:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            decide(given, masks[0], masks[1], spec, rule)
            times.append(1e3 * (time.perf_counter() - start))
        print(f"| {name} | {np.median(times):.1f} | {min(times):.1f} |", flush=True)


def main(arguments: argparse.Namespace) -> None:
    """Print all tables."""
    if arguments.maps:
        arguments.maps.mkdir(parents=True, exist_ok=True)
        exports(arguments.maps, arguments.only)
    else:
        with tempfile.TemporaryDirectory() as folder:
            exports(Path(folder), arguments.only)
    if not arguments.only or "labels" in arguments.only:
        os.environ["OMP_NUM_THREADS"] = "1"
        decisions()


if __name__ == "__main__":
    verb, *given = sys.argv[1:] or [""]
    if verb == "make":
        print(json.dumps(make(Path(given[0]), *map(int, given[1:]))))
    elif verb == "one":
        number, *places = given
        print(json.dumps(one(CASES[int(number)], *map(Path, places))))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("--maps", type=Path)
        parser.add_argument("--only", nargs="*", default=[])
        main(parser.parse_args())
