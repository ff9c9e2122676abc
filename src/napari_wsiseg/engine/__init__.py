"""`segment`: the only place that knows every stage of a run."""

from __future__ import annotations

from napari_wsiseg.engine.patches import PatchResult, segment_patches
from napari_wsiseg.engine.plan import plan
from napari_wsiseg.engine.progress import Progress
from napari_wsiseg.engine.run import run, segment
from napari_wsiseg.engine.runplan import RunPlan

__all__ = ["PatchResult", "Progress", "RunPlan", "plan", "run", "segment", "segment_patches"]
