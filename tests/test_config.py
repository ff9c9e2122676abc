"""Jobs: what they refuse, in which words, and that a job file gives the same job back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from napari_wsiseg.config import SegmentationJob, TissueOptions, parse_bytes
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Region, Resolution, Size

TRIANGLE = ((0.0, 0.0), (0.0, 5.5), (5.0, 5.0))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"slide": "é/ü.svs", "model": "1e5", "weights": Path("w.pth"), "output": "o.ome.zarr"},
        {"model": "hdab-stain", "stains": "slide"},
        {"model": "null", "device": "cuda:1", "trust": True},
        {"precision": "exact", "backend": "torch"},
        {"mpp": 0.1 + 0.2},
        {"mpp": (0.25, 0.26)},
        {"resolution": "20x", "save_resolution": "level 0"},
        {"resolution": Resolution(1 / 3, "mpp"), "save_resolution": Resolution(1e-7, "baseline")},
        {"patch_input_shape": 1024, "patch_output_shape": (512, 500), "stride_shape": (450, 7)},
        {"region": Region(1, 2, Size(3, 4))},
        {"region": TRIANGLE},
        {"region": (Region(1, 2, Size(3, 4)), TRIANGLE)},
        {"tissue": TissueOptions()},
        {"tissue": TissueOptions(mpp=4, leave_out_ink=False), "min_mask_ratio": 0.1},
        {"tissue": "mask.png"},
        {"tissue": "none"},
        {"tissue": Path("none")},
        {"memory_limit": "1.5 GiB", "memory_threshold": 12.5, "batch_size": 3},
        {"window": "gaussian", "dtype": "float16", "strict": True, "on_exists": "overwrite"},
    ],
    ids=str,
)
def test_a_job_file_gives_the_same_job_back(tmp_path: Path, values: dict[str, object]) -> None:
    job = SegmentationJob(**values)  # type: ignore[arg-type]
    path = tmp_path / "job.yaml"
    job.to_yaml(path)
    assert SegmentationJob.from_yaml(path) == job
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= set(values)


def test_a_job_file_as_people_write_it(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "slide: a.svs\n"
        "stride_shape: 450\n"
        "memory_limit: 2 GB\n"
        "tissue: {mpp: 4}\n"
        "region:\n"
        "  - {top: 1, left: 2, height: 3, width: 4}\n"
        "  - [[0, 0], [0, 5.5], [5, 5]]\n"
    )
    assert SegmentationJob.from_yaml(path) == SegmentationJob(
        slide=Path("a.svs"),
        stride_shape=(450, 450),
        memory_limit=2 * 10**9,
        tissue=TissueOptions(mpp=4),
        region=(Region(1, 2, Size(3, 4)), TRIANGLE),
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"memory_threshold": 0}, "memory_threshold cannot be 0; .* greater than 0"),
        ({"memory_threshold": 101}, "memory_threshold cannot be 101; .* equal to 100"),
        ({"memory_limit": "2 XB"}, r"memory_limit: '2 XB' is not .* '2 GB'\.$"),
        ({"memory_limit": "0 MB"}, "memory_limit cannot be 0"),
        ({"stride_shape": 0}, "stride_shape cannot be 0"),
        ({"stride_shape": (5,)}, r"stride_shape is \(5,\); it has too few values"),
        ({"mpp": 0}, "^mpp cannot be 0; it should be: greater than 0"),
        ({"mpp": (0.5,)}, r"mpp is \(0.5,\); it has too few"),
        ({"mpp": float("nan")}, "mpp cannot be nan"),
        ({"resolution": "half"}, "'half' is not a resolution; write it like"),
        ({"resolution": "0 mpp"}, "out of range"),
        ({"window": "hann"}, "window cannot be 'hann'; it should be: 'uniform' or 'gaussian'"),
        ({"stains": "own"}, "stains cannot be 'own'; it should be: 'standard' or 'slide'"),
        ({"windo": "uniform"}, "A job has no field 'windo'"),
        ({"tissue": 5}, "tissue cannot be 5; .*TissueOptions, or 'auto' or 'none', or a path"),
        ({"tissue": {"mpp": -1}}, r"^tissue\.mpp cannot be -1"),
        ({"tissue": {"mp": 1}}, r"no field 'tissue\.mp'"),
        ({"region": {"top": "a", "left": 0, "height": 3, "width": 3}}, r"region\.top cannot be"),
        ({"region": {"top": 1.5, "left": 0, "height": 3, "width": 3}}, r"region\.top cannot be"),
        ({"region": [{"top": 1}]}, r"needs the field 'region\.left'"),
        ({"region": [(1, 2), (3, 4), (5, float("nan"))]}, "region cannot be nan"),
        ({"slide": 5}, "slide cannot be 5; it should be: a path"),
        ({"output": "a\0b"}, "output: 'a.x00b' is no path"),
        ({"min_mask_ratio": 1}, "min_mask_ratio"),
        ({"batch_size": 0}, "batch_size"),
    ],
    ids=str,
)
def test_what_a_job_refuses(values: dict[str, object], words: str) -> None:
    with pytest.raises(JobError, match=words) as caught:
        SegmentationJob(**values)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "[" not in str(caught.value).split(" cannot be ")[0]


def test_the_users_own_folder_is_meant_by_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    job = SegmentationJob(
        slide=Path("~$a.tif"), output=Path("~/a.zarr"), tissue="~/a.png", model="~/a.onnx"
    )
    assert job.output == tmp_path / "a.zarr"
    assert job.tissue == tmp_path / "a.png"
    assert job.model == str(tmp_path / "a.onnx")
    assert job.slide == Path("~$a.tif")


def test_limits_of_tissue_density_are_in_order() -> None:
    with pytest.raises(JobError, match=r"^TissueOptions: min_density 0\.2 is above max_density"):
        TissueOptions(min_density=0.2, max_density=0.1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "it holds no fields; write one 'field: value' a line"),
        ("", "it holds no fields; write"),
        ("1: 2", "it holds no fields; write"),
        ("windo: uniform", "A job has no field 'windo'"),
        ("slide: [", "cannot be read: while parsing"),
    ],
)
def test_a_file_that_is_no_job_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(JobError, match=words) as caught:
        SegmentationJob.from_yaml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_job_files_that_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be read: No such file"):
        SegmentationJob.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(JobError, match="cannot be written: No such file"):
        SegmentationJob().to_yaml(tmp_path / "none" / "job.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 GB", 2 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("300 mb", 3 * 10**8),
        ("7", 7),
        ("1 T", 10**12),
        ("12 B", 12),
    ],
)
def test_sizes_in_bytes(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


def test_jobs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SegmentationJob().model = "tissue"  # type: ignore[misc]
