"""Moments and lengths of time, as they are written on a command line."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dspex.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from dspex.versions import StateManager, Version

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LENGTH = re.compile(r"(\d{1,9})(s|m|h|d|w)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def version_at(states: StateManager, module_id: str, at: str) -> Version:
    """The version that a text means: "latest", an exact id, a tag, the head of a branch, a moment, in this order.

    Raises NotFoundError.
    """
    try:
        return states.version(module_id, at)
    except NotFoundError:
        head, moment = states.head(module_id, at), moment_of(at)
        if head is None and moment is None:
            raise
    return head or states.version(module_id, moment or at)


def moment_of(text: str) -> datetime | None:
    """An ISO moment, of the local zone where it names none; None when it is no moment."""
    if not _MOMENT.match(text):  # `fromisoformat` takes 20261123 too, which is rather a mistyped id
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def length_of(option: str, text: str) -> timedelta:
    """A length of time, as 90s, 15m, 12h, 30d or 8w. Raises UsageError."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise UsageError(f"{option}: {text!r} is no length of time; write 90s, 15m, 12h, 30d or 8w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
