"""Tissue against glass, on slides made for it, on a real micrograph and on a real slide."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pytest
import skimage.data
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage as ndi

from napari_wsiseg.config import TissueOptions
from napari_wsiseg.errors import JobError, SlideError
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.slides import Level, SlideInfo, open_slide
from napari_wsiseg.tissue import find_tissue, load_tissue, tissue_for
from napari_wsiseg.tissue.shapes import grown

MPP = 4.0
SHAPE = (600, 800)
HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.2159, 0.8012, 0.5581])
BLUE, GREEN, RED, BLACK = (30, 60, 160), (20, 120, 60), (215, 25, 30), (20, 20, 22)


def ellipse(centre=(300, 300), radii=(160, 200)):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1


def he_slide(glass=243, where=None, strength=1.0, noise=2.0, seed=0):
    """H&E-like tissue where `where` is, glass elsewhere, with a scanner's noise."""
    rng = np.random.default_rng(seed)
    nuclei, fibres = (ndi.gaussian_filter(rng.random(SHAPE), 1.5) for _ in range(2))
    amounts = [(a - a.min()) / (a.max() - a.min()) for a in (nuclei, fibres)]
    density = strength * (
        0.7 * amounts[0][..., None] * HEMATOXYLIN + 0.6 * amounts[1][..., None] * EOSIN
    )
    density[~(ellipse() if where is None else where)] = 0
    rgb = glass * 10**-density + rng.normal(0, noise, (*SHAPE, 3))
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def find(rgb, mpp=MPP, **options):
    with open_slide(rgb, mpp=mpp) as slide:
        return find_tissue(slide, TissueOptions(**options))


def on_slide(tissue):
    """The mask in the slide's own pixels."""
    return np.asarray(Image.fromarray(tissue.mask).resize(SHAPE[::-1], Image.Resampling.NEAREST))


def agreement(tissue, truth):
    """Intersection over union."""
    found = on_slide(tissue)
    return (found & truth).sum() / (found | truth).sum()


def as_jpeg(rgb, quality):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


class TestFind:
    @pytest.mark.parametrize("glass", [255, 243, 220, 190])
    def test_follows_the_glass_however_dim(self, glass):
        tissue = find(he_slide(glass), dilate_um=0)
        assert abs(tissue.parameters["glass_level"] - glass) <= 2
        assert agreement(tissue, ellipse()) > 0.95
        assert tissue.warnings == ()

    def test_covers_the_slide_near_8_um_per_pixel(self):
        tissue = find(he_slide()[:, :777], mpp=(4.0, 2.0))
        assert tissue.mask.shape == (300, 194)
        assert tissue.mask.dtype == bool
        assert tissue.parameters["mpp"] == [8.0, 777 * 2.0 / 194]

    @pytest.mark.parametrize("quality", [30, 75])
    def test_jpeg_noise_on_glass_is_no_tissue(self, quality):
        tissue = find(as_jpeg(he_slide(noise=4), quality), dilate_um=0)
        assert agreement(tissue, ellipse()) > 0.94

    def test_noisy_glass_alone_is_no_tissue(self):
        tissue = find(as_jpeg(he_slide(where=np.zeros(SHAPE, bool), noise=4), 40))
        assert not tissue.mask.any()
        assert len(tissue.warnings) == 1
        assert "No tissue" in tissue.warnings[0]

    @pytest.mark.parametrize("level", [255, 254, 230])
    def test_a_uniform_slide_is_empty_with_a_warning(self, level):
        tissue = find(np.full((*SHAPE, 3), level, np.uint8))
        assert not tissue.mask.any()
        assert any("No tissue" in text for text in tissue.warnings)

    def test_a_black_slide_is_empty_with_warnings(self):
        tissue = find(np.zeros((*SHAPE, 3), np.uint8))
        assert not tissue.mask.any()
        assert any("No tissue" in text for text in tissue.warnings)

    @pytest.mark.parametrize("level", [255, 230])
    def test_so_is_a_tiny_one(self, level):
        tissue = find(np.full((60, 60, 3), level, np.uint8), mpp=0.5)
        assert tissue.mask.size == 16
        assert not tissue.mask.any()

    def test_a_few_cells_in_a_tiny_picture_are_tissue(self):
        # 60 x 60 µm of tissue in 240 x 240 µm: less than `min_object_um2`.
        rgb = np.full((240, 240, 3), 243, np.uint8)
        rgb[88:148, 88:148] = (150, 60, 130)
        tissue = find(rgb, mpp=1.0)
        assert tissue.mask[14, 14]
        assert not tissue.mask[0, 0]

    @pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3, 2)])
    def test_tiny_slides_do_not_crash(self, shape):
        tissue = find(np.full((*shape, 3), 200, np.uint8), mpp=0.5)
        assert tissue.mask.ndim == 2

    def test_white_filling_does_not_hide_dim_glass(self):
        rgb = he_slide(215)
        rgb[:, 600:] = 255
        tissue = find(rgb, dilate_um=0)
        assert abs(tissue.parameters["glass_level"] - 215) <= 2
        assert agreement(tissue, ellipse()) > 0.95

    def test_pale_tissue_is_found(self):
        tissue = find(he_slide(strength=0.25), dilate_um=0)
        assert agreement(tissue, ellipse()) > 0.9

    def test_fat_is_found_with_its_empty_cells(self):
        # Adipocytes: white discs of 90 µm in thin membranes.
        y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
        cells = ((y % 24 - 12) ** 2 + (x % 24 - 12) ** 2) < 11**2
        tissue = find(he_slide(where=ellipse() & ~cells), dilate_um=0)
        assert agreement(tissue, ellipse()) > 0.85

    def test_tissue_everywhere_is_said(self):
        tissue = find(he_slide(where=np.ones(SHAPE, bool)))
        assert tissue.fraction == 1
        assert any("1 %" in text for text in tissue.warnings)

    def test_a_stained_micrograph_without_glass_is_tissue(self):
        with open_slide(skimage.data.immunohistochemistry()) as slide:
            tissue = find_tissue(slide)
        assert tissue.fraction > 0.9
        assert tissue.parameters["mpp_assumed"]
        assert any("no scale" in text for text in tissue.warnings)

    @pytest.mark.parametrize("mpp", [0.25, 0.5])
    def test_so_it_is_at_other_scales(self, mpp):
        assert find(skimage.data.immunohistochemistry(), mpp=mpp).fraction > 0.9

    def test_bounds_leave_out_what_was_not_scanned(self):
        rgb = he_slide()
        slide = FixedSlide(rgb, bounds=Region(0, 0, Size(600, 300)))
        assert not on_slide(find_tissue(slide))[:, 304:].any()

    def test_real_slide(self, real_slide):
        with open_slide(real_slide) as slide:
            tissue = find_tissue(slide)
        assert tissue.mask.shape == (185, 138)
        assert tissue.warnings == ()
        assert tissue.parameters["ink_fraction"] == 0
        assert 0.40 < tissue.fraction < 0.46
        # By eye, at 8 µm/px: dermis, epidermis, the keratin of a cyst; glass on both sides.
        for row, column in ((150, 50), (100, 65), (85, 85), (66, 30)):
            assert tissue.mask[row, column], (row, column)
        for row, column in ((10, 10), (150, 10), (40, 120), (180, 130), (30, 40)):
            assert not tissue.mask[row, column], (row, column)


class TestInk:
    @pytest.mark.parametrize("colour", [BLUE, GREEN, RED, BLACK])
    def test_pen_marks_are_left_out(self, colour):
        rgb = he_slide()
        pen = np.zeros(SHAPE, bool)
        pen[40:560, 700:740] = pen[20:40, 600:740] = True
        soft = ndi.gaussian_filter(pen.astype(float), 2)[..., None]
        rgb = np.rint(rgb * (1 - soft) + np.array(colour) * soft).astype(np.uint8)
        tissue = find(rgb, dilate_um=0)
        assert not on_slide(tissue)[:, 580:].any()
        assert agreement(tissue, ellipse()) > 0.95
        assert on_slide(find(rgb, leave_out_ink=False))[pen].mean() > 0.9

    def test_black_edges_are_left_out(self):
        rgb = he_slide()
        rgb[:30] = rgb[:, :40] = 8
        tissue = find(rgb, dilate_um=0)
        assert agreement(tissue, ellipse()) > 0.95
        assert tissue.parameters["ink_fraction"] > 0.05

    def test_ink_stays_out_when_tissue_grows(self):
        rgb = he_slide()
        rgb[200:400, 505:560] = BLUE
        assert not on_slide(find(rgb, dilate_um=200))[200:400, 508:556].any()

    def test_dense_stains_are_no_ink(self):
        dense = he_slide(strength=2.2)
        assert find(dense).parameters["ink_fraction"] == 0
        brown = skimage.data.immunohistochemistry()
        for mpp in (2.0, 8.0):
            assert find(brown, mpp=mpp).parameters["ink_fraction"] == 0

    def test_a_dot_of_ink_costs_no_tissue(self):
        rgb = he_slide()
        rgb[295:305, 295:305] = GREEN
        assert on_slide(find(rgb))[300, 300]


class TestCleaning:
    def test_small_objects_go_and_small_holes_close(self):
        where = ellipse()
        where[300:330, 300:330] = False  # 120 x 120 µm
        where[20:40, 700:720] = True  # 80 x 80 µm
        truth = ellipse()
        assert agreement(find(he_slide(where=where), dilate_um=0), truth) > 0.95
        kept = on_slide(find(he_slide(where=where), dilate_um=0, min_object_um2=0, fill_hole_um2=0))
        assert kept[30, 710]
        assert not kept[315, 315]

    def test_growth_is_round_and_in_um(self):
        where = np.zeros(SHAPE, bool)
        where[280:320, 380:420] = True
        plain = find(he_slide(where=where), dilate_um=0, min_object_um2=0)
        grown = find(he_slide(where=where), dilate_um=80, min_object_um2=0)
        away = ndi.distance_transform_edt(~plain.mask, sampling=grown.parameters["mpp"])
        np.testing.assert_array_equal(grown.mask, away <= 80)
        assert grown.mask.sum() > plain.mask.sum()

    @given(
        mask=arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 12))),
        um=st.floats(0, 60),
        mpp=st.tuples(st.floats(1, 20), st.floats(1, 20)),
        rows=st.integers(1, 9),
    )
    def test_growth_in_bands_is_growth_of_the_whole(self, mask, um, mpp, rows):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("napari_wsiseg.tissue.shapes._BAND_ROWS", rows)
            found = grown(mask, um, YX(*mpp))
        expected = ndi.distance_transform_edt(~mask, sampling=mpp) <= um if mask.any() else mask
        np.testing.assert_array_equal(found, expected)


class FixedSlide:
    """Pixels of which some may be unreadable, or outside what was scanned.

    `broken` is in the slide's own pixels.
    """

    def __init__(self, rgb, bounds=None, broken=None, tile=64):
        self._rgb = rgb
        size = Size(*rgb.shape[:2])
        level = Level(size, YX(1.0, 1.0), Size(tile, tile))
        self.info = SlideInfo(
            None, size, YX(MPP, MPP), "user", None, (level,), "test", bounds, "0" * 16
        )
        self._broken = broken

    def read_at(self, region, downsample):
        if self._broken is not None:
            y, x = (round(factor) for factor in downsample)
            own = Region.from_bounds(
                region.top * y, region.left * x, region.bottom * y, region.right * x
            )
            if not own.intersection(self._broken).is_empty:
                raise SlideError("tile 3, 4 is damaged.")
        with open_slide(self._rgb) as slide:
            return slide.read_at(region, downsample)


class VastSlide:
    """100000 x 100000 px, one level, never whole in memory; remembers what was asked for."""

    def __init__(self):
        size = Size(100_000, 100_000)
        level = Level(size, YX(1.0, 1.0), Size(256, 256))
        self.info = SlideInfo(
            None, size, YX(0.25, 0.25), "metadata", 40, (level,), "test", None, "0" * 16
        )
        self.largest = 0

    def read_at(self, region, downsample):
        self.largest = max(self.largest, round(region.size.area * downsample.y * downsample.x))
        out = np.full((region.size.height, region.size.width, 3), 240, np.uint8)
        rows, columns = np.mgrid[region.top : region.bottom, region.left : region.right]
        out[(rows // 50 % 9 == 0) & (columns // 50 % 9 == 0)] = (150, 60, 130)
        return out


class TestReading:
    def test_a_vast_slide_is_read_in_parts(self):
        slide = VastSlide()
        tissue = find_tissue(slide)
        assert slide.largest <= 2100**2
        assert tissue.mask.size <= 8_100_000
        assert 0 < tissue.fraction < 0.1

    def test_a_vast_slide_without_a_scale_too(self):
        slide = VastSlide()
        slide.info = SlideInfo(
            None, slide.info.size, None, None, None, slide.info.levels, "test", None, "0" * 16
        )
        assert find_tissue(slide).mask.size <= 8_100_000
        assert slide.largest <= 2100**2

    @pytest.mark.parametrize(
        ("tile", "row", "column", "share"),
        [(64, 0, 2, "0.9%"), (64, 4, 4, "0.9%"), (16, 0, 5, "Less than 0.1%")],
        ids=["on glass", "in the tissue", "tiny"],
    )
    def test_only_the_tile_that_cannot_be_read_is_kept_and_said(self, tile, row, column, share):
        broken = Region(row * tile, column * tile, Size(tile, tile))
        tissue = find_tissue(FixedSlide(he_slide(), broken=broken, tile=tile))
        expected = find_tissue(FixedSlide(he_slide())).mask.copy()
        side = tile // 2
        expected[row * side :, column * side :][:side, :side] = True
        np.testing.assert_array_equal(tissue.mask, expected)
        (told,) = tissue.warnings
        assert told == (
            f"{share} of the slide could not be read while its tissue was looked for, and is "
            "taken as tissue (tile 3, 4 is damaged)."
        )

    def test_a_slide_that_cannot_be_read_at_all_raises(self):
        with pytest.raises(SlideError, match="damaged"):
            find_tissue(FixedSlide(he_slide(), broken=Region(0, 0, Size(10**6, 10**6))))

    def test_blocks_make_no_difference(self, monkeypatch):
        with open_slide(he_slide(), mpp=MPP) as slide:
            whole = find_tissue(slide)
            monkeypatch.setattr("napari_wsiseg.slides.overview._BLOCK_SIDE", 37)
            parts = find_tissue(slide)
        assert whole.sha256 == parts.sha256
        assert whole.parameters == parts.parameters


class TestMask:
    def test_parameters_are_json_and_name_no_file(self, tmp_path):
        Image.fromarray(he_slide()).save(tmp_path / "secret.png")
        with open_slide(tmp_path / "secret.png", mpp=MPP) as slide:
            tissue = find_tissue(slide)
        text = json.dumps(tissue.parameters)
        assert "secret" not in text
        assert tissue.parameters["threshold"] == TissueOptions().max_density
        assert tissue.parameters["options"]["mpp"] == 8.0

    def test_the_digest_tells_masks_and_shapes_apart(self):
        info = open_slide(he_slide()).info
        flat = np.zeros((2, 8), bool)
        one = flat.copy()
        one[1, 3] = True
        masks = [flat, one, flat.reshape(4, 4), flat.reshape(8, 2)]
        assert len({load_tissue(mask, info).sha256 for mask in masks}) == 4
        assert load_tissue(one, info).sha256 == load_tissue(one.copy(), info).sha256


TRUTH = np.arange(60).reshape(6, 10) % 7 > 3


def png(pixels, **options):
    def write(path):
        Image.fromarray(pixels).save(path.with_suffix(".png"), **options)
        return path.with_suffix(".png")

    return write


def npy(pixels):
    def write(path):
        np.save(path.with_suffix(".npy"), pixels)
        return path.with_suffix(".npy")

    return write


def tiff(pixels, suffix, **options):
    def write(path):
        name = path.with_name(path.name + suffix)
        tifffile.imwrite(name, pixels, **options)
        return name

    return write


def rgba(mask):
    pixels = np.full((*mask.shape, 4), 255, np.uint8)
    pixels[~mask, :3] = 0
    return pixels


FILES = {
    "png-255": png(TRUTH.astype(np.uint8) * 255),
    "png-1": png(TRUTH.astype(np.uint8)),
    "png-1-bit": png(TRUTH),
    "png-rgba": png(rgba(TRUTH)),
    "png-red": png(rgba(TRUTH)[..., :3] * np.array([1, 0, 0], np.uint8)),
    "tif": tiff(TRUTH.astype(np.uint8) * 255, ".tif"),
    "tif-16": tiff(TRUTH.astype(np.uint16) * 1000, ".tiff", compression="zlib"),
    "ome-tif": tiff(TRUTH.astype(np.uint8), ".ome.tif"),
    "npy-bool": npy(TRUTH),
    "npy-float": npy(np.where(TRUTH, 0.25, np.nan)),
    "npy-channel": npy(TRUTH[..., None]),
}


class TestLoad:
    @pytest.fixture
    def info(self, tmp_path):
        Image.new("RGB", (100, 60)).save(tmp_path / "a slide.png")
        with open_slide(tmp_path / "a slide.png", mpp=1.0) as slide:
            return slide.info

    @pytest.mark.parametrize("write", FILES.values(), ids=FILES.keys())
    def test_files_and_folders(self, write, info, tmp_path):
        folder = tmp_path / "masks"
        folder.mkdir()
        path = write(folder / "a slide")
        for source in (path, folder):
            tissue = load_tissue(source, info)
            np.testing.assert_array_equal(tissue.mask, TRUTH)
            assert tissue.warnings == ()
            assert tissue.parameters == {"method": "file", "height": 6, "width": 10}

    def test_an_array_is_copied(self, info):
        given = TRUTH.copy()
        tissue = load_tissue(given, info)
        given[:] = False
        np.testing.assert_array_equal(tissue.mask, TRUTH)

    def test_an_empty_mask_is_said(self, info):
        assert "empty" in load_tissue(np.zeros((6, 10)), info).warnings[0]

    @pytest.mark.parametrize(("shape", "told"), [((10, 6), 1), ((7, 10), 0), ((60, 99), 0)])
    def test_other_proportions_are_said(self, shape, told, info):
        assert len(load_tissue(np.ones(shape), info).warnings) == told

    @pytest.mark.parametrize(
        "array",
        [np.ones(5), np.ones((0, 4)), np.ones((2, 2, 9)), np.array([["a"]]), np.ones((2, 2, 2, 2))],
    )
    def test_what_is_no_mask_is_refused(self, array, info):
        with pytest.raises(JobError, match="no tissue mask"):
            load_tissue(array, info)

    def test_files_that_cannot_be_are_refused(self, info, tmp_path):
        (tmp_path / "text.png").write_text("hello")
        (tmp_path / "mask.jpg").write_text("hello")
        (tmp_path / "code.npy").write_bytes(pickle.dumps([1]))
        for name in ("text.png", "mask.jpg", "code.npy", "missing.png"):
            with pytest.raises(JobError, match=name):
                load_tissue(tmp_path / name, info)

    def test_a_folder_needs_exactly_one(self, info, tmp_path):
        folder = tmp_path / "masks"
        folder.mkdir()
        png(TRUTH)(folder / "another")
        with pytest.raises(JobError, match="it holds none"):
            load_tissue(folder, info)
        png(TRUTH)(folder / "a slide")
        npy(TRUTH)(folder / "a slide")
        with pytest.raises(JobError, match=r"a slide\.npy and a slide\.png"):
            load_tissue(folder, info)


def test_every_setting_of_a_job(tmp_path):
    with open_slide(he_slide(), mpp=MPP) as slide:
        assert tissue_for(slide, "none") is None
        auto = tissue_for(slide, "auto")
        options = tissue_for(slide, TissueOptions(dilate_um=100))
        assert auto.sha256 == find_tissue(slide).sha256
        assert options.fraction > auto.fraction
        png(TRUTH)(tmp_path / "mask")
        for source in (tmp_path / "mask.png", TRUTH):
            np.testing.assert_array_equal(tissue_for(slide, source).mask, TRUTH)
