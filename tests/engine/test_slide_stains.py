"""The slide's own glass and stains through a whole run: used, kept, gone on with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import immunohistochemistry

import napari_wsiseg as ws
from napari_wsiseg.models import stain_model

SQUARE = (slice(128, 256), slice(192, 320))


def dim_slide() -> NDArray[np.uint8]:
    """Dim glass, 205 to 207, with one stained square."""
    pixels = np.random.default_rng(0).integers(205, 208, (512, 512, 1), np.uint8).repeat(3, 2)
    pixels[SQUARE] = (150, 90, 140)
    return pixels


def stained_slide() -> NDArray[np.uint8]:
    pixels = np.tile(immunohistochemistry(), (1, 2, 1))
    pixels[:, 700:] = 240
    return pixels


def job_for(**values: object) -> ws.SegmentationJob:
    return ws.SegmentationJob(**{"tissue": "none", "resolution": "baseline", "mpp": 0.5, **values})


def test_on_dim_glass_only_the_stained_square_is_tissue(tmp_path) -> None:
    output = tmp_path / "a.ome.zarr"
    job = job_for(model="tissue", output=output)
    with ws.run(job, dim_slide()) as result:
        tissue = result.probabilities().compute()[0] >= result.spec.thresholds["Tissue"]
        expected = np.zeros(tissue.shape, bool)
        expected[SQUARE] = True
        np.testing.assert_array_equal(tissue, expected)
        parameters = result.provenance["model"]["parameters"]
        assert parameters == {"background": [206.0] * 3, "source": "this slide"}
        assert result.info.identity["model"]["parameters"] == parameters
    plan = ws.plan(job, dim_slide())
    assert plan.stains.background == (206.0, 206.0, 206.0)
    assert plan.patches == 0, "it is the same run"


def test_a_region_first_and_the_rest_later_measure_by_the_same(tmp_path, monkeypatch) -> None:
    output = tmp_path / "a.ome.zarr"
    job = job_for(model="hdab-stain", stains="slide", output=output)
    part = job.model_copy(update={"region": (ws.Region(0, 0, ws.Size(100, 100)),)})
    ws.run(part, stained_slide()).close()

    def nobody_looks(*_: object) -> None:
        raise AssertionError("what is settled is not settled again")

    with monkeypatch.context() as patch:
        patch.setattr("napari_wsiseg.slides.overview.read_overview", nobody_looks)
        with ws.run(job, stained_slide()) as result:
            later = result.levels[0].compute()
    with ws.run(job_for(model="hdab-stain", stains="slide"), stained_slide()) as whole:
        np.testing.assert_array_equal(whole.levels[0].compute(), later)
        assert whole.info.identity == result.info.identity
        assert whole.job["stains"] == "slide"


@pytest.mark.parametrize("other", [{"stains": "standard"}, {"model": "he-stain"}], ids=str)
def test_other_stains_are_another_run(tmp_path, other) -> None:
    job = job_for(model="hdab-stain", stains="slide", output=tmp_path / "a.ome.zarr")
    ws.run(job, stained_slide()).close()
    with pytest.raises(ws.StoreError, match="cannot be continued: it differs in model"):
        ws.run(job.model_copy(update=other), stained_slide())


def test_a_plan_made_without_the_model_is_run_as_it_was_shown(tmp_path) -> None:
    job = job_for(model="tissue")
    plan = ws.plan(job, dim_slide())
    *_, last = ws.segment(job, dim_slide(), settled=plan)
    assert last.result.provenance["model"]["parameters"]["background"] == [206.0] * 3


def test_a_model_without_stains_is_refused_before_anything_is_loaded(tmp_path) -> None:
    # No weights are here, and none are asked for.
    job = job_for(model="fcn-tissue_mask", stains="slide", output=tmp_path / "a.ome.zarr")
    for ask in (ws.plan, ws.run):
        with pytest.raises(ws.JobError, match="measures no stains"):
            ask(job, dim_slide())
    given = stain_model("tissue", ws.plan(job_for(model="tissue"), dim_slide()).stains)
    with pytest.raises(ws.JobError, match="was given its stains"):
        ws.run(job, dim_slide(), given)
    assert list(tmp_path.iterdir()) == []
