"""`segment --patches`: options that would do nothing are refused, not ignored."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsiseg.cli.app import run
from napari_wsiseg.config import SegmentationJob


@pytest.fixture
def picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save("p.png")
    return "p.png"


IDLE = {
    "batch_size": ("--batch-size", "4"),
    "memory_threshold": ("--memory-threshold", "50"),
    "memory_limit": ("--memory-limit", "2 GB"),
    "strict": ("--strict",),
    "tissue": ("--tissue", "none"),
}


@pytest.mark.parametrize("name", IDLE)
def test_an_option_that_does_nothing_is_refused(picture, tmp_path, capsys, name):
    assert run(["segment", "--patches", picture, "-o", "out", *IDLE[name]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"Error: {name} cannot be chosen with --patches: each patch is taken as it is, by itself; "
        "leave it out.\n"
    )
    assert not (tmp_path / "out").exists()


def test_several_are_named_at_once(picture, capsys):
    options = [*IDLE["strict"], *IDLE["batch_size"]]
    assert run(["segment", "--patches", picture, "-o", "out", *options]) == 2
    assert "Error: batch_size, strict cannot be chosen" in capsys.readouterr().err


@pytest.mark.parametrize("values", [{"stains": "slide"}, {"memory_limit": "2 GB"}], ids=str)
def test_a_job_file_is_no_way_round(picture, capsys, values):
    SegmentationJob(**values).to_yaml("job.yaml")
    assert run(["segment", "--patches", picture, "-o", "out", "--job", "job.yaml"]) == 2
    assert f"{next(iter(values))} cannot be chosen" in capsys.readouterr().err


def test_every_field_of_a_job_is_used_or_refused(picture, capsys):
    """A field that is added to jobs later is looked at here too."""
    from napari_wsiseg.cli.patches import _MEANT_FOR_SLIDES

    used = {"slide", "model", "weights", "output", "trust", "on_exists"}
    used |= {"device", "precision", "backend"}
    assert used.isdisjoint(_MEANT_FOR_SLIDES)
    assert used.union(_MEANT_FOR_SLIDES) == set(SegmentationJob.model_fields)


def test_those_that_do_something_are_taken(picture, tmp_path):
    options = ["--model", "tissue", "--device", "cpu", "--precision", "exact", "--backend", "torch"]
    assert run(["segment", "--patches", picture, "-o", "out", *options]) == 0
    assert (tmp_path / "out" / "p-labels.png").exists()
