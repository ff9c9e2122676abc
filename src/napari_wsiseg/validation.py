"""Turns pydantic's lists of complaints into this package's one-sentence errors."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from napari_wsiseg.errors import JobError, WsisegError, shown

T = TypeVar("T")

_LONGEST = 80
_NAME = re.compile(r"\w(?:[\w .+=,()-]*[\w+=,()-])?")

# What pydantic calls the branches of a union; the rest of a location are fields.
_TYPES = {"bool", "float", "int", "none", "path", "str"}


def sentence(error: ValidationError, subject: str) -> str:
    """The first complaint as one sentence: which field, its value, what it should be.

    Of the branches of a union, the one that got farthest is what was meant.
    """
    complaints = error.errors()
    first = complaints[0]
    branches = [other for other in complaints if other["loc"][:1] == first["loc"][:1]]
    depth = max(len(branch["loc"]) for branch in branches)
    meant = [branch for branch in branches if len(branch["loc"]) == depth]
    deepest = meant[0]
    field, value = _field(deepest) or subject, deepest["input"]
    match deepest["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{subject} has no field {field!r}; check its spelling."
        case "missing" if isinstance(deepest["loc"][-1], int):
            return f"{field} is {shown(value)}; it has too few values."
        case "missing" | "missing_argument":
            return f"{subject} needs the field {field!r}."
        case "value_error":
            return f"{field}: {deepest['msg'].removeprefix('Value error, ')}."
    wishes = dict.fromkeys(_wish(branch) for branch in meant)
    return f"{field} cannot be {shown(value)}; it should be: {', or '.join(wishes)}."


def _field(complaint: Mapping[str, Any]) -> str:
    """The name of the field, with those it lies in."""
    parts = [part for part in complaint["loc"] if isinstance(part, str)]
    inner = [
        part for part in parts[1:] if part.isidentifier() and part.islower() and part not in _TYPES
    ]
    return ".".join(parts[:1] + inner)


def _wish(complaint: Mapping[str, Any]) -> str:
    """What would have been right."""
    if complaint["type"] == "path_type":
        return "a path"
    message = str(complaint["msg"]).removeprefix("Input should be ")
    return message.removeprefix("a valid dictionary or instance of ")


def check_name(name: str) -> str:
    """The name, if a file may be called so everywhere.

    Raises
    ------
    JobError
        If it is empty, too long, or holds what stands for folders, or what is no letter.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise JobError(
            f"A slide cannot be called {shown(name)}; give a name of at most {_LONGEST} letters, "
            "digits, spaces and '-', '_', '.', '+', '=', ',', '(' and ')' that begins with a "
            "letter or digit and ends with no '.' or space."
        )
    return name


def raises(error: type[WsisegError], subject: str) -> Callable[[type[T]], type[T]]:
    """Make a pydantic class raise `error`, in one sentence, for values out of range."""

    def decorate(cls: type[T]) -> type[T]:
        validate = cls.__init__

        @functools.wraps(validate)
        def init(self: T, *args: object, **values: object) -> None:
            try:
                validate(self, *args, **values)
            except ValidationError as problem:
                raise error(sentence(problem, subject)) from problem
            except WsisegError as problem:
                # A field's own type, such as a resolution, complains in its own name.
                if isinstance(problem, error):
                    raise
                raise error(str(problem)) from problem

        cls.__init__ = init  # type: ignore[method-assign,assignment]
        return cls

    return decorate
