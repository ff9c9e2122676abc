"""Peak memory of runs above the loaded program, each in a process of its own.

    python benchmarks/memory.py            the table
    python benchmarks/memory.py one ...    one run (used by the table)

Columns: peak = most bytes held (resident, not backed by files) above the loaded
program and model; plan = what `ws.plan` foretold; left = temporary files left behind.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = [
    {"name": "8000 wide, 8000 high", "size": [8000, 8000]},
    {"name": "8000 wide, 16000 high", "size": [16000, 8000]},
    {"name": "8000 wide, 32000 high", "size": [32000, 8000]},
    {
        "name": "120000 x 100000, 1 % tissue, automatic mask, threshold 25 %, batch 8",
        "size": [100000, 120000],
        "tissue": 0.01,
        "job": {"tissue": "auto", "memory_threshold": 25, "batch_size": 8},
    },
]


def one(case: dict[str, object]) -> dict[str, object]:
    """Run a case and sample this process's memory while it goes."""
    from peak import Peak
    from virtual import TrivialModel, VirtualSlide

    from napari_wsiseg.config import SegmentationJob
    from napari_wsiseg.engine import plan, segment
    from napari_wsiseg.geometry import Size

    slide = VirtualSlide(Size(*case["size"]), case.get("tissue", 1.0))  # type: ignore[misc,arg-type]
    model = TrivialModel()
    with tempfile.TemporaryDirectory() as folder:
        values = {"tissue": "none"} | case.get("job", {})  # type: ignore[operator]
        job = SegmentationJob(output=Path(folder) / "a.ome.zarr", **values)
        foretold = plan(job, slide, model)
        with Peak() as peak:
            for progress in segment(job, slide, model):
                last = progress
        left = [p.name for p in Path(folder).iterdir() if p.name != "a.ome.zarr"]
        return {
            "peak_mb": peak.bytes / 1e6,
            "plan_mb": foretold.memory_bytes / 1e6,
            "patches": last.patches_done,
            "seconds": peak.seconds,
            "status": last.result.status,
            "left": left,
        }


def main() -> None:
    """Run every case in a process of its own and print the table."""
    heads = f"{'patches':>8s} {'s':>7s} {'ms/patch':>8s} {'peak MB':>8s} {'plan MB':>8s}"
    print(f"{'case':78s} {heads} left")
    for case in CASES:
        command = [sys.executable, __file__, "one", json.dumps(case)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        each = 1e3 * row["seconds"] / max(row["patches"], 1)
        print(
            f"{case['name']:78s} {row['patches']:8d} {row['seconds']:7.1f} {each:8.2f} "
            f"{row['peak_mb']:8.0f} {row['plan_mb']:8.0f} "
            f"{row['left'] or 'nothing'}, {row['status']}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", nargs="?", default="table")
    parser.add_argument("case", nargs="?")
    arguments = parser.parse_args()
    if arguments.verb == "one":
        print(json.dumps(one(json.loads(arguments.case))))
    else:
        main()
