"""A run and an export as the window sees them, without one: steps, a switch, and an end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.engine_cases import PositionModel, picture, slide_of
from maps import SOFTMAX, map_of
from napari_wsiseg import export
from napari_wsiseg._napari.exports import ExportOrder, export_run
from napari_wsiseg._napari.run_words import ended_words, result_title
from napari_wsiseg._napari.runs import Doing, RunEnd, RunRequest, run_steps
from napari_wsiseg._napari.switch import Switch
from napari_wsiseg.config import SegmentationJob
from napari_wsiseg.engine import Progress, RunPlan, fields, run
from napari_wsiseg.errors import ExportError, JobError, ModelError, StoreError
from napari_wsiseg.geometry import Size
from napari_wsiseg.grid import PatchGrid
from napari_wsiseg.labels import MODELS_OWN, Cleanup
from napari_wsiseg.store import ProbabilityMap
from napari_wsiseg.tissue import TissueMask

pytestmark = pytest.mark.one_binding

PIXELS = picture(96, 40)
JOB = SegmentationJob(model="position", tissue="none", dtype="float32", batch_size=2)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(fields, "PatchGrid", partial(PatchGrid, chunk=16))


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {t for t in threading.enumerate() if t.name.startswith("wsiseg")} <= before


class Model(PositionModel):
    """Does something before its n-th call, from 1 on."""

    def __init__(self, call: int = 0, before: Callable[[], object] = lambda: None) -> None:
        super().__init__(Size(12, 44), Size(8, 40), Size(6, 40))
        self._call, self._before = call, before
        # To a result, all of them are one model.
        self.backend = "position"

    def predict(self, patches: torch.Tensor) -> torch.Tensor:
        if len(self.calls) + 1 == self._call:
            self._before()
        return super().predict(patches)


def failing(call: int, error: BaseException) -> Model:
    def fail() -> None:
        raise error

    return Model(call, fail)


@pytest.fixture
def request_for(tmp_path) -> Callable[..., RunRequest]:
    def make(model=None, job=JOB, tissue=None, **changes) -> RunRequest:
        load = changes.pop("load_model", lambda: Model() if model is None else model)
        slide = changes.pop("slide", None) or slide_of(PIXELS)
        return RunRequest(job, tmp_path / "out", slide, tissue, load)

    return make


def to_its_end(steps) -> tuple[list, RunEnd]:
    """All that was yielded, and what was returned."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def whole() -> np.ndarray:
    with run(JOB, slide_of(PIXELS), Model()) as result:
        return result.probabilities().compute()


def goes_on(request: RunRequest, earlier: RunEnd) -> None:
    """Asked again, undisturbed, it goes on and ends as if nothing had been."""
    _, end = to_its_end(run_steps(request, Switch()))
    assert (end.status, end.error) == ("complete", None)
    if earlier.result is not None:
        assert end.result.path == earlier.result.path
    np.testing.assert_array_equal(end.result.probabilities().compute(), whole())


class TestSwitch:
    def test_it_lets_pass_until_it_is_stopped(self) -> None:
        switch = Switch()
        assert switch.passes()
        switch.stop()
        assert not switch.passes()
        assert switch.is_stopped

    def test_what_is_held_waits_until_it_may_go(self) -> None:
        switch = Switch()
        switch.hold()
        assert switch.is_held
        passed = []
        waiting = threading.Thread(target=lambda: passed.append(switch.passes()))
        waiting.start()
        assert not passed
        switch.go()
        waiting.join(20)
        assert passed == [True]
        assert not switch.is_held

    def test_what_is_held_can_be_stopped(self) -> None:
        switch = Switch()
        switch.hold()
        passed = []
        waiting = threading.Thread(target=lambda: passed.append(switch.passes()))
        waiting.start()
        switch.stop()
        waiting.join(20)
        assert passed == [False]

    def test_what_was_stopped_is_not_held_again(self) -> None:
        switch = Switch()
        switch.stop()
        switch.hold()
        assert not switch.is_held
        assert not switch.passes()

    def test_stopped_while_it_is_being_held(self, monkeypatch) -> None:
        """The two may come from two threads, in any order."""
        switch = Switch()
        clear = switch._go.clear

        def late() -> None:
            switch.stop()
            clear()

        monkeypatch.setattr(switch._go, "clear", late)
        switch.hold()
        assert not switch.is_held


class TestARun:
    def test_it_says_what_it_does_and_ends(self, request_for, tmp_path) -> None:
        seen, end = to_its_end(run_steps(request_for(), Switch()))
        assert [type(step) for step in seen[:3]] == [Doing, Doing, RunPlan]
        assert {type(step) for step in seen[3:]} == {Progress}
        assert (end.status, end.error) == ("complete", None)
        assert end.result.path.parent == tmp_path / "out"
        assert end.result.status == "complete"
        np.testing.assert_array_equal(end.result.probabilities().compute(), whole())

    def test_the_mask_of_the_window_is_the_runs(self, request_for) -> None:
        mask = np.zeros((12, 5), bool)
        mask[:4] = True
        painted = TissueMask(mask, {"edited": True}, ())
        job = JOB.model_copy(update={"tissue": "auto"})
        _, end = to_its_end(run_steps(request_for(job=job, tissue=painted), Switch()))
        covered = end.result.coverage[0].compute()
        assert covered[:16].any()
        assert not covered[48:].any()

    @pytest.mark.parametrize("call", [1, 2, 5])
    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (RuntimeError("CUDA error: an illegal access"), "CUDA error: an illegal access"),
            (ValueError("odd"), "odd"),
            (ModelError("The answer is wrong."), "The answer is wrong."),
            (MemoryError(), "memory"),
            (SystemExit(3), "SystemExit: 3"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (StopIteration(), "StopIteration"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_whatever_a_model_raises_is_the_end_of_the_run(
        self, request_for, call, error, says
    ) -> None:
        request = request_for(failing(call, error))
        _, end = to_its_end(run_steps(request, Switch()))
        assert end.status == "failed"
        assert says in str(end.error)
        assert "\n" not in str(end.error)
        assert str(end.error) in ended_words(end)
        if call == 1:
            assert end.result is None
            assert not request.folder.exists()
        else:
            assert "Segment goes on from there" in ended_words(end)
        goes_on(request_for(slide=request.slide), end)

    def test_patches_that_failed_are_said_when_it_ends(self, request_for) -> None:
        class Sick(Model):
            def predict(self, patches: torch.Tensor) -> torch.Tensor:
                answer = super().predict(patches)
                if len(self.calls) in (2, 5):
                    answer[1] = float("nan")
                return answer

        seen, end = to_its_end(run_steps(request_for(Sick()), Switch()))
        assert end.status == "complete"
        assert ended_words(end) == (
            "Done, but ⚠ 2 patches could not be computed and are left out, the first at x 0, "
            f"y 18 on the slide: the model answered NaN or infinity. {end.result.path}"
        )
        assert result_title("a", end.result) == "a (2 patches left out)"
        told = [step.message for step in seen[3:] if step.kind == "warning"]
        assert told == [
            f"The patch at x 0, y {y} on the slide is left out: the model answered NaN or infinity."
            for y in (18, 54)
        ]

    def test_a_model_that_cannot_be_loaded(self, request_for, tmp_path) -> None:
        def fail():
            raise RuntimeError("PytorchStreamReader failed")

        seen, end = to_its_end(run_steps(request_for(load_model=fail), Switch()))
        assert [step.text for step in seen] == ["Loading the model ..."]
        assert (end.status, end.result) == ("failed", None)
        assert "PytorchStreamReader failed" in str(end.error)
        assert list(tmp_path.iterdir()) == []

    def test_a_slide_that_is_gone(self, request_for, tmp_path) -> None:
        slide = slide_of(PIXELS)

        def load() -> Model:
            slide.close()
            return Model()

        _, end = to_its_end(run_steps(request_for(load_model=load, slide=slide), Switch()))
        assert (end.status, end.result) == ("failed", None)
        assert "it was closed" in str(end.error)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_made(self, request_for, tmp_path) -> None:
        (tmp_path / "out").write_text("in the way")
        _, end = to_its_end(run_steps(request_for(), Switch()))
        assert isinstance(end.error, StoreError)
        assert str(tmp_path / "out") in str(end.error)
        assert (tmp_path / "out").read_text() == "in the way"

    def test_a_job_that_cannot_be_done(self, request_for) -> None:
        job = JOB.model_copy(update={"stride_shape": (60, 60)})
        _, end = to_its_end(run_steps(request_for(job=job), Switch()))
        assert isinstance(end.error, JobError)
        assert end.status == "failed"


class TestStopping:
    @pytest.mark.parametrize("call", [1, 2, 5])
    def test_it_ends_within_one_batch_and_goes_on(self, request_for, call) -> None:
        switch = Switch()
        model = Model(call, switch.stop)
        _, end = to_its_end(run_steps(request_for(model), switch))
        assert len(model.calls) == call
        assert (end.status, end.error) == ("cancelled", None)
        assert end.result.status == "cancelled"
        goes_on(request_for(), end)

    def test_before_the_first_patch_nothing_is_written(self, request_for, tmp_path) -> None:
        switch = Switch()

        def load() -> Model:
            switch.stop()
            return Model()

        _, end = to_its_end(run_steps(request_for(load_model=load), switch))
        assert end == RunEnd("cancelled")
        assert "nothing was written" in ended_words(end)
        assert list(tmp_path.iterdir()) == []

    def test_what_breaks_on_the_way_out_is_no_failure(self, request_for) -> None:
        switch = Switch()

        def break_down() -> None:
            switch.stop()
            raise RuntimeError("on the way out")

        _, end = to_its_end(run_steps(request_for(Model(4, break_down)), switch))
        assert (end.status, end.error) == ("cancelled", None)

    def test_held_it_asks_the_model_nothing_and_loses_nothing(self, request_for) -> None:
        switch = Switch()
        model = Model(3, switch.hold)
        steps, ends, held = run_steps(request_for(model), switch), [], threading.Event()

        def watch() -> Iterator[object]:
            value = yield from steps
            ends.append(value)

        def work() -> None:
            for _ in watch():
                if switch.is_held:
                    held.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert held.wait(20)
        assert len(model.calls) == 3
        assert not ends
        switch.go()
        thread.join(20)
        (end,) = ends
        assert end.status == "complete"
        np.testing.assert_array_equal(end.result.probabilities().compute(), whole())

    def test_held_it_can_be_stopped(self, request_for) -> None:
        switch = Switch()
        model = Model(3, switch.hold)
        ends, held = [], threading.Event()

        def work() -> None:
            steps = run_steps(request_for(model), switch)
            while True:
                try:
                    next(steps)
                except StopIteration as stop:
                    ends.append(stop.value)
                    return
                if switch.is_held:
                    held.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert held.wait(20)
        switch.stop()
        thread.join(20)
        assert ends[0].status == "cancelled"
        assert len(model.calls) == 3
        goes_on(request_for(), ends[0])

    def test_dropped_it_closes_what_it_has_open(self, request_for) -> None:
        request = request_for()
        steps = run_steps(request, Switch())
        while not isinstance(next(steps), Progress):
            pass
        steps.close()
        (path,) = request.folder.iterdir()
        with ProbabilityMap.open(path) as stopped:
            assert stopped.status == "cancelled"


class TestAnExport:
    @pytest.fixture
    def pm(self, tmp_path) -> Iterator[ProbabilityMap]:
        values = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
        with map_of(values, SOFTMAX, path=tmp_path / "a.ome.zarr") as pm:
            yield pm

    def order(self, pm: ProbabilityMap, path: Path, **options) -> ExportOrder:
        return ExportOrder(pm, MODELS_OWN, Cleanup(), "geojson", path, options)

    def test_it_says_what_was_written(self, pm, tmp_path) -> None:
        path = tmp_path / "a.geojson"
        seen, end = to_its_end(export_run(self.order(pm, path), Switch()))
        assert (end.path, end.error) == (path, None)
        assert seen[-1].stage == "done"
        assert path.exists()

    def test_stopped_it_leaves_nothing(self, pm, tmp_path) -> None:
        switch = Switch()
        switch.stop()
        before = set(tmp_path.iterdir())
        seen, end = to_its_end(export_run(self.order(pm, tmp_path / "a.geojson"), switch))
        assert (end.path, end.error) == (None, None)
        assert len(seen) == 1
        assert set(tmp_path.iterdir()) == before

    def test_remarks_come_with_the_end(self, pm, tmp_path, monkeypatch) -> None:
        def steps(*_, **__):
            yield export.Step("writing", 0.5, "Mind the gap.")
            yield export.Step("done", 1.0)

        monkeypatch.setattr(export, "export_steps", steps)
        _, end = to_its_end(export_run(self.order(pm, tmp_path / "a.geojson"), Switch()))
        assert end.remarks == ("Mind the gap.",)

    @pytest.mark.parametrize(
        "error",
        [RuntimeError("odd"), MemoryError(), SystemExit(1), OSError(28, "No space left")],
        ids=lambda error: type(error).__name__,
    )
    def test_whatever_is_raised_is_the_end(self, pm, tmp_path, monkeypatch, error) -> None:
        def steps(*_, **__):
            yield export.Step("writing", 0.5)
            raise error

        monkeypatch.setattr(export, "export_steps", steps)
        _, end = to_its_end(export_run(self.order(pm, tmp_path / "a.geojson"), Switch()))
        assert end.path is None
        assert str(end.error)

    def test_a_file_that_is_there_is_told(self, pm, tmp_path) -> None:
        path = tmp_path / "a.geojson"
        path.write_text("theirs")
        _, end = to_its_end(export_run(self.order(pm, path), Switch()))
        assert isinstance(end.error, ExportError)
        assert path.read_text() == "theirs"

    def test_an_export_that_runs_out_of_memory_does_not_speak_of_segmenting(
        self, pm, tmp_path, monkeypatch
    ) -> None:
        def steps(*_, **__):
            raise MemoryError
            yield

        monkeypatch.setattr(export, "export_steps", steps)
        _, end = to_its_end(export_run(self.order(pm, tmp_path / "a.geojson"), Switch()))
        assert isinstance(end.error, ExportError)
        assert "export again" in str(end.error)
