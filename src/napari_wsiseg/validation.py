"""Turns pydantic's lists of complaints into this package's one-sentence errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from napari_wsiseg.errors import WsisegError

T = TypeVar("T")


def sentence(error: ValidationError, subject: str) -> str:
    """The first complaint as one sentence: which field, its value, what it should be."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if isinstance(part, str)) or subject
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "extra_forbidden":
        return f"{subject} has no field {field!r}; check its spelling."
    if first["type"] == "missing":
        return f"{subject} needs the field {field!r}."
    return f"{field} cannot be {first['input']!r}; it should be: {message}."


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

        cls.__init__ = init  # type: ignore[method-assign,assignment]
        return cls

    return decorate
