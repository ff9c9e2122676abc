"""OME-TIFF: what other readers see, level by level, and in its XML."""

from __future__ import annotations

import json
import tracemalloc
import uuid
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import openslide
import pytest
import tifffile

from maps import SIGMOID, SOFTMAX, STAIN, map_of
from napari_wsiseg.errors import ExportError, StoreError
from napari_wsiseg.export import tiff as tiff_module
from napari_wsiseg.export.provenance import provenance
from napari_wsiseg.export.request import ExportRequest
from napari_wsiseg.export.tiff import TiffWriter
from napari_wsiseg.geometry import YX, Region
from napari_wsiseg.labels import DecisionRule, LabelMap
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.store import ProbabilityMap

SHAPE = (1100, 700)
OME = {"o": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}


def random_map(spec=SOFTMAX, shape=SHAPE, chunk=512, **options):
    rng = np.random.default_rng(5)

    def blocks(side, *leading):
        """Random squares of this side."""
        cells = rng.random((*leading, *(-(-length // side) for length in shape)))
        return np.kron(cells, np.ones((side, side)))[..., : shape[0], : shape[1]]

    values = blocks(7, len(spec.classes))
    coverage, tissue = blocks(256) < 0.7, blocks(32) < 0.8
    return map_of(values, spec, coverage=coverage, tissue=tissue, chunk=chunk, **options)


def request_of(pm, codes=None, names=None, origin="slide"):
    codes = codes or tuple(range(1, len(pm.classes) + 1))
    names = names or {code: pm.classes[code - 1] for code in codes}
    return ExportRequest(LabelMap(pm, DecisionRule(default=0.3)), codes, names, origin)


def write(request, target, **options):
    """As `export` does it: to another name first."""
    partial = target.with_name(f".{target.name}.partial")
    steps = list(TiffWriter(**options).write(request, partial, target))
    partial.rename(target)
    for stage in ("writing", "checking"):
        parts = [step.part for step in steps if step.stage == stage]
        assert parts == sorted(parts)
        assert parts[-1] == 1
    return steps


def layers_of(request):
    read = request.labels.read(Region(0, 0, request.labels.size))
    return np.stack([request.exported(labels) for labels in read.labels]), read.block


def xml_of(path):
    with tifffile.TiffFile(path) as tiff:
        return ET.fromstring(tiff.ome_metadata)


def annotations(root, kind):
    """The map annotations of a kind, as dictionaries of texts."""
    found = root.findall(f".//o:MapAnnotation[@Namespace='napari-wsiseg/{kind}']", OME)
    return [{m.get("K"): m.text for m in one.iterfind("o:Value/o:M", OME)} for one in found]


@pytest.mark.parametrize("chunk", [512, 100])
def test_labels_are_those_of_the_label_map_at_every_level(tmp_path, chunk):
    path = tmp_path / "slide.ome.tif"
    with random_map(chunk=chunk) as pm:
        request = request_of(pm, codes=(1, 3))
        write(request, path)
        (expected,), _ = layers_of(request)
    assert set(np.unique(expected)) == {0, 1, 3}
    assert xml_of(path).find(".//o:Channel", OME).get("Name") == "Labels"
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_ome
        (series,) = tiff.series
        assert (series.axes, series.shape, series.dtype) == ("YX", SHAPE, np.uint8)
        assert [level.shape for level in series.levels] == [(1100, 700), (550, 350), (275, 175)]
        for level in series.levels:
            page = level.pages[0]
            assert (page.tilelength, page.tilewidth) == (512, 512)
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            assert page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
            assert page.is_reduced == (level is not series.levels[0])
        np.testing.assert_array_equal(series.asarray(), expected)
        for number, level in enumerate(series.levels):
            found = level.asarray()
            for y, x in ((0, 0), (found.shape[0] - 1, found.shape[1] - 1), (100, 77), (60, 150)):
                side = 2**number
                under = expected[y * side : (y + 1) * side, x * side : (x + 1) * side]
                assert found[y, x] == np.bincount(under.ravel()).argmax()


@pytest.mark.parametrize("spec", [SIGMOID, STAIN], ids=["sigmoid", "stain"])
def test_classes_that_overlap_have_a_channel_each(tmp_path, spec):
    path = tmp_path / "slide.ome.tif"
    with random_map(spec) as pm:
        request = request_of(pm)
        write(request, path)
        expected, _ = layers_of(request)
    assert (expected > 0).all(axis=0).any()
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].axes == "CYX"
        assert len(tiff.series[0].levels) == 3
        np.testing.assert_array_equal(tiff.series[0].asarray(), expected)
    channels = xml_of(path).findall(".//o:Channel", OME)
    assert [channel.get("Name") for channel in channels] == list(spec.classes)
    for code, channel in enumerate(channels, 1):
        color = int(channel.get("Color")) % 2**32
        assert color.to_bytes(4, "big") == bytes((*request.rgb(code), 255))


def test_one_of_the_classes_that_overlap_is_one_channel(tmp_path):
    with random_map(SIGMOID) as pm:
        request = request_of(pm, codes=(2,))
        write(request, tmp_path / "a.ome.tif")
        expected, _ = layers_of(request)
    assert set(np.unique(expected[1])) == {0, 2}
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert tiff.series[0].axes == "YX"
        np.testing.assert_array_equal(tiff.series[0].asarray(), expected[1])
    root = xml_of(tmp_path / "a.ome.tif")
    assert root.find(".//o:Channel", OME).get("Name") == "Glands"
    assert annotations(root, "class")[0]["channel"] == "0"


def test_the_probability_of_one_class_is_one_channel(tmp_path):
    with random_map() as pm:
        write(request_of(pm, codes=(2,)), tmp_path / "a.ome.tif", content="probabilities")
        expected = pm.levels[0][1].compute()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), expected)


@pytest.mark.parametrize(
    ("dtype", "written"), [("uint8", np.uint8), ("float16", np.float32), ("float32", np.float32)]
)
def test_probabilities_are_the_maps_at_every_level(tmp_path, dtype, written):
    path = tmp_path / "slide.ome.tif"
    with random_map(dtype=dtype) as pm:
        write(request_of(pm, codes=(1, 3)), path, content="probabilities")
        levels = [level[[0, 2]].compute() for level in pm.levels]
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        assert (series.axes, series.dtype) == ("CYX", written)
        for found, expected in zip(series.levels, levels, strict=True):
            np.testing.assert_array_equal(found.asarray(), expected)
    root = xml_of(path)
    names = [channel.get("Name") for channel in root.findall(".//o:Channel", OME)]
    assert names == ["Tumour", "Other"]
    assert "area_mm2" not in annotations(root, "class")[0]
    assert not (tmp_path / "slide.groovy").exists()


def test_levels_end_where_a_tile_holds_one(tmp_path):
    """The map's own levels go on, its chunks being small."""
    with random_map(chunk=100) as pm:
        assert len(pm.levels) == 5
        write(request_of(pm), tmp_path / "a.ome.tif", content="probabilities")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert len(tiff.series[0].levels) == 3


@pytest.mark.parametrize(
    ("shape", "levels"), [((512, 512), 1), ((513, 40), 2), ((3, 5), 1), ((30, 4700), 5)]
)
def test_sizes_at_the_edge_of_a_tile_and_wider_than_is_read_at_once(tmp_path, shape, levels):
    with random_map(shape=shape) as pm:
        request = request_of(pm)
        write(request, tmp_path / "a.ome.tif")
        (expected,), _ = layers_of(request)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert len(tiff.series[0].levels) == levels
        np.testing.assert_array_equal(tiff.series[0].asarray(), expected)


def test_physical_sizes_are_the_maps(tmp_path):
    path = tmp_path / "slide.ome.tif"
    with random_map(mpp=YX(0.5, 0.25)) as pm:
        write(request_of(pm), path)
    pixels = xml_of(path).find(".//o:Pixels", OME)
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("0.25", "µm")
    assert (pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeYUnit")) == ("0.5", "µm")
    with tifffile.TiffFile(path) as tiff:
        for level, series in enumerate(tiff.series[0].levels):
            page = series.pages[0]
            assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
            assert page.resolution == (40_000 / 2**level, 20_000 / 2**level)


def test_without_a_scale_none_is_given(tmp_path):
    path = tmp_path / "slide.ome.tif"
    with random_map(mpp=None) as pm:
        write(request_of(pm), path)
    root = xml_of(path)
    assert root.find(".//o:Pixels", OME).get("PhysicalSizeX") is None
    assert "pixels" in annotations(root, "class")[0]
    assert "area_mm2" not in annotations(root, "class")[0]
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].resolutionunit == tifffile.RESUNIT.NONE


def test_the_classes_and_how_it_came_to_be_are_in_the_xml(tmp_path):
    path = tmp_path / "slide.ome.tif"
    names = {1: 'Tumor <{µ}> & "more"', 2: "Stro\x00ma", 3: "Other"}
    with random_map(provenance={"slide": {"stem": "a\udcff{0}", "fingerprint": "f"}}) as pm:
        request = request_of(pm, names=names)
        write(request, path)
        (expected,), _ = layers_of(request)
    root = xml_of(path)
    classes = annotations(root, "class")
    assert [one["name"] for one in classes] == [names[1], "Stro ma", "Other"]
    for code, one in enumerate(classes, 1):
        pixels = int((expected == code).sum())
        assert (one["label"], one["channel"]) == (str(code), "0")
        assert one["pixels"] == str(pixels)
        assert float(one["area_mm2"]) == pytest.approx(pixels * 0.25e-6)
        assert one["color"] == SOFTMAX.class_colors[code - 1].upper()
    (made,) = annotations(root, "provenance")
    for name, value in provenance(request).items():
        assert made[name] == value if isinstance(value, str) else json.loads(made[name]) == value
    description = root.find(".//o:Description", OME).text
    assert description.startswith("Pixels are predicted labels: 0 = none, 1 = Tumor <{µ}>")
    assert description.endswith(RESEARCH_USE)
    assert str(tmp_path) not in ET.tostring(root, encoding="unicode")


def test_the_file_is_told_apart_by_what_it_holds_not_by_the_machine(tmp_path):
    names = ["a.ome.tif", "b.ome.tif"]
    with random_map() as pm:
        for name in names:
            write(request_of(pm), tmp_path / name)
        first, other = (uuid.UUID(xml_of(tmp_path / name).get("UUID")) for name in names)
        write(request_of(pm), tmp_path / "a.ome.tif")
    # Version 1 is made of the time and the network address.
    assert first.version == 5
    assert uuid.UUID(xml_of(tmp_path / "a.ome.tif").get("UUID")) == first != other


def test_stain_values_are_told_as_optical_density(tmp_path):
    with random_map(STAIN) as pm:
        write(request_of(pm), tmp_path / "a.ome.tif", content="probabilities")
    description = xml_of(tmp_path / "a.ome.tif").find(".//o:Description", OME).text
    assert description.startswith("Pixels are optical densities / 2 * 255;")


def test_what_was_not_analysed_may_be_told_apart(tmp_path):
    with random_map() as pm:
        request = request_of(pm)
        write(request, tmp_path / "a.ome.tif", not_analysed=255)
        (expected,), block = layers_of(request)
    expected[~block.analysed] = 255
    assert (expected == 0).any()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), expected)


def test_openslide_opens_level_0(tmp_path):
    """It knows no SubIFDs, where OME-TIFF has the other levels."""
    with random_map() as pm:
        request = request_of(pm)
        write(request, tmp_path / "a.ome.tif")
        (expected,), _ = layers_of(request)
    with openslide.OpenSlide(tmp_path / "a.ome.tif") as slide:
        assert slide.level_dimensions == (SHAPE[::-1],)
        pixels = np.asarray(slide.read_region((0, 0), 0, SHAPE[::-1]))
    np.testing.assert_array_equal(pixels[..., 0], expected)


def test_labels_come_with_a_script_and_nothing_else_is_left(tmp_path):
    with random_map() as pm:
        steps = write(request_of(pm), tmp_path / "slide.ome.tif")
        assert any("slide.groovy" in step.remark for step in steps)
        # A second export replaces the script of the first.
        (tmp_path / "slide.ome.tif").unlink()
        write(request_of(pm, codes=(1,)), tmp_path / "slide.ome.tif")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["slide.groovy", "slide.ome.tif"]
    assert "Stroma" not in (tmp_path / "slide.groovy").read_text()


def test_a_script_of_somebody_else_is_kept(tmp_path):
    (tmp_path / "slide.groovy").write_text("print 1")
    with random_map() as pm, pytest.raises(ExportError, match=r"slide\.groovy is there"):
        write(request_of(pm), tmp_path / "slide.ome.tif")
    assert [file.name for file in tmp_path.iterdir()] == ["slide.groovy"]


@pytest.mark.parametrize("content", ["labels", "probabilities"])
def test_closing_the_export_stops_it(tmp_path, monkeypatch, content):
    """The thread that writes is held at its tenth tile until it is told to stop."""
    background, padded, stops, tiles = tiff_module._in_background, tiff_module._padded, [], []

    def watched(work, stop):
        stops.append(stop)
        return background(work, stop)

    def held(tile):
        tiles.append(tile.shape)
        if len(tiles) == 10:
            stops[0].wait(timeout=10)
        return padded(tile)

    monkeypatch.setattr(tiff_module, "_in_background", watched)
    monkeypatch.setattr(tiff_module, "_padded", held)
    partial = tmp_path / "a.partial"
    with random_map(shape=(1600, 1600)) as pm:
        steps = TiffWriter(content).write(request_of(pm), partial, tmp_path / "a.ome.tif")
        while not partial.exists():
            next(steps)
        steps.close()
    assert len(tiles) <= 10
    assert [file.name for file in tmp_path.iterdir()] == ["a.partial"]


def test_a_map_that_cannot_be_read_is_the_error(tmp_path, monkeypatch):
    def fails(self, region, level=0):
        raise StoreError("The map cannot be read there.")

    with random_map() as pm:
        monkeypatch.setattr(ProbabilityMap, "read", fails)
        for content in ("labels", "probabilities"):
            with pytest.raises(StoreError, match="cannot be read there"):
                write(request_of(pm), tmp_path / "a.ome.tif", content=content)
    assert {file.name for file in tmp_path.iterdir()} <= {".a.ome.tif.partial"}


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    """Told in one sentence where the file gets its name."""
    resource = pytest.importorskip("resource", reason="only POSIX limits a file's size")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with random_map() as pm:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                write(request_of(pm), tmp_path / "a.ome.tif", content="probabilities")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("content", ["labels", "probabilities"])
@pytest.mark.parametrize("where", ["pixels", "end"])
def test_a_file_that_is_damaged_is_noticed(tmp_path, monkeypatch, content, where):
    check = tiff_module._check

    def damage(partial, *rest):
        data = bytearray(partial.read_bytes())
        if where == "end":
            del data[len(data) // 2 :]
        else:
            with tifffile.TiffFile(partial) as tiff:
                start = tiff.pages[0].dataoffsets[1]
            data[start + 2 : start + 40] = bytes(38)
        partial.write_bytes(data)
        yield from check(partial, *rest)

    monkeypatch.setattr(tiff_module, "_check", damage)
    with random_map() as pm, pytest.raises(ExportError, match=r"a\.ome\.tif did not read back"):
        write(request_of(pm), tmp_path / "a.ome.tif", content=content)


def test_other_pixels_than_were_handed_over_are_noticed(tmp_path, monkeypatch):
    padded = tiff_module._padded
    monkeypatch.setattr(tiff_module, "_padded", lambda tile: padded(tile) | 4)
    with random_map() as pm, pytest.raises(ExportError, match="did not read back"):
        write(request_of(pm), tmp_path / "a.ome.tif")


def test_labels_lost_on_the_way_are_noticed(tmp_path, monkeypatch):
    read = tiff_module.Labels.read

    def loses(self, plane, level, region):
        return read(self, plane, level, region) * (level != 1)

    monkeypatch.setattr(tiff_module.Labels, "read", loses)
    with random_map() as pm, pytest.raises(ExportError, match="kept beside the file"):
        write(request_of(pm), tmp_path / "a.ome.tif")


def test_a_map_of_nothing_covered_gives_an_empty_file(tmp_path):
    nothing = np.zeros((40, 50), bool)
    with map_of(np.ones((3, 40, 50)), SOFTMAX, coverage=nothing) as pm:
        for content in ("labels", "probabilities"):
            write(request_of(pm), tmp_path / f"{content}.ome.tif", content=content)
            assert not tifffile.imread(tmp_path / f"{content}.ome.tif").any()


def test_bad_options():
    for options in (
        {"content": "areas"},
        {"not_analysed": 254},
        {"content": "probabilities", "not_analysed": 255},
        {"level": 1},
    ):
        with pytest.raises(ExportError):
            TiffWriter(**options)


def test_memory_is_that_of_a_row_of_tiles(tmp_path):
    peaks = []
    spec = replace(SOFTMAX, name="high")
    for rows in (2048, 8192):
        with map_of(np.ones((3, rows, 600), np.uint8), spec, chunk=512) as pm:
            steps = TiffWriter().write(request_of(pm), tmp_path / "p", tmp_path / f"{rows}.ome.tif")
            tracemalloc.start()
            for _ in steps:
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_the_file_is_read_back_in_pieces(tmp_path, monkeypatch):
    """Not a plane at once, as tifffile does by itself."""
    asked, read = [], tifffile.FileHandle.read_segments

    def noted(self, *arguments, **options):
        asked.append(options["buffersize"])
        return read(self, *arguments, **options)

    monkeypatch.setattr(tifffile.FileHandle, "read_segments", noted)
    with random_map() as pm:
        write(request_of(pm), tmp_path / "a.ome.tif", content="probabilities")
    assert set(asked) == {tiff_module._BUFFER}
