"""What slides, folders and machines tell stays out of results and exports, without an alias too.

Each text that a slide's file can hold, and each name around it, carries one mark; then
every byte that was written is searched for it, packed streams unpacked.
"""

from __future__ import annotations

import json
import platform
import re
import tempfile
import traceback
import zlib

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from numcodecs import Zstd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import napari_wsiseg as ws
from export_files import EXPORTS
from napari_wsiseg.cli.app import run as run_cli
from napari_wsiseg.geometry import YX, Region, Size
from napari_wsiseg.labels import DecisionRule, correct, save_preset

MARK = "zqxv"
YEAR = "1961"  # of all dates
TAGS = [(code, "s", 0, f"{MARK} {code}", True) for code in (269, 271, 272, 285, 315, 316, 33432)]
TAGS += [(700, "B", 8, f"{MARK} xmp".encode()[:8], True)]
APERIO = (
    f"Aperio Image Library {MARK}\n400x400 (256x256) JPEG|AppMag = 20|MPP = 0.5|Date = 03/11/1961|"
    f"ScanScope ID = {MARK}|Filename = {MARK}|User = {MARK}|Barcode = {MARK}|Title = {MARK}"
)
OME = f"""<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="{MARK}">
<Experimenter ID="Experimenter:0" FirstName="{MARK}" LastName="{MARK}" Email="{MARK}"/>
<Instrument ID="Instrument:0"><Microscope Manufacturer="{MARK}" SerialNumber="{MARK}"/></Instrument>
<Image ID="Image:0" Name="{MARK}"><AcquisitionDate>1961-03-11T10:11:12</AcquisitionDate>
<Description>{MARK}</Description><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8"
SizeX="400" SizeY="400" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5"
Interleaved="true"><Channel ID="Channel:0" Name="{MARK}" SamplesPerPixel="3"/>
<TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>"""


def pixels():
    """A stained square on glass."""
    picture = np.full((400, 400, 3), 245, np.uint8)
    picture[90:330, 90:330] = (150, 60, 140)
    return picture


def write_tiff(path, description):
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            pixels(), photometric="rgb", tile=(256, 256), description=description, metadata=None,
            datetime="1961:03:11 10:00:00", software=MARK, extratags=TAGS,
        )  # fmt: skip


def write_png(path):
    texts = PngInfo()
    for name in ("Title", "Author", "Comment", "Creation Time"):
        texts.add_text(name, f"{MARK} 1961")
        texts.add_itxt(f"{name} too", MARK, zip=True)
    Image.fromarray(pixels()).save(path, pnginfo=texts)


def write_jpeg(path):
    exif = Image.Exif()
    exif.update({270: MARK, 271: MARK, 306: "1961:03:11 10:00:00", 315: MARK, 33432: MARK})
    Image.fromarray(pixels()).save(path, exif=exif, comment=MARK.encode())


def write_zarr(path):
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("0", data=pixels(), chunks=(256, 256, 3)).attrs["by"] = MARK
    axes = [{"name": "y", "type": "space", "unit": "micrometer"}]
    axes += [{**axes[0], "name": "x"}, {"name": "c", "type": "channel"}]
    scale = [{"type": "scale", "scale": [0.5, 0.5, 1]}]
    level = {"path": "0", "coordinateTransformations": scale}
    image = {"name": MARK, "type": MARK, "metadata": {"by": MARK}, "axes": axes}
    group.attrs["ome"] = {
        "version": "0.5", "multiscales": [{**image, "datasets": [level]}], "omero": {"name": MARK},
    }  # fmt: skip
    group.attrs["patient"] = f"{MARK} 1961"


KINDS = {
    "a.svs": lambda path: write_tiff(path, APERIO),
    "a.tif": lambda path: write_tiff(path, f"{MARK} 1961"),
    "a.ome.tif": lambda path: write_tiff(path, OME.encode()),
    "a.png": write_png,
    "a.jpg": write_jpeg,
    "a.ome.zarr": write_zarr,
}


def unpacked(data, depth=2):
    """The bytes, and those of each packed stream that begins somewhere in them."""
    yield data
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08|\x28\xb5\x2f\xfd", data):
        stream = data[start.start() :]
        try:
            if stream[0] == 0x28:
                content = bytes(Zstd().decode(stream))
            else:
                content = zlib.decompressobj(47).decompress(stream, 10**7)
        except (zlib.error, RuntimeError):
            continue
        if depth and content:
            yield from unpacked(content, depth - 1)


def told(*places):
    """Where below these folders the mark or the year stands, in names, links or bytes."""
    found = []
    for place in places:
        for path in sorted(place.rglob("*")):
            data = path.read_bytes() if path.is_file() else b""
            name = str(path.relative_to(place))
            for text in (name.encode(), *unpacked(data)):
                plain = text.lower().replace(b"\0", b"")  # of UTF-16, too
                if MARK.encode() in plain or YEAR.encode() in plain:
                    found.append(name)
    return found


@pytest.fixture
def around(tmp_path, monkeypatch):
    """A folder for slides; it, the home and working folders, user and machine have the mark."""
    for variable in ("HOME", "TMPDIR", "TEMP", "USERPROFILE"):
        folder = tmp_path / f"{MARK}-{variable}"
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
    for variable in ("USER", "LOGNAME", "USERNAME", "HOSTNAME"):
        monkeypatch.setenv(variable, MARK)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(platform, "node", lambda: f"{MARK}-host")
    folder = tmp_path / f"{MARK}-patients"
    folder.mkdir()
    return folder


@pytest.fixture
def results(around):
    """A folder for results, of which none may tell where it was."""
    folder = around.with_name(f"{MARK}-results")
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_the_mark_is_found_where_it_is(name, around):
    """What the other tests rest on."""
    KINDS[name](around / name)
    assert told(around)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_that_a_slide_or_its_surroundings_tell_is_kept(name, around, results):
    KINDS[name](around / name)
    job = ws.SegmentationJob(slide=around / name, output=results / "a.ome.zarr", mpp=0.5)
    with ws.run(job) as pm:
        assert pm.coverage[0].any()
        correct(pm, Region(0, 0, Size(9, 9)), np.ones((9, 9), np.uint8))
        for form, export in EXPORTS.items():
            options = {"slide": job.slide} if form == "png" else {"corrected": True}
            ws.export(pm, results / export, form, **options)
        save_preset(DecisionRule(), pm.spec, results / "preset.json")
    ws.run(job.model_copy(update={"strict": True})).close()
    assert told(results) == []
    assert not (results / "a.ome.zarr" / "lock").exists()


def test_the_folder_of_a_mask_is_not_named(around, results):
    write_png(slide := around / "a.png")
    masks = around / f"{MARK}-masks"
    masks.mkdir()
    np.save(masks / "a.npy", np.ones((40, 40), np.uint8))
    output = results / "a.ome.zarr"
    ws.run(ws.SegmentationJob(slide=slide, tissue=masks, output=output, mpp=1)).close()
    assert told(results) == []


def failing_slide(**options):
    """A slide whose last quarter cannot be read once it is open, as on a drive that is gone."""
    opened = []

    def block(block_info):
        (top, _), (left, _), _ = block_info[None]["array-location"]
        if opened and top and left:
            raise PermissionError(13, "Permission denied", f"/{MARK}/{MARK}.tif")
        return np.full((256, 256, 3), 150, np.uint8)

    chunks = ((256, 256), (256, 256), (3,))
    array = da.map_blocks(block, chunks=chunks, dtype="u1", meta=np.empty((0, 0, 0), "u1"))
    opened.append(slide := ws.open_slide(array, **options))
    return slide


SMALL = {
    "tissue": "none", "resolution": ws.Resolution(1.0, "baseline"),
    "patch_input_shape": 64, "patch_output_shape": 64, "stride_shape": 64,
}  # fmt: skip


def test_reasons_of_failed_patches_name_no_file(results):
    job = ws.SegmentationJob(output=results / "a.ome.zarr", **SMALL)
    with failing_slide() as slide, ws.run(job, slide) as pm:
        assert pm.failed_patches
        assert all("Permission denied" in patch.reason for patch in pm.failed_patches)
    assert told(results) == []


def test_with_an_alias_a_traceback_names_no_file(results):
    job = ws.SegmentationJob(alias="case 7", strict=True, output=results / "a.ome.zarr", **SMALL)
    with failing_slide(alias="case 7") as slide:
        with pytest.raises(ws.InferenceError) as run_error:
            ws.run(job, slide)
        with pytest.raises(ws.SlideError) as read_error:
            slide.read_at(Region(300, 300, Size(9, 9)), YX(1, 1))
    for error in (run_error.value, read_error.value):
        assert f"/{MARK}/" not in "".join(traceback.format_exception(error))
    assert told(results) == []


class TestAlias:
    """Files that are called as the slide is, on the command line."""

    @pytest.fixture
    def slide(self, around):
        path = around / f"{MARK}.svs"
        write_tiff(path, APERIO)
        return path

    def test_annotations_to_compare_with_are_not_named(self, slide, results):
        ring = [[90, 90], [330, 90], [330, 330], [90, 330], [90, 90]]
        outline = {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": "Eosin-dominant"}},
        }
        annotations = slide.with_suffix(".geojson")
        annotations.write_text(json.dumps({"type": "FeatureCollection", "features": [outline]}))
        assert run_cli(["segment", str(slide), "--alias", "case 7", "-o", str(results)]) == 0
        result = str(results / "case 7.ome.zarr")
        assert run_cli(["compare", result, str(annotations), "-o", str(results / "tables")]) == 0
        assert len(list((results / "tables").iterdir())) == 3
        assert told(results) == []

    @pytest.mark.parametrize("kind", ["missing", "empty folder", "no slide"])
    def test_what_is_no_slide_is_not_named(self, kind, around, results, capsys):
        path = around / f"{MARK}.svs"
        if kind == "empty folder":
            path.mkdir()
        elif kind == "no slide":
            path.write_text("text")
        assert run_cli(["segment", str(path), "--alias", "case 7", "-o", str(results)]) == 2
        said = capsys.readouterr().err
        assert "case 7" in said
        assert MARK not in said
        assert list(results.iterdir()) == []

    @pytest.mark.parametrize("kind", ["missing", "no mask", "of another kind", "two", "none"])
    def test_masks_that_will_not_do_are_not_named(self, kind, slide, around, results, capsys):
        folder = around.with_name("masks")
        folder.mkdir()
        mask = folder / f"{MARK}.png"
        if kind == "no mask":
            mask.write_text("text")
        elif kind == "of another kind":
            (mask := mask.with_suffix(".doc")).write_text("text")
        elif kind == "two":
            mask.write_bytes(b"")
            mask.with_suffix(".npy").write_bytes(b"")
        tissue = folder if kind in ("two", "none") else mask
        given = ["segment", str(slide), "--alias", "case 7", "--tissue", str(tissue), "--verbose"]
        assert run_cli([*given, "-o", str(results)]) == 2
        said = capsys.readouterr().err
        assert "case 7" in said.splitlines()[-1]
        assert MARK not in said
