"""Whole runs of the real network: the original's own numbers, plain loops, and wider fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.plain_unet import centre, plain_unet, published_shapes, weights
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import plan, run
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.labels import label_pyramid
from napari_wsiseg.models import Segmenter, load_model
from napari_wsiseg.slides import open_slide

BCSS = "fcn_resnet50_unet-bcss"
TOLERANCE = 2e-5


def network(shared_data: Path, folder: Path, name: str, seed: int = 0) -> Segmenter:
    """A network with weights that two implementations can draw alike."""
    path = folder / f"{name}-{seed}.pth"
    torch.save(weights(published_shapes(shared_data, name), seed), path)
    return load_model(name, weights=path, precision="exact")


def exact_job(**values: object) -> SegmentationJob:
    settled = {"resolution": "baseline 1.0", "tissue": "none", "dtype": "float32"}
    return SegmentationJob(**(settled | values))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def skin(real_slide: Path) -> NDArray[np.uint8]:
    """A part of the real slide with tissue, glass and the slide's edge."""
    with open_slide(real_slide) as slide:
        return slide.read_at(Region(900, 1000, Size(1300, 1220)), slide.info.levels[0].downsample)


@pytest.mark.slow
def test_the_originals_output_on_the_real_slide(
    real_slide: Path, shared_data: Path, golden: Path, tmp_path: Path
) -> None:
    """TIAToolbox 2.1.3: 1024 -> 512, stride 450, no mask; every 16th pixel."""
    reference = np.load(golden / "unet_bcss_cmu1_stride450.npz")
    job = exact_job(
        slide=real_slide,
        output=tmp_path / "a.ome.zarr",
        patch_input_shape=1024,
        patch_output_shape=512,
        stride_shape=450,
    )
    with run(job, model=network(shared_data, tmp_path, BCSS)) as result:
        values = result.probabilities()[:, ::16, ::16].compute()
        assert [*result.probabilities().shape[1:], 5] == reference["shape"].tolist()
        labels = label_pyramid(result)[0][::16, ::16].compute()
        assert result.coverage[0].all().compute()
    expected = reference["probabilities"].transpose(2, 0, 1)
    np.testing.assert_allclose(values, expected, atol=TOLERANCE)
    # Its predictions are the argmax; none of these pixels is as near a tie as the tolerance.
    np.testing.assert_array_equal(labels, expected.argmax(axis=0) + 1)


@pytest.mark.parametrize(
    ("name", "kernels", "seed", "stride"),
    [("fcn-tissue_mask", (3,), 5, 100), (BCSS, (3, 3), 1, 128), (BCSS, (3, 3), 2, 97)],
)
def test_any_seed_stride_decoder_and_mask_equals_a_plain_loop(
    skin: NDArray[np.uint8],
    shared_data: Path,
    tmp_path: Path,
    name: str,
    kernels: tuple[int, ...],
    seed: int,
    stride: int,
) -> None:
    pixels = np.ascontiguousarray(skin[300:560, 200:530])
    model = network(shared_data, tmp_path, name, seed)
    job = exact_job(
        patch_input_shape=256, patch_output_shape=128, stride_shape=stride, batch_size=4
    )
    tissue = np.zeros((26, 33), bool)
    tissue[2:9, 3:12] = tissue[20, 30] = True
    slide = open_slide(pixels)
    grid = plan(job, slide, model, tissue).grid
    state = weights(published_shapes(shared_data, name), seed)
    padded = np.pad(pixels, ((256, 256), (256, 256), (0, 0)), constant_values=255)
    sums = np.zeros((len(model.spec.classes), *pixels.shape[:2]))
    total = np.zeros(pixels.shape[:2])
    for row, column in np.argwhere(grid.keep):
        top, left = int(row) * stride, int(column) * stride
        patch = torch.from_numpy(padded[top + 192 : top + 448, left + 192 : left + 448].copy())
        answer = centre(plain_unet(state, patch[None], kernels), 128, 128)[0].numpy()
        part = (slice(top, min(top + 128, 260)), slice(left, min(left + 128, 330)))
        height, width = total[part].shape
        sums[(slice(None), *part)] += answer[:, :height, :width]
        total[part] += 1
    assert 0 < grid.keep.sum() < grid.keep.size
    result = run(job, slide, model, tissue)
    np.testing.assert_array_equal(result.coverage[0].compute(), total > 0)
    expected = sums / np.maximum(total, 1)
    np.testing.assert_allclose(result.probabilities().compute(), expected, atol=TOLERANCE)


@pytest.mark.slow
def test_a_wider_field_equals_the_plain_grid(
    skin: NDArray[np.uint8], shared_data: Path, tmp_path: Path
) -> None:
    """Rule 9: against stride 448, a multiple of the network's shift period of 32."""
    model = network(shared_data, tmp_path, BCSS)
    slide = open_slide(skin)
    wide = run(exact_job(), slide, model)
    assert wide.grid.patch_output != Size(512, 512)
    assert wide.grid.patch_output == wide.grid.stride
    plain = run(exact_job(stride_shape=448), slide, model)
    assert plain.grid.patch_output == Size(512, 512)
    difference = wide.probabilities().compute() - plain.probabilities().compute()
    np.testing.assert_allclose(difference, 0, atol=TOLERANCE)


def test_a_wider_field_takes_the_least_arithmetic(shared_data: Path, tmp_path: Path) -> None:
    model = network(shared_data, tmp_path, BCSS)
    slide = open_slide(np.zeros((1800, 2500, 3), np.uint8))
    settled = plan(exact_job(), slide, model)
    grid = settled.grid
    for size in (grid.patch_output, grid.stride):
        assert size.height % 32 == 0
        assert size.width % 32 == 0
    assert grid.patch_input.height - grid.patch_output.height == 512
    assert grid.patch_input.width - grid.patch_output.width == 512
    plain = PatchGrid(grid.canvas, Size(1024, 1024), Size(512, 512), Size(448, 448))
    assert grid.keep.size * grid.patch_input.area < plain.keep.size * plain.patch_input.area
    named = plan(exact_job(stride_shape=450), slide, model).grid
    assert (named.patch_output, named.stride) == (Size(512, 512), Size(450, 450))
