"""A slide's alias: its file's name, where that is an accession number, appears nowhere."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

import napari_wsiseg as ws
from export_files import EXPORTS
from napari_wsiseg.errors import SlideWarning

STEM = "ACC-2031-77"
ALIAS = "case 7"
# What scanners write into their files besides pixels, and what must not travel.
SECRETS = ("BARCODE-8812", "Doe^Jane", "1961:03:11", "11/03/61", "SCANNER-SN-55")
APERIO = (
    "Aperio Image Library v1\n400x400 (256x256) JPEG|AppMag = 20|MPP = 0.5|Date = 11/03/61|"
    f"ScanScope ID = {SECRETS[4]}|Filename = {SECRETS[0]}|User = {SECRETS[1]}|Time Zone = GMT"
)


def write_slide(path):
    """A stained square on glass, with all that a scanner may tell, and a label picture."""
    pixels = np.full((400, 400, 3), 245, np.uint8)
    pixels[90:330, 90:330] = (150, 60, 140)
    label = np.full((50, 60, 3), 200, np.uint8)
    extra = [(271, "s", 0, SECRETS[4], True), (315, "s", 0, SECRETS[1], True)]
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            pixels, photometric="rgb", tile=(256, 256), description=APERIO, metadata=None,
            datetime="1961:03:11 10:00:00", software=SECRETS[0], extratags=extra,
        )  # fmt: skip
        tif.write(label, photometric="rgb", description=f"label {SECRETS[0]}", metadata=None)
    return path


def texts_of(*places):
    """Name and bytes of everything below; a picture's texts may be compressed in it."""
    for place in places:
        for path in (place, *place.rglob("*")):
            data = path.read_bytes() if path.is_file() else b""
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    data += repr(picture.info).encode()
            yield path.name, data


def run_cli(folder, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "napari_wsiseg", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A result, every export and what was printed, with an alias; and where the slide lay."""
    folder = tmp_path_factory.mktemp("patients-of-march")
    slide = write_slide(folder / f"{STEM}.svs")
    work = tmp_path_factory.mktemp("work")
    told = run_cli(work, "segment", slide, "--alias", ALIAS, "-o", "out", "--json", "--verbose")
    assert told.returncode == 0, told.stderr
    result = work / "out" / f"{ALIAS}.ome.zarr"
    exports = work / "exports"
    exports.mkdir()
    with ws.ProbabilityMap.open(result) as pm:
        for form, name in EXPORTS.items():
            options = {"slide": slide} if form == "png" else {}
            ws.export(pm, exports / name, form, **options)
    return folder, work, told


def forbidden(folder):
    return [STEM, str(folder), folder.name, *SECRETS]


def test_no_name_and_nothing_that_the_scanner_told_is_kept(made):
    folder, work, told = made
    for name, data in [*texts_of(work), ("printed", (told.stdout + told.stderr).encode())]:
        for secret in forbidden(folder):
            assert secret.encode() not in data, (secret, name)
            assert secret not in name


def test_the_result_goes_by_the_alias(made):
    _, work, told = made
    assert ALIAS in told.stderr
    with ws.ProbabilityMap.open(work / "out" / f"{ALIAS}.ome.zarr") as pm:
        assert pm.provenance["slide"]["stem"] == ALIAS
        assert pm.job["alias"] == ALIAS


def test_the_folder_is_kept_nowhere_without_an_alias_either(tmp_path):
    folder = tmp_path / "patients-of-april"
    folder.mkdir()
    slide = write_slide(folder / "plain.svs")
    result = tmp_path / "out" / "plain.ome.zarr"
    ws.run(ws.SegmentationJob(slide=slide, output=result)).close()
    for name, data in texts_of(result):
        assert folder.name.encode() not in data, name
        assert all(secret.encode() not in data for secret in SECRETS), name


def cut_short(path):
    """A slide whose last tiles are missing: patches fail, and reasons are kept."""
    data = write_slide(path).read_bytes()
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        last = page.dataoffsets[-1]
        tags = page.tags["TileOffsets"]
        assert tags.count == 4
    broken = bytearray(data)
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[0].tags["TileOffsets"].valueoffset + 12
        assert int.from_bytes(broken[place : place + 4], "little") == last
    broken[place : place + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(broken)
    return path


def test_reasons_of_failed_patches_and_warnings_go_by_the_alias(tmp_path):
    slide = cut_short(tmp_path / f"{STEM}.svs")
    job = ws.SegmentationJob(
        slide=slide, alias=ALIAS, output=tmp_path / "r.ome.zarr", tissue="none",
        patch_input_shape=64, patch_output_shape=64, stride_shape=64,
        resolution=ws.Resolution(1.0, "baseline"),
    )  # fmt: skip
    with pytest.warns(SlideWarning, match=rf"^{ALIAS} is cut short"):
        pm = ws.run(job)
    with pm:
        assert pm.failed_patches
        assert all(ALIAS in patch.reason for patch in pm.failed_patches)
    for name, data in texts_of(tmp_path / "r.ome.zarr"):
        assert STEM.encode() not in data, name
        assert str(tmp_path).encode() not in data, name


def test_an_error_on_opening_goes_by_the_alias(tmp_path):
    path = tmp_path / f"{STEM}.svs"
    path.write_bytes(b"no slide")
    with pytest.raises(ws.SlideError) as caught:
        ws.open_slide(path, alias=ALIAS)
    assert str(caught.value).startswith(f"{ALIAS} cannot be opened")
    assert STEM not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_an_open_slide_must_have_been_opened_by_that_name(tmp_path):
    slide = write_slide(tmp_path / f"{STEM}.svs")
    job = ws.SegmentationJob(alias=ALIAS, tissue="none")
    with ws.open_slide(slide) as opened, pytest.raises(ws.JobError, match="opened without that"):
        ws.run(job, opened)
    with ws.open_slide(slide, alias=ALIAS) as opened, ws.run(job, opened) as pm:
        assert pm.provenance["slide"]["stem"] == ALIAS


def test_a_mask_that_is_called_as_the_slide_is_found_and_not_named(tmp_path):
    slide = write_slide(tmp_path / f"{STEM}.svs")
    masks = tmp_path / "masks"
    masks.mkdir()
    np.save(masks / f"{STEM}.npy", np.ones((40, 40), np.uint8))
    for tissue in (masks, masks / f"{STEM}.npy"):
        job = ws.SegmentationJob(slide=slide, alias=ALIAS, tissue=tissue)
        with ws.run(job) as pm:
            assert STEM not in repr((pm.job, pm.provenance, pm.info.identity))


@pytest.mark.parametrize("content", [None, "{", "[]"], ids=["missing", "cut short", "empty"])
def test_annotations_that_are_called_as_the_slide_are_not_named(tmp_path, content):
    slide = write_slide(tmp_path / f"{STEM}.svs")
    annotations = tmp_path / f"{STEM}.geojson"
    if content is not None:
        annotations.write_text(content)
    told = run_cli(
        tmp_path, "--verbose", "segment", slide, "--alias", ALIAS, "--region", f"./{STEM}.geojson"
    )
    assert told.returncode == 2
    assert ALIAS in told.stderr
    assert STEM not in told.stderr


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "../x", ".x", "a\0", "x" * 200, "a "]
)
def test_an_alias_is_a_plain_name(name):
    with pytest.raises(ws.JobError, match="cannot be called"):
        ws.SegmentationJob(alias=name)
    with pytest.raises(ws.JobError, match="cannot be called"):
        ws.open_slide(np.zeros((9, 9, 3), np.uint8), alias=name)


def test_one_alias_for_several_slides_is_refused(tmp_path):
    for name in ("a", "b"):
        write_slide(tmp_path / f"{name}.svs")
    told = run_cli(tmp_path, "segment", tmp_path, "--alias", ALIAS, "-o", tmp_path / "out")
    assert told.returncode == 2
    assert "one by one" in told.stderr
    assert not (tmp_path / "out").exists()
