"""Reads files that others wrote: plain files alone, nothing beyond a sensible size, YAML as data.

Knows no field of any.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import yaml

_LARGEST_YAML = 4 * 10**6
_PIECE = 2**16

LARGEST_JSON = 2**26
"""The most that is read of a result's own JSON: what some hundred thousand failed patches take, and
at the worst 2 GB in memory."""


class UnreadableError(ValueError):
    """A file is not what it should be; says why, in words without a full stop."""


def from_home(path: Path) -> Path:
    """The path, whose first ~ is the user's own folder; a file called `~$a.tif` stays that."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def open_plain(path: Path) -> BinaryIO:
    """A file, open for reading, that has an end: no pipe, which is waited for, and no device.

    Raises
    ------
    OSError
        If it cannot be opened.
    UnreadableError
        If it is a pipe, a device or a socket; links are followed.
    """
    # A pipe is opened without waiting for whoever writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(path, "rb", opener=lambda name, _: os.open(name, flags))  # noqa: SIM115 - paths take no opener
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnreadableError("it is a pipe or a device, where a plain file is needed")
    return file


def read_bounded(path: Path, most: int) -> bytes:
    """A plain file's bytes, if they are no more than `most`.

    Raises
    ------
    OSError
        If the file cannot be read.
    UnreadableError
        If there are more, or it is no plain file.
    """
    content = bytearray()
    with open_plain(path) as file:
        # To read all at once would take memory for the most, however little there is.
        while len(content) <= most and (piece := file.read(_PIECE)):
            content += piece
    if len(content) > most:
        raise UnreadableError(
            f"it is larger than {most / 1e6:.0f} MB, the most that is read of one"
        )
    return bytes(content)


class _Plain(yaml.SafeLoader):
    """Data alone, each piece once: aliases let a few lines stand for more than memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise UnreadableError("aliases (*name) are not read; write out what they stand for")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        # YAML's own way is that the last one wins, without a word.
        fields = node.value if isinstance(node, yaml.MappingNode) else []
        said = Counter(name.value for name, _ in fields if isinstance(name, yaml.ScalarNode))
        if said and (name := said.most_common(1)[0])[1] > 1:
            raise UnreadableError(f"it says {name[0]!r} twice; leave one")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields of a YAML file: plain data by name.

    Raises
    ------
    OSError
        If the file cannot be read.
    UnreadableError
        If it is too large, no YAML, or no 'field: value' lines.
    """
    try:
        values = yaml.load(read_bounded(path, _LARGEST_YAML).decode(), Loader=_Plain)  # noqa: S506
    except UnreadableError:
        raise
    # Dates, numbers and nesting out of range fail in Python's own ways.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise UnreadableError(" ".join(str(error).split())) from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UnreadableError("it holds no fields; write one 'field: value' a line")
    return values
