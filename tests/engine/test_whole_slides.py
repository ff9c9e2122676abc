"""Every model of the zoo over a slide, to a valid OME-Zarr; and one, pixel for pixel."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from skimage.data import immunohistochemistry

import napari_wsiseg as ws
from models.deterministic_weights import deterministic_state_dict
from napari_wsiseg.models.unet import UNet
from napari_wsiseg.models.zoo import entry

with warnings.catch_warnings():
    # Their own: pydantic's `json_encoders`, deprecated, and more of the kind.
    warnings.simplefilter("ignore")
    from ome_zarr_models.v05 import Image, ImageLabel

# Hematoxylin by Ruifrok and Johnston 2001, eosin by QuPath (Bankhead et al. 2017).
HEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.2159, 0.8012, 0.5581)


@pytest.fixture(scope="session")
def stained_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real micrograph, tiled to 1100 x 1300 px of 0.5 µm, with a strip of glass."""
    pixels = np.tile(immunohistochemistry(), (3, 3, 1))[:1100, :1300].copy()
    pixels[:, 1000:] = 245
    path = tmp_path_factory.mktemp("slides") / "stained.tif"
    scale = {"resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None, **scale)
    return path


def made_up_weights(name: str, folder: Path) -> Path | None:
    """Seeded weights of a network; None for a model that has none."""
    known = entry(name)
    if known.network != "unet":
        return None
    with torch.device("meta"):
        network = UNet(len(known.spec.classes), known.decoder_block)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    drawn = deterministic_state_dict(shapes).items()
    path = folder / f"{name}.pth"
    torch.save({key: torch.from_numpy(np.array(value)) for key, value in drawn}, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ws.models())
def test_every_model_makes_a_valid_ome_zarr(stained_slide: Path, tmp_path: Path, name: str) -> None:
    """At the model's own resolution, and its own choice of patches."""
    output = tmp_path / "a.ome.zarr"
    job = ws.SegmentationJob(
        slide=stained_slide,
        model=name,
        weights=made_up_weights(name, tmp_path),
        output=output,
        region=ws.Region(0, 700, ws.Size(500, 600)) if "bcss" in name else None,
    )
    with ws.run(job) as result:
        assert result.status == "complete"
        assert result.failed_patches == ()
        spec = ws.models()[name]
        values = result.probabilities()[:, ::8, ::8].compute()
        coverage = result.coverage[0][::8, ::8].compute()
        assert coverage.any()
        assert values[:, coverage].any()
        assert not values[:, ~coverage].any()
        if spec.activation == "softmax":
            np.testing.assert_allclose(values[:, coverage].sum(0), 1, atol=len(spec.classes) / 255)
    group = zarr.open_group(output, mode="r")
    image = Image.from_zarr(group)
    assert [c["label"] for c in group.attrs["ome"]["omero"]["channels"]] == list(spec.classes)
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == ["c", "y", "x"]
    ImageLabel.from_zarr(group["labels/tissue"])


def dominant_stain(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(2, height, width) density / 2 of the stronger stain, by the textbook, in doubles."""
    rows = [np.array(stain) / np.linalg.norm(stain) for stain in (HEMATOXYLIN, EOSIN)]
    rows.append(np.cross(*rows) / np.linalg.norm(np.cross(*rows)))
    density = -np.log10(np.maximum(pixels, 1) / 255.0)
    both = np.moveaxis(density @ np.linalg.inv(rows), -1, 0)[:2].clip(0, 2)
    first = both[0] >= both[1]
    return both * np.stack([first, ~first]) / 2


def whole(path: Path) -> NDArray[np.uint8]:
    with ws.open_slide(path) as slide:
        return slide.read_at(ws.Region(0, 0, slide.info.size), slide.info.levels[0].downsample)


@pytest.mark.parametrize("which", ["stained_slide", "real_slide"])
def test_a_stain_model_equals_a_whole_array_reference(
    request: pytest.FixtureRequest, which: str
) -> None:
    """Rows of overlapping patches through the whole engine, against one array operation."""
    path: Path = request.getfixturevalue(which)
    expected = dominant_stain(whole(path)) * 255
    job = ws.SegmentationJob(
        slide=path,
        model="he-stain",
        resolution="baseline 1.0",
        tissue="none",
        patch_input_shape=(500, 600),
        patch_output_shape=(400, 520),
        stride_shape=(300, 260),
        batch_size=3,
    )
    with ws.run(job) as result:
        assert min(result.grid.shape) > 3
        assert result.coverage[0].all().compute()
        stored = result.levels[0].compute()
    # Single precision may round the other way what lies between two steps.
    tied = np.abs(expected % 1 - 0.5) < 1e-4
    assert tied.mean() < 1e-3
    np.testing.assert_array_equal(stored[~tied], np.rint(expected)[~tied])
    assert (np.abs(stored - expected)[tied] < 0.5 + 1e-4).all()
