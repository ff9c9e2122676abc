"""`Run`: joins the stages of a run, ends them whatever happens, and tells how it goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from typing import TypeVar

from napari_wsiseg.engine.beside import Beside
from napari_wsiseg.engine.identity import provenance, public_job, run_values
from napari_wsiseg.engine.inference import Prediction, Predictor
from napari_wsiseg.engine.inputs import check_there
from napari_wsiseg.engine.left_out import LeftOut, refuse_gaps
from napari_wsiseg.engine.progress import Clock, Kind, Progress
from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.engine.shortage import what_fits
from napari_wsiseg.errors import InferenceError
from napari_wsiseg.geometry import Region
from napari_wsiseg.loading import PatchLoader
from napari_wsiseg.memory import Workspace
from napari_wsiseg.merge import RowMerger
from napari_wsiseg.messages import PatchBatch
from napari_wsiseg.models import OutOfMemory, Segmenter, place_for
from napari_wsiseg.slides import Slide
from napari_wsiseg.store import MapLayout, MapWriter, ProbabilityMap, RunInfo, TissueImage
from napari_wsiseg.store.state import Status

S = TypeVar("S", PatchLoader, Beside[Prediction])


class Run:
    """One run: the stages, and the counts that progress tells of.

    Parameters
    ----------
    plan
        What is to be run.
    slide, segmenter
        Open, and of the shapes that the plan says.
    prior
        The result that is gone on with, or None.
    workspace
        Gives working arrays, as long as the run takes.
    """

    def __init__(
        self,
        plan: RunPlan,
        slide: Slide,
        segmenter: Segmenter,
        prior: ProbabilityMap | None,
        workspace: Workspace,
    ) -> None:
        self._plan = plan
        self._slide = slide
        self._segmenter = segmenter
        self._prior = prior
        self._workspace = workspace
        self._place = place_for(segmenter, plan.gpus, workspace, plan.grid.scale, plan.job.dtype)
        self._predictor = Predictor(
            self._place.replicas, plan.grid.patch_output, plan.batch_size, self._place.ahead
        )
        self._stages: list[PatchLoader | Beside[Prediction]] = []
        self._clock = Clock()
        self._done = 0
        self._rows_done = 0
        self._told_spill = False

    def steps(self, remark: str | None) -> Iterator[Progress]:
        """Run to the end; a remark is told first, and is no part of the result."""
        plan = self._plan
        identity = run_values(plan, self._segmenter)
        status: Status = "failed"
        writer = self._resumed(identity)
        try:
            unfinished = plan.grid.owed > 0 if writer is None else writer.unfinished
            self._chunks = plan.wanted & unfinished
            self._rows = int(self._chunks.any(1).sum())
            self._patches = plan.grid.patches_for(self._chunks)
            with self._staged(self._loader()) as loader:
                predictions = self._predictor(self._batches(loader))
                # The first answer is checked before there is an output to spoil.
                first = next(predictions, None)
                self._writer = writer = writer or self._created(identity)
                if remark is not None:
                    yield self._progress("warning", message=remark)
                for step in self._write(first, predictions):
                    self._clock.handed_over()
                    yield step
                    # That the caller held the run meanwhile is no part of its pace.
                    self._clock.resumed()
            status = "complete"
        except (GeneratorExit, KeyboardInterrupt):
            status = "cancelled"
            raise
        except OutOfMemory as error:
            advice = what_fits(plan, self._segmenter)
            raise InferenceError(f"{error} {advice}") from error.__cause__
        except MemoryError as error:
            raise InferenceError(
                "Memory ran out beside the model; what is finished is kept: lower "
                "memory_threshold or batch_size, or close other programs, and run it on."
            ) from error
        finally:
            try:
                self._end(writer, status)
            except KeyboardInterrupt:
                # It may have come before a stage had the word: nobody else would end it.
                self._end(writer, status)
                raise
        yield self._progress("done")

    def _staged(self, stage: S) -> S:
        """A stage that ends with the run, wherever an interrupt strikes."""
        self._stages.append(stage)
        return stage

    def _end(self, writer: MapWriter | None, status: Status) -> None:
        """End every stage, also one whose own end was interrupted before it began."""
        try:
            for stage in self._stages:
                stage.end()
        finally:
            if writer is not None:
                writer.close(status)

    def _resumed(self, identity: dict[str, object]) -> MapWriter | None:
        """The writer of the output that is there, or None where there is to be a new one."""
        output = self._plan.job.output
        if output is None or self._prior is None:
            return None
        if self._plan.job.strict:
            refuse_gaps(self._prior)
        return MapWriter.resume(output, identity, self._workspace)

    def _created(self, identity: dict[str, object]) -> MapWriter:
        plan, job = self._plan, self._plan.job
        layout = MapLayout(
            grid=plan.grid,
            spec=plan.spec,
            dtype=job.dtype,
            downsample=plan.map_downsample,
            slide_size=plan.info.size,
            slide_bounds=plan.info.bounds,
            mpp=plan.map_mpp,
            mpp_source=plan.info.mpp_source,
        )
        mask = plan.tissue
        return MapWriter.create(
            job.output,
            layout,
            RunInfo(identity, public_job(job), provenance(plan, self._segmenter)),
            self._workspace,
            tissue=None if mask is None else TissueImage(mask.mask, mask.parameters, mask.sha256),
            overwrite=job.on_exists == "overwrite",
        )

    def _loader(self) -> PatchLoader:
        plan = self._plan
        return PatchLoader(
            self._slide,
            plan.downsample,
            plan.grid,
            self._patches,
            plan.batch_size,
            self._workspace,
            empty=self._place.empty,
        )

    def _batches(self, loader: PatchLoader) -> Iterator[PatchBatch]:
        for batch in loader:
            if batch.failed:
                check_there(self._slide)
            yield batch

    def _write(
        self, first: Prediction | None, predictions: Iterator[Prediction]
    ) -> Iterator[Progress]:
        for sentence in self._plan.warnings:
            yield self._warn(sentence)
        if not self._plan.grid.keep.any():
            yield self._warn("There is nothing to analyse: the result is complete and empty.")
        self._writer.begin(self._chunks)
        if first is None:
            return
        merger = RowMerger(
            self._plan.grid,
            self._patches,
            len(self._plan.spec.classes),
            self._plan.job.window,
            self._place.canvas,
        )
        left_out = LeftOut(self._writer, strict=self._plan.job.strict)

        def merge(prediction: Prediction) -> None:
            indices, bad = prediction.indices, prediction.failed_positions
            bands = merger.add(indices, prediction.values, bad)
            for band in self._place.to_host(bands):
                self._writer.add(band)
            self._writer.advance(merger.final)
            self._workspace.watch()

        # GPUs are at work beside this as it is.
        beside = self._staged(Beside(merge, in_thread=not self._place.ahead))
        with closing(merger), beside as merging:
            for prediction in chain([first], predictions):
                if prediction.failed:
                    for words in left_out.add(prediction.failed):
                        yield self._progress("warning", message=words)
                merging(prediction)
                self._done += len(prediction.indices)
                self._clock.patches(self._done)
                # Also where none can be new: a disk that fails ends the run now.
                yield from self._finished_rows()
                yield from self._spilled()
                yield self._progress("batch")
            merging.wait()
            self._writer.flush()
            yield from self._spilled()
            yield from self._finished_rows()

    def _finished_rows(self) -> Iterator[Progress]:
        for region in self._writer.finished_rows():
            self._rows_done += 1
            yield self._progress("row", region=region)

    def _spilled(self) -> Iterator[Progress]:
        if self._workspace.spilled and not self._told_spill:
            self._told_spill = True
            yield self._progress("spill", message="Working from disk: slower, same result.")

    def _warn(self, sentence: str) -> Progress:
        self._writer.warn(sentence)
        return self._progress("warning", message=sentence)

    def _progress(
        self, kind: Kind, region: Region | None = None, message: str | None = None
    ) -> Progress:
        return Progress(
            kind=kind,
            result=self._writer.map,
            row=self._rows_done,
            rows=self._rows,
            patches_done=self._done,
            patches_total=len(self._patches),
            elapsed=self._clock.elapsed,
            eta=self._clock.eta(self._done, len(self._patches)),
            memory=self._workspace.used(),
            region=region,
            message=message,
        )
