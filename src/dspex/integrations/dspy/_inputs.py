"""Large inputs cross once: which variables of a call the guest still holds from an earlier one.

Theory of operation. RLM gives all inputs again at every step. A str or bytes, which cannot change, is known again by itself or
by comparing. What else is plain data is pickled, in one go of C's pickler: the pickle's digest tells whether the guest has it,
also after the caller has changed a list in place, and the pickle itself is what crosses. All other values go the engine's way,
each time. The guest keeps what it was sent, and binds it again under its name, so a program may use the name for something
else; what it changes in place stays changed.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any, Final, NamedTuple, NoReturn

_LARGE: Final = 1 << 16  # bytes; to send less costs no more than to ask whether it is there
_TEXTS: Final = (str, bytes)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset)


class Parts(NamedTuple):
    """The variables of one call, by how they come to the guest."""

    again: list[str]  # it has them
    large: dict[str, Any]  # to be sent, and to be kept there
    pickled: list[str]  # those among them that are pickles
    small: dict[str, Any]  # to be sent the engine's way


class Inputs:
    """What one guest holds."""

    def __init__(self) -> None:
        self._held: dict[str, str | bytes | _Digest] = {}

    def parted(self, variables: dict[str, Any]) -> Parts:
        """How each variable comes to the guest."""
        parts = Parts([], {}, [], {})
        for name, value in variables.items():
            mark, sent = _marked(value)
            if mark is None:
                parts.small[name] = value
            elif self._has(name, mark):
                parts.again.append(name)
            else:
                parts.large[name] = sent
                if isinstance(mark, _Digest):
                    parts.pickled.append(name)
        return parts

    def _has(self, name: str, mark: str | bytes | _Digest) -> bool:
        held = self._held.get(name)
        return type(held) is type(mark) and held == mark

    def sent(self, parts: Parts) -> None:
        """The large ones of these are in the guest now."""
        for name, value in parts.large.items():
            self._held[name] = _digest(value) if name in parts.pickled else value

    def copy(self) -> Inputs:
        """What a branch of the guest holds."""
        same = Inputs()
        same._held = dict(self._held)
        return same

    def forget(self) -> None:
        """The guest may hold nothing any more."""
        self._held.clear()


class _Digest(NamedTuple):
    digest: bytes


class _Foreign(Exception):  # noqa: N818  (no fault: it takes another way)
    """A value is no plain data."""


class _Plain(pickle.Pickler):
    """Pickles builtin types, which C's pickler does by itself, and nothing else."""

    def reducer_override(self, _: object) -> NoReturn:
        raise _Foreign


def _marked(value: Any) -> tuple[str | bytes | _Digest | None, Any]:
    """How to know a value again, and what crosses for it; None for one that is small, or no plain data."""
    if type(value) in _TEXTS:
        return (value, value) if len(value) >= _LARGE else (None, None)
    pickled = _pickled(value) if type(value) in _CONTAINERS else None
    if pickled is None or len(pickled) < _LARGE:
        return None, None
    return _digest(pickled), pickled


def _digest(pickled: bytes) -> _Digest:
    return _Digest(hashlib.sha256(pickled).digest())


def _pickled(value: Any) -> bytes | None:
    file = io.BytesIO()
    try:
        _Plain(file, protocol=5).dump(value)
    except (_Foreign, RecursionError):
        return None
    return file.getvalue()
