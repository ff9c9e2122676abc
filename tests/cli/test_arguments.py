from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_wsiseg.cli.arguments import find_slides, job_of, one_or_two, places, regions
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.errors import JobError
from napari_wsiseg.geometry import Region, Resolution, Size

SQUARE = [[0, 0], [40, 0], [40, 30], [0, 30], [0, 0]]
HOLE = [[10, 10], [20, 10], [20, 20], [10, 10]]


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "kind", "value"),
        [
            ("0.5", float, 0.5),
            ("0.5,0.25", float, (0.5, 0.25)),
            ("450", int, 450),
            ("450, 300", int, (450, 300)),
        ],
    )
    def test_one_number_or_y_and_x(self, text, kind, value):
        assert one_or_two("--x", text, kind) == value

    @pytest.mark.parametrize("text", ["", "a", "1,2,3", "1,", "0.5x"])
    def test_what_is_neither_is_named(self, text):
        with pytest.raises(JobError, match="--mpp cannot be"):
            one_or_two("--mpp", text, float)


class TestRegions:
    @given(st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=2), st.integers(1, 10**6))
    def test_top_left_height_width(self, corner, side):
        top, left = corner
        assert regions([f"{top},{left},{side},{side + 1}"]) == (
            Region(top, left, Size(side, side + 1)),
        )

    def test_several(self):
        assert len(regions(["0,0,10,10", "20,20,5,5"])) == 2

    @pytest.mark.parametrize("text", ["0,0,0,10", "0,0,10,-1"])
    def test_an_empty_one_is_refused(self, text):
        with pytest.raises(JobError, match="holds no pixel"):
            regions([text])

    @pytest.mark.parametrize(
        ("shape", "outlines"),
        [
            ({"type": "Polygon", "coordinates": [SQUARE, HOLE]}, 1),
            ({"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE, HOLE]]}, 2),
        ],
        ids=["polygon", "multipolygon"],
    )
    @pytest.mark.parametrize("wrapped", ["bare", "feature", "collection"])
    def test_geojson_outlines_turn_from_xy_to_yx(self, tmp_path, shape, outlines, wrapped):
        if wrapped != "bare":
            shape = {"type": "Feature", "geometry": shape, "properties": {}}
        if wrapped == "collection":
            point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
            shape = {"type": "FeatureCollection", "features": [point, shape]}
        file = tmp_path / "x.geojson"
        file.write_text(json.dumps(shape), encoding="utf-8")
        assert regions([str(file)]) == (((0, 0), (0, 40), (30, 40), (30, 0)),) * outlines

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            ("{", "cannot be read as GeoJSON"),
            ('{"type": "Polygon", "coordinates": [[1, 2]]}', "cannot be read as GeoJSON"),
            ('{"type": "Point", "coordinates": [1, 2]}', "holds no Polygon"),
            ("[]", "holds no Polygon"),
        ],
    )
    def test_a_bad_file_is_named(self, tmp_path, content, complaint):
        file = tmp_path / "x.geojson"
        file.write_text(content, encoding="utf-8")
        with pytest.raises(JobError, match=f"x.geojson {complaint}"):
            regions([str(file)])

    def test_neither_numbers_nor_a_file(self):
        with pytest.raises(JobError, match="'1,2,3' is neither"):
            regions(["1,2,3"])


class TestSlides:
    @pytest.fixture
    def folder(self, tmp_path: Path, slide: Path) -> Path:
        folder = tmp_path / "slides"
        (folder / "deeper").mkdir(parents=True)
        for name in ("b.tif", "a.svs", "unnamed", ".hidden.tif", "deeper/c.tif"):
            shutil.copy(slide, folder / name)
        (folder / "broken.ndpi").write_bytes(b"II*\0")
        (folder / "notes.txt").write_text("no slide")
        return folder

    def test_a_folder_gives_slides_by_content_and_damaged_ones_by_name(self, folder):
        names = [path.name for path in find_slides([str(folder)])]
        assert names == ["a.svs", "b.tif", "broken.ndpi", "unnamed"]

    def test_a_pattern_and_a_file_give_each_slide_once(self, folder):
        found = find_slides([str(folder / "b.tif"), str(folder / "*.tif"), str(folder / "a.svs")])
        assert [path.name for path in found] == ["b.tif", "a.svs"]

    def test_a_pattern_may_reach_into_folders(self, folder):
        assert [path.name for path in find_slides([str(folder / "**" / "c.*")])] == ["c.tif"]

    def test_a_name_with_brackets_is_no_pattern(self, folder):
        odd = folder / "s[1].tif"
        shutil.copy(folder / "b.tif", odd)
        assert find_slides([str(odd)]) == [odd]

    def test_a_dicom_folder_is_one_slide(self, shared_data):
        series = shared_data / "CMU-1-Small-Region-dicom"
        assert find_slides([str(series)]) == [series]

    @pytest.mark.parametrize("name", ["missing.svs", "*.mrxs", "deeper/none*"])
    def test_what_stands_for_nothing_is_refused(self, folder, name):
        with pytest.raises(JobError, match="There is no slide"):
            find_slides([str(folder / name)])

    def test_a_folder_without_slides_is_refused(self, tmp_path):
        (tmp_path / "notes.txt").write_text("no slide")
        with pytest.raises(JobError, match="There is no slide in"):
            find_slides([str(tmp_path)])


class TestJob:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "job.yaml"
        file.write_text(
            "slide: x.svs\nmodel: tissue\nresolution: 20x\noutput: out.ome.zarr\n"
            "region: {top: 1, left: 2, height: 3, width: 4}\ntissue: {mpp: 4}\n",
            encoding="utf-8",
        )
        return file

    def test_options_win_over_the_file_and_the_rest_stays(self, file):
        job = job_of(file, {"model": "he-stain", "batch_size": 2, "tissue": None})
        assert (job.model, job.batch_size) == ("he-stain", 2)
        assert job == SegmentationJob.from_yaml(file).model_copy(
            update={"model": "he-stain", "batch_size": 2}
        )
        assert job.resolution == Resolution(20, "power")
        assert job.region == (Region(1, 2, Size(3, 4)),)

    def test_a_bad_value_is_one_sentence(self):
        with pytest.raises(JobError, match=r"memory_threshold cannot be 101.*100\.$"):
            job_of(None, {"memory_threshold": 101})

    def test_results_go_to_a_folder_by_name(self):
        job = SegmentationJob()
        assert places(job, None, 3) == (job, Path())
        assert places(job, Path("there"), 3) == (job, Path("there"))

    def test_a_folder_in_ones_own(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        assert places(SegmentationJob(), Path("~/there"), 3)[1] == tmp_path / "there"

    def test_a_file_is_no_folder_for_results(self, file):
        with pytest.raises(JobError, match=r"job\.yaml is a file"):
            places(SegmentationJob(), file, 1)

    def test_a_results_own_path_is_for_one_slide(self, file):
        assert places(SegmentationJob(), Path("a.zarr"), 1)[0].output == Path("a.zarr")
        job = job_of(file, {})
        assert places(job, None, 1) == (job, None)
        assert places(job, Path("folder"), 2) == (job, Path("folder"))
        with pytest.raises(JobError, match="cannot hold the results of 2 slides"):
            places(job, None, 2)
