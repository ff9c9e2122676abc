"""Every error that napari-wsiseg raises on purpose, and how those of others are told.

One sentence each: what failed, the value, what to do. None inherits
``RuntimeError``: napari's ``thread_worker`` loses those without a signal.
"""

from __future__ import annotations

import reprlib

_LONGEST = 80

# Never the whole of a value: of one from a file nobody knows how much it is.
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 3
_BRIEF.maxtuple = _BRIEF.maxlist = _BRIEF.maxdict = _BRIEF.maxset = 40
_BRIEF.maxstring = _BRIEF.maxlong = _BRIEF.maxother = 400


class WsisegError(Exception):
    """Base of all errors of this package."""


class SlideError(WsisegError):
    """A slide, or a part of it, cannot be read."""


class ModelError(WsisegError):
    """A model cannot be loaded, or answers in a wrong shape or range."""


class JobError(WsisegError):
    """What was asked for cannot be done as asked."""


class InferenceError(WsisegError):
    """A model failed while it predicted."""


class StoreError(WsisegError):
    """A result cannot be read, written or continued."""


class ExportError(WsisegError):
    """An export cannot be written, or did not read back as written."""


class SlideWarning(UserWarning):
    """A slide can be read, but something about it should be known."""


def reason(error: BaseException) -> str:
    """What an error says, in one line without a full stop; its type where it says nothing.

    Of the system's errors not the file, which they give with its folder: it may be kept in a
    result, and the sentence around it has a name for it.
    """
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    lines = str(said).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def shown(value: object) -> str:
    """The value on one line of at most 80 characters."""
    try:
        text = " ".join(_BRIEF.repr(value).split())
    except ValueError:  # Python writes no number of thousands of digits
        text = f"that {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
