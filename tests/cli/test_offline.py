"""Nothing leaves the machine: with no weights to fetch, a whole run asks no socket for anything."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from PIL import Image

RUN = """
import sys

def no_network(event, args):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        print("NETWORK", event, args, file=sys.stderr)
        raise OSError("there is no network")

sys.addaudithook(no_network)
from napari_wsiseg.cli import main
sys.exit(main())
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_a_run_a_measurement_and_an_export_ask_no_socket(tmp_path):
    slide = tmp_path / "s.png"
    pixels = np.full((200, 200, 3), 245, np.uint8)
    pixels[40:160, 40:160] = (150, 60, 140)
    Image.fromarray(pixels).save(slide)
    result = tmp_path / "s.ome.zarr"
    for words in (
        ("segment", slide, "--resolution", "baseline", "-o", tmp_path),
        ("measure", result),
        ("export", result, "--format", "geojson"),
    ):
        told = run(*words)
        assert told.returncode == 0, told.stderr
        assert "NETWORK" not in told.stderr
