"""A Linux control group of a test's own, of version 1 or 2, that limits memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_ROOT = Path("/sys/fs/cgroup")
# To put oneself into the group and become another program: memory counts from its first byte.
_ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """The folder of a group that may take so many bytes; skips, with the reason, where none can."""
    is_v2 = (_ROOT / "cgroup.controllers").exists()
    parent = _ROOT if is_v2 else _ROOT / "memory"
    folder = parent / f"wsiseg-test-{os.getpid()}"
    limits = ("memory.max",) if is_v2 else ("memory.limit_in_bytes",)
    try:
        if is_v2 and "memory" not in (parent / "cgroup.subtree_control").read_text().split():
            (parent / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made (needs root, on Linux): {error}")
    try:
        for name in limits:
            (folder / name).write_text(str(limit))
        yield folder
    finally:
        folder.rmdir()


def run_in(group: Path | None, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a group, to its end; None: in that of the test."""
    entered = command if group is None else ["sh", "-c", _ENTER, str(group), *command]
    return subprocess.run(entered, capture_output=True, text=True, check=False)
