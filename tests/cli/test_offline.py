"""Nothing leaves the machine: with no weights to fetch, a whole run asks no socket for anything."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import napari_wsiseg as ws
from models.unet_cases import state_of
from napari_wsiseg.models.weights import REPOSITORY, REVISION

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


UNET = "fcn-tissue_mask"


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True,
        check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "s.png"
    pixels = np.full((200, 200, 3), 245, np.uint8)
    pixels[40:160, 40:160] = (150, 60, 140)
    Image.fromarray(pixels).save(path)
    return path


def test_a_run_a_measurement_and_an_export_ask_no_socket(slide, tmp_path):
    result = tmp_path / "s.ome.zarr"
    for words in (
        ("segment", slide, "--resolution", "baseline", "-o", tmp_path),
        ("measure", result),
        ("export", result, "--format", "geojson"),
    ):
        told = run(*words)
        assert told.returncode == 0, told.stderr
        assert "NETWORK" not in told.stderr


def test_a_run_by_name_asks_no_socket_where_the_weights_are_in_the_cache(slide, tmp_path):
    cache = tmp_path / "hub"
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    weights = folder / "snapshots" / REVISION / f"{UNET}.pth"
    weights.parent.mkdir(parents=True)
    torch.save(state_of(UNET), weights)
    told = run(*by_name(slide, tmp_path), HF_HUB_CACHE=str(cache))
    assert told.returncode == 0, told.stderr
    assert "NETWORK" not in told.stderr
    with ws.ProbabilityMap.open(tmp_path / "s.ome.zarr") as pm:
        assert pm.spec.name == UNET
        assert pm.coverage[0].compute().all()


def test_without_them_it_would(slide, tmp_path):
    """That the watch sees a request where there is one."""
    told = run(*by_name(slide, tmp_path), HF_HUB_CACHE=str(tmp_path / "hub"))
    assert told.returncode != 0
    assert "NETWORK" in told.stderr
    assert "cannot be downloaded" in told.stderr


def by_name(slide, output):
    small = ("--patch-input", "128,128", "--patch-output", "64,64", "--stride", "64,64")
    return (
        "segment", slide, "-m", UNET, "--resolution", "baseline", "--tissue", "none", *small,
        "-o", output,
    )  # fmt: skip
