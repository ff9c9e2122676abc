"""Reads key files as GLib does, which reads them for OpenSlide: the last value counts."""

from __future__ import annotations

import re

_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,18})(?![0-9])")


def groups_of(content: bytes) -> dict[str, dict[str, str]]:
    """Values by key, by group."""
    groups: dict[str, dict[str, str]] = {}
    group: dict[str, str] = {}
    for raw in content.decode("utf-8-sig", "replace").split("\n"):
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            group = groups.setdefault(line[1:-1], {})
        elif "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            group[key.strip()] = value.strip()
    return groups


def number(text: str | None) -> int | None:
    """The whole number that a text begins with, or None."""
    match = None if text is None else _WHOLE.match(text)
    return None if match is None else int(match[1])
