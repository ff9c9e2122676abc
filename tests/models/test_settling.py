"""The slide's own glass and stains: what is found, when it is taken, and that it is kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

import napari_wsiseg as ws
from napari_wsiseg.errors import JobError, ModelError
from napari_wsiseg.models import (
    STAINS,
    StainVectors,
    check_stains,
    identity,
    predict,
    settle_stains,
    stain_model,
    with_shapes,
    with_stains,
)

Pixels = NDArray[np.uint8]
SQUARE = (slice(200, 360), slice(240, 400))
STANDARD = StainVectors((1, 0, 0), (0, 1, 0))


def dim_slide() -> Pixels:
    """Dim glass, 205 to 207, with one stained square."""
    pixels = np.random.default_rng(0).integers(205, 208, (640, 640, 1), np.uint8).repeat(3, 2)
    pixels[SQUARE] = (150, 90, 140)
    return pixels


def stained(stains: StainVectors, glass: float, side: int = 640) -> Pixels:
    """A patchwork of both stains, alone and together, in a rim of glass; no two rows alike."""
    rng = np.random.default_rng(3)
    cells = rng.choice([(1, 0.05), (0.05, 1), (0.5, 0.5)], (side // 8, side // 8))
    amounts = cells.repeat(8, 0).repeat(8, 1) * rng.uniform(0.3, 0.9, (side, side, 1))
    amounts[: side // 4] = amounts[:, : side // 4] = 0
    vectors = np.array([stains.first, stains.second])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.rint(glass * 10 ** -(amounts @ vectors)).astype(np.uint8)


def job_of(model: str, stains: str = "slide") -> ws.SegmentationJob:
    return ws.SegmentationJob(model=model, stains=stains)


def settled(model: str, pixels: Pixels, stains: str = "slide", **given: object) -> ws.Segmenter:
    """The model as a run asks it."""
    segmenter = ws.load_model(model, device="cpu")
    with ws.open_slide(pixels, mpp=1.0) as slide:
        found = settle_stains(job_of(model, stains), segmenter, slide, **given)
    return with_stains(segmenter, found)


def answer(segmenter: ws.Segmenter, pixels: Pixels) -> NDArray[np.float32]:
    return predict(segmenter, pixels[None])[0]


def cosine(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


class Watched:
    """A picture many times over, that remembers where it was read near 1 µm per pixel."""

    def __init__(self, pixels: Pixels, times: int) -> None:
        self._slide = ws.open_slide(np.tile(pixels, (times, times, 1)), mpp=1.0)
        self.info = self._slide.info
        self.fields: list[ws.Region] = []

    def read_at(self, region, downsample):
        if max(downsample) < 2:
            self.fields.append(region)
        return self._slide.read_at(region, downsample)


class TestGlass:
    @pytest.mark.parametrize("stains", ["standard", "slide"])
    def test_on_dim_glass_only_the_stained_square_is_tissue(self, stains):
        pixels = dim_slide()
        tissue = settled("tissue", pixels, stains)
        found = answer(tissue, pixels)[0] >= tissue.spec.thresholds["Tissue"]
        expected = np.zeros(found.shape, bool)
        expected[SQUARE] = True
        np.testing.assert_array_equal(found, expected)
        assert tissue.parameters == {
            "background": [206.0, 206.0, 206.0],
            "source": "this slide",
        }

    def test_each_colour_has_its_own_level(self):
        pixels = np.full((200, 200, 3), (244, 240, 233), np.uint8)
        assert settled("tissue", pixels).parameters["background"] == [244, 240, 233]

    def test_white_is_taken_where_no_glass_is(self):
        pixels = np.random.default_rng(0).integers(60, 150, (300, 300, 3), np.uint8)
        assert settled("tissue", pixels).parameters == {
            "background": [255.0, 255.0, 255.0],
            "source": "this slide; no glass found, white taken",
        }


class TestStains:
    @pytest.mark.parametrize(("model", "name"), [("he-stain", "H&E"), ("hdab-stain", "H-DAB")])
    def test_a_slide_of_other_light_gives_the_same_answer(self, model, name):
        # Multiples of 5 and of 4: dimming rounds nothing.
        bright = (stained(STAINS[name], 245) // 5 * 5).clip(5)
        dim = (bright // 5 * 4).astype(np.uint8)
        models = [settled(model, pixels) for pixels in (bright, dim)]
        assert models[0].parameters["background"] == [245, 245, 245]
        assert models[1].parameters["background"] == [196, 196, 196]
        one, other = answer(models[0], bright), answer(models[1], dim)
        assert one.std() > 0.05
        np.testing.assert_allclose(one, other, rtol=0, atol=1 / 255)
        # Without it, dim glass is no glass.
        assert np.abs(answer(ws.load_model(model), dim) - one).max() > 10 / 255

    @pytest.mark.parametrize("name", ["H&E", "H-DAB"])
    def test_the_stains_of_the_slide_are_found(self, name):
        known = STAINS[name]
        true = StainVectors(
            tuple(np.add(known.first, (0.1, 0, 0))), tuple(np.add(known.second, (0, 0.1, 0)))
        )
        model = "he-stain" if name == "H&E" else "hdab-stain"
        found = settled(model, stained(true, 240)).parameters
        assert found["background"] == [240, 240, 240]
        assert cosine(found["first"], true.first) > 0.995
        assert cosine(found["second"], true.second) > 0.995
        assert "Macenko" in found["source"]

    def test_only_the_tissue_is_looked_at(self):
        true, ink = STAINS["H-DAB"], StainVectors((0.8, 0.3, 0.5), (0.9, 0.2, 0.4))
        stripes = (np.arange(80) // 4 % 2 == 0)[:, None].repeat(80, 1)
        where = stripes.repeat(8, 0).repeat(8, 1)
        pixels = np.where(where[..., None], stained(true, 240), stained(ink, 240))
        within = settled("hdab-stain", pixels, tissue=stripes).parameters
        everywhere = settled("hdab-stain", pixels).parameters
        assert cosine(within["first"], true.first) > 0.99
        assert cosine(everywhere["first"], true.first) < 0.95

    def test_a_large_slide_is_looked_at_in_a_few_fields(self):
        large = Watched(stained(STAINS["H&E"], 240, 512), times=8)
        found = settle_stains(job_of("he-stain"), None, large)
        assert 8 <= len(large.fields) <= 16
        assert sum(field.size.area for field in large.fields) <= 16 * 256**2
        assert settle_stains(job_of("he-stain"), None, large) == found
        assert cosine(found.first, STAINS["H&E"].first) > 0.99

    def test_so_is_a_piece_of_tissue_on_it(self):
        large = Watched(stained(STAINS["H&E"], 240, 512), times=8)
        piece = np.zeros((64, 64), bool)
        piece[16:32, 32:48] = True
        settle_stains(job_of("he-stain"), None, large, piece)
        box = ws.Region(1024, 2048, ws.Size(1024, 1024))
        assert len(large.fields) > 8
        assert all(field.intersection(box) == field for field in large.fields)

    def test_a_slide_that_shows_no_stains_says_what_to_do(self):
        white = np.full((300, 300, 3), 240, np.uint8)
        with pytest.raises(ModelError, match=r"0 stained pixels; run array with stains='standard'"):
            settled("he-stain", white)

    def test_a_slide_with_one_stain_only_is_not_split_in_two(self):
        # Two shades of hematoxylin, as on a negative control.
        first = STAINS["H-DAB"].first
        shades = StainVectors(tuple(np.add(first, (0.06, 0, 0))), tuple(np.add(first, (0, 0, 0.1))))
        with pytest.raises(ModelError, match="show one of the two stains only"):
            settled("hdab-stain", stained(shades, 240))

    def test_real_slide(self, real_slide):
        with ws.open_slide(real_slide) as slide:
            found = settle_stains(job_of("he-stain"), None, slide)
        assert found.background == (246, 243, 243)
        # Of the whole slide at 1 µm/px: (0.77, 0.54, 0.33) and (0.24, 0.87, 0.44).
        assert cosine(found.first, (0.772, 0.542, 0.332)) > 0.995
        assert cosine(found.second, (0.236, 0.865, 0.444)) > 0.995


class TestWhenTheyAreTaken:
    @pytest.fixture
    def slide(self):
        with ws.open_slide(stained(STAINS["H&E"], 240), mpp=1.0) as slide:
            yield slide

    def test_the_standard_stands_unless_asked(self, slide):
        model = ws.load_model("he-stain")
        assert settle_stains(job_of("he-stain", "standard"), model, slide) is None
        assert with_stains(model, None) is model

    def test_stains_of_a_file_stand(self, slide, tmp_path):
        path = tmp_path / "stains.yaml"
        path.write_text(yaml.safe_dump(STANDARD.provenance()), encoding="utf-8")
        model = ws.load_model("tissue", weights=path)
        assert settle_stains(job_of("tissue", "standard"), model, slide) is None
        with_file = ws.SegmentationJob(model="he-stain", weights=path, stains="slide")
        with pytest.raises(JobError, match="was given its stains"):
            check_stains(with_file)
        with pytest.raises(JobError, match="was given its stains"):
            settle_stains(job_of("he-stain"), stain_model("he-stain", STANDARD), slide)

    def test_a_model_without_stains_is_refused(self, slide):
        class Mine:
            # A name of ours makes no model of ours.
            spec = ws.ModelSpec("he-stain", ("A",))

            def predict(self, patches: torch.Tensor) -> torch.Tensor:
                return patches[:, None, :, :, 0] / 255

        words = "measures no stains, so it cannot take the slide's; leave out stains='slide'"
        with pytest.raises(JobError, match=words) as caught:
            check_stains(job_of("fcn_resnet50_unet-bcss"))
        assert "\n" not in str(caught.value)
        with pytest.raises(JobError, match=words):
            settle_stains(job_of("he-stain"), Mine(), slide)
        assert settle_stains(job_of("tissue", "standard"), Mine(), slide) is None
        with pytest.raises(JobError, match="measures no stains"):
            with_stains(Mine(), STANDARD)

    @pytest.mark.parametrize("model", ["he-stain", "fcn-tissue_mask", "he_stain", "mine.pt"])
    def test_nothing_is_refused_that_was_not_asked_for(self, model):
        check_stains(job_of(model, "standard"))


class TestKept:
    @pytest.mark.parametrize("model", ["he-stain", "hdab-stain", "tissue"])
    def test_what_a_result_was_begun_with_stands(self, model):
        kind = "H&E" if model == "he-stain" else "H-DAB"
        begun = settled(model, stained(STAINS[kind], 240))
        before = json.loads(json.dumps(identity(begun)))
        # The slide would say something else now: nothing of it is looked at.
        again = settled(model, np.full((300, 300, 3), 200, np.uint8), before=before)
        assert identity(again) == before
        assert identity(again) != identity(ws.load_model(model))

    @pytest.mark.parametrize(
        "before",
        [
            None,
            {"name": "he-stain", "parameters": {"background": [200, 200, 200]}},
            {"name": "tissue", "parameters": {"bright": 3}},
            {"name": "tissue", "parameters": {"background": [0, 0, 0]}},
        ],
        ids=["none", "another model", "another thing", "out of range"],
    )
    def test_what_says_nothing_of_it_does_not(self, before):
        assert settled("tissue", dim_slide(), before=before).parameters["background"] == [206] * 3

    @pytest.mark.parametrize("given", [None, STANDARD], ids=["standard", "given"])
    def test_what_was_not_the_slides_does_not(self, given):
        pixels = stained(STAINS["H&E"], 240)
        before = identity(stain_model("he-stain", given))
        assert identity(settled("he-stain", pixels, before=before)) != before
        assert settled("he-stain", pixels, before=before).parameters["background"] == [240] * 3

    def test_other_patch_shapes_keep_them(self):
        model = settled("tissue", dim_slide())
        wide = with_shapes(model, ws.Size(64, 64), ws.Size(64, 64))
        assert identity(wide) == identity(model)
        assert not answer(wide, np.full((64, 64, 3), 206, np.uint8)).any()
