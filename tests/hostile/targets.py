"""What is fed to whom: sound files, and the reader that each is spoiled for."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import tifffile
import torch
import zarr
from PIL import Image
from safetensors.torch import save_file

import napari_wsiseg as ws
from engine.engine_cases import PositionModel, picture, slide_of
from hostile import vendors
from hostile.mutations import spoil_folder, spoiled_bytes, spoiled_json
from napari_wsiseg._napari.kept_view import keep_hidden, keep_rule, kept_hidden, kept_rule
from napari_wsiseg.geometry import Region, Size
from napari_wsiseg.labels import load_preset, save_preset
from napari_wsiseg.models import predict
from napari_wsiseg.models.files import spec_beside
from napari_wsiseg.models.stains import StainVectors
from napari_wsiseg.models.weights import read_state_dict
from napari_wsiseg.regions import read_geojson, read_outlines
from napari_wsiseg.slides import READERS
from napari_wsiseg.store.owner import Owner
from napari_wsiseg.tissue import load_tissue

Spoil = Callable[[bytes, Random], bytes]
MODEL = PositionModel(Size(20, 20), Size(20, 20), Size(20, 20))


@dataclass(frozen=True)
class Target:
    """Sound files or folders, and what reads them.

    Parameters
    ----------
    seeds
        Makes them in a folder.
    read
        Takes one, and a folder to write to.
    spoil
        Changes a file's bytes; folders are changed by `spoil_folder`.
    needs
        Packages without which there is nothing to read.
    """

    seeds: Callable[[Path], None]
    read: Callable[[Path, Path], object]
    spoil: Spoil = spoiled_bytes
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """What it needs and is not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def spoiled(self, seed: Path, path: Path, outside: Path, draw: Random) -> None:
        """A spoiled copy of a seed at `path`; links in it may lead to the file `outside`."""
        if seed.is_dir():
            shutil.copytree(seed, path)
            spoil_folder(path, outside, draw)
        else:
            path.write_bytes(self.spoil(seed.read_bytes(), draw))
            for beside in seed.parent.glob(f"{seed.stem}.*"):
                if beside != seed:
                    shutil.copy(beside, path.with_suffix(beside.suffix))


def _pixels(height: int = 96, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def _tiffs(folder: Path) -> None:
    pixels, tiled = _pixels(), {"photometric": "rgb", "tile": (32, 32)}
    svs = "Aperio Image Library v11\n80x96|AppMag = 40|MPP = 0.25"
    for name, options in {
        "deflate.tif": {"compression": "zlib", "predictor": True},
        "lzw.tif": {"compression": "lzw"},
        "zstd.tif": {"compression": "zstd"},
        "svs.svs": {"compression": "jpeg", "description": svs},
        "j2k.tif": {"compression": 33005, "compressionargs": {"level": 0}},
        "webp.tif": {"compression": "webp"},
    }.items():
        with tifffile.TiffWriter(folder / name, bigtiff=name == "zstd.tif") as tif:
            for level in range(2):
                reduced = {"subfiletype": level} if "svs" not in name else {}
                tif.write(
                    pixels[:: 2**level, :: 2**level], metadata=None, **reduced, **tiled, **options
                )
    tifffile.imwrite(folder / "strips.tif", pixels, photometric="rgb", rowsperstrip=7)
    tifffile.imwrite(
        folder / "ome.ome.tif",
        pixels,
        ome=True,
        **tiled,
        metadata={"axes": "YXS", "PhysicalSizeX": 0.5},
    )


def _openslides(folder: Path) -> None:
    _tiffs(folder)
    for path in folder.iterdir():
        if path.name not in ("svs.svs", "deflate.tif", "lzw.tif"):
            path.unlink()


def _vendors(folder: Path) -> None:
    vendors.leica(folder / "leica.scn")
    vendors.ventana(folder / "ventana.bif")
    vendors.ndpi(folder / "ndpi.ndpi")
    vendors.sakura(folder / "sakura.svslide")
    vendors.zeiss(folder / "zeiss.czi")


def _mrxs(folder: Path) -> None:
    vendors.mrxs(folder / "plain", packed=False)
    vendors.mrxs(folder / "packed", packed=True)
    vendors.vms(folder / "vms")


def _dicoms(folder: Path) -> None:
    vendors.dicom(folder / "full")
    vendors.dicom(folder / "sparse", sparse=True)
    vendors.dicom(folder / "raw", jpeg=False)


def _pictures(folder: Path) -> None:
    for name in ("a.png", "a.jpg"):
        Image.fromarray(_pixels()).save(folder / name)


def _zarrs(folder: Path) -> None:
    axes = [
        {"name": n, "type": "space" if n != "c" else "channel", "unit": "micrometer"} for n in "cyx"
    ]
    scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    sets = [{"path": "0", "coordinateTransformations": scale}]
    planes = np.moveaxis(_pixels(), 2, 0)
    for number, options in {
        2: [{"compressors": {"id": "blosc"}}, {"compressors": {"id": "zlib"}}, {}],
        3: [{}, {"shards": (3, 96, 96)}, {"compressors": zarr.codecs.BloscCodec()}],
    }.items():
        for index, one in enumerate(options):
            multi = [{"axes": axes, "datasets": sets, "version": "0.4" if number == 2 else "0.5"}]
            ome = {"multiscales": multi}
            attributes = ome if number == 2 else {"ome": {"version": "0.5", **ome}}
            group = zarr.create_group(
                folder / f"v{number}-{index}.zarr", zarr_format=number, attributes=attributes
            )
            group.create_array("0", data=planes, chunks=(3, 32, 32), **one)


def _masks(folder: Path) -> None:
    mask = np.eye(40, dtype=np.uint8) * 255
    np.save(folder / "m.npy", mask)
    Image.fromarray(mask).save(folder / "m.png")
    tifffile.imwrite(folder / "m.tif", mask, compression="zlib")


def _read_slide(path: Path, _: Path) -> None:
    with ws.open_slide(path) as slide:
        _look(slide)


def _read_slide_in(path: Path, out: Path) -> None:
    """The file that names the others."""
    found = [*path.glob("a.mrxs"), *path.glob("a.vms")]
    _read_slide(found[0] if found else path, out)


def _read_by_openslide(path: Path, _: Path) -> None:
    (reader,) = (one for one in READERS if one.name == "OpenSlide")
    try:
        slide = reader.open(path, None)
    except (ws.SlideError, OSError) as error:
        # `open_slide` makes a sentence of it.
        raise ws.SlideError("It cannot be opened.") from error
    with slide:
        _look(slide)


def _look(slide: ws.Slide) -> None:
    for level in slide.info.levels:
        slide.read_at(Region(0, 0, Size(64, 64)).clipped(level.size), level.downsample)


def _read_mask(path: Path, _: Path) -> None:
    with ws.open_slide(_pixels()) as slide:
        load_tissue(path, slide.info)


def _results(folder: Path) -> None:
    mask = np.ones((30, 30), bool)
    for name in ("a", "corrected"):
        path = folder / f"{name}.ome.zarr"
        job = ws.SegmentationJob(tissue="none", output=path)
        with ws.run(job, slide_of(picture(30, 30)), MODEL, mask) as pm:
            if name == "corrected":
                _paint(pm)
                keep_rule(pm, ws.DecisionRule({"A": 0.25}))
                keep_hidden(pm, {1})
                # Of one who is not there any more.
                (path / "lock").mkdir()
                (path / "lock" / Owner(2**22 + 1, 1.0, Owner.this().host).name).touch()


def _paint(pm: ws.ProbabilityMap) -> None:
    ws.correct(pm, Region(0, 0, Size(8, 8)), np.full((8, 8), 2, np.uint8))


def _read_result(path: Path, out: Path) -> None:
    with ws.ProbabilityMap.open(path) as pm:
        _ = (
            pm.finished,
            pm.patches,
            pm.status,
            pm.provenance,
            pm.warnings,
            pm.failed_patches,
            repr(pm),
            kept_rule(pm),
            kept_hidden(pm),
        )
        for level, size in enumerate(pm.layout.sizes):
            pm.read(Region(0, 0, size), level)
        ws.measure(pm, ws.DecisionRule())
        ws.export(pm, out / "x.geojson", "geojson", overwrite=True)
        ws.export(pm, out / "x.csv", "csv", overwrite=True)
        if ws.has_corrections(pm):
            ws.corrections(pm)
            ws.labels_to_correct(pm, Region(0, 0, Size(8, 8)))
            ws.export(pm, out / "c.geojson", "geojson", corrected=True, overwrite=True)
            _paint(pm)
            keep_rule(pm, ws.DecisionRule())
            keep_hidden(pm, {0})
            ws.discard_corrections(pm)
    job = ws.SegmentationJob(tissue="none", output=path)
    ws.run(job, slide_of(picture(30, 30)), MODEL, np.ones((30, 30), bool)).close()


def _jobs(folder: Path) -> None:
    (folder / "job.yaml").write_text(
        "slide: a.svs\nmodel: he-stain\nresolution: 0.5 mpp\nmpp: [0.5, 0.5]\nmemory_limit: 2 GB\n"
        "patch_input_shape: 1024\ntissue: {mpp: 8, min_object_um2: 50}\nbatch_size: 4\n"
        "region: [{top: 0, left: 0, height: 2, width: 2}, [[0, 0], [0, 5], [5, 5]]]\nstrict: true\n"
    )


def _specs(folder: Path) -> None:
    (folder / "spec.yaml").write_text(
        "classes: [A, B]\nresolution: 2 mpp\npatch_input_shape: [64, 64]\npatch_output_shape: 32\n"
        "activation: softmax\nbackground: 0\ncolors: ['#112233', '#445566']\nthresholds: {B: 0.5}\n"
    )


def _stains(folder: Path) -> None:
    (folder / "stains.yaml").write_text(
        "first: [0.6, 0.7, 0.2]\nsecond: [0.2, 0.5, 0.7]\nbackground: [250, 250, 250]\nsource: x\n"
    )


def _presets(folder: Path) -> None:
    spec = ws.models()["he-stain"]
    save_preset(ws.DecisionRule({spec.classes[0]: 0.25}), spec, folder / "p.json")


def _geojsons(folder: Path) -> None:
    ring = [[0, 0], [0, 20], [20, 20], [0, 0]]
    shapes = [
        {"type": "Polygon", "coordinates": [ring, ring]},
        {"type": "MultiPolygon", "coordinates": [[ring], [ring]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [ring]}]},
    ]
    features = [
        {
            "type": "Feature",
            "geometry": s,
            "properties": {"name": "a", "classification": {"name": "b"}},
        }
        for s in shapes
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "a.geojson").write_text(text)


def _read_geojson(path: Path, _: Path) -> None:
    read_geojson(path)
    read_outlines(path)


def _weights(folder: Path) -> None:
    state = {"a": torch.ones(3, 4), "b": torch.zeros(5, dtype=torch.int64)}
    torch.save(state, folder / "w.pth")
    save_file(state, folder / "w2.safetensors")


_HALVES = "classes: [Red, Green]\npatch_input_shape: 16\npatch_output_shape: 6\n"


def _onnx(folder: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    numbers = {
        "from": np.array([0, 4, 4]),
        "to": np.array([2, -4, -4]),
        "axes": np.array([1, 2, 3]),
        "half": np.full((1, 2, 1, 1), 0.5, np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axes"], ["centre"]),
        helper.make_node("Mul", ["centre", "half"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "halves",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value, name) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    (folder / "m.yaml").write_text(_HALVES)


class _Halves(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.halve = torch.nn.Conv2d(3, 2, 1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.halve(patches))


def _scripts(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(_Halves()).save(folder / "m.pt")
    (folder / "m.yaml").write_text(_HALVES)


def _ask(model: ws.Segmenter) -> None:
    predict(model, picture(16, 16)[None])


def _read_onnx(path: Path, _: Path) -> None:
    _ask(ws.load_model(path.with_suffix(".onnx")))


def _read_script(path: Path, _: Path) -> None:
    _ask(ws.load_model(path.with_suffix(".pt"), trust=True))


TARGETS = {
    "tiff": Target(_tiffs, _read_slide),
    "openslide": Target(_openslides, _read_by_openslide),
    "vendors": Target(_vendors, _read_slide),
    "mrxs": Target(_mrxs, _read_slide_in),
    "dicom": Target(_dicoms, _read_slide),
    "picture": Target(_pictures, _read_slide),
    "zarr": Target(_zarrs, _read_slide),
    "mask": Target(_masks, _read_mask),
    "result": Target(_results, _read_result),
    "job": Target(_jobs, lambda path, _: ws.SegmentationJob.from_yaml(path)),
    "spec": Target(_specs, lambda path, _: spec_beside(path)),
    "stains": Target(_stains, lambda path, _: StainVectors.from_yaml(path)),
    "preset": Target(
        _presets, lambda path, _: load_preset(path, ws.models()["he-stain"]), spoiled_json
    ),
    "geojson": Target(_geojsons, _read_geojson, spoiled_json),
    "weights": Target(_weights, lambda path, _: read_state_dict(path)),
    "onnx": Target(_onnx, _read_onnx, needs=("onnx", "onnxruntime")),
    "script": Target(_scripts, _read_script),
}
