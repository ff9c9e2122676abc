"""Where a run writes, and whether it can: asked before anything is computed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_wsiseg.engine.runplan import RunPlan
from napari_wsiseg.errors import StoreError
from napari_wsiseg.words import in_bytes

# Above what is foretold for the result (which is more than results take) and working files.
_MARGIN = 0.1
# Of what is foretold, the least that a result has taken on the real test slide (see `_COMPRESSED`
# in `budget`).
_LEAST = 0.5


@contextmanager
def working_folder(output: Path | None) -> Iterator[Path]:
    """Where working files lie: beside the output, which has room for it.

    Folders that were made for a run that left no output go again.

    Raises
    ------
    StoreError
        If the folder is not there and cannot be made.
    """
    if output is None:
        yield Path(tempfile.gettempdir())
        return
    folder = Path(output).absolute().parent
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {folder} cannot be made: {error.strerror}; choose another output."
        ) from error
    try:
        yield folder
    finally:
        for made in missing:
            # What somebody put something into stays.
            with suppress(OSError):
                made.rmdir()


def check_room(plan: RunPlan, folder: Path) -> str | None:
    """Whether there is room for the run; a sentence for the user where there may be too little.

    How well a map compresses is known when it is there. A disk that fills up, or a quota, which
    no file system tells of, stops the run later, and costs the row in progress.

    Parameters
    ----------
    plan
        What is to be run, with an output.
    folder
        That of the output; must exist.

    Raises
    ------
    StoreError
        If the run cannot write, or would not fit even if its map compresses well.
    """
    output = plan.job.output
    try:
        if output is None or not output.exists():
            tempfile.TemporaryFile(dir=folder).close()
        total, _, free = shutil.disk_usage(folder)
    except OSError as error:
        raise StoreError(
            f"The folder {folder} cannot be written to: {error.strerror}; choose another output."
        ) from error
    if not total:  # some drives tell nothing
        return None
    needed, least = (
        int((plan.disk_bytes * part + _working_bytes(plan)) * (1 + _MARGIN)) for part in (1, _LEAST)
    )
    if output is not None and free < needed and plan.job.on_exists == "overwrite":
        free += sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    if free >= needed:
        return None
    if free < least:
        raise StoreError(
            f"The run needs about {in_bytes(needed)} in {folder}, where {in_bytes(free)} are free; "
            "make room, choose another output, or store less (save_resolution, region)."
        )
    return (
        f"The disk may fill up: {in_bytes(free)} are free, and results like this one take up to "
        f"{in_bytes(needed)}; make room. If it does, the run stops and can be gone on with."
    )


def _working_bytes(plan: RunPlan) -> int:
    """What does not fit the memory budget, and lies beside the output meanwhile."""
    return max(plan.need.total - plan.budget, 0) if plan.patches else 0
