"""What the values of fields become elsewhere: plain data, JSON, and a hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from dspex.errors import UsageError

# The types whose values hold nothing else and never change.
ATOMS = frozenset({str, int, float, bool, complex, bytes, type(None)})


def plain(value: Any) -> Any:
    """Examples and pydantic models inside lists, tuples and dicts become dicts; all else stays as it is."""
    if type(value) in ATOMS:
        return value
    if hasattr(value, "toDict"):
        return value.toDict()
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return tuple(map(plain, value)) if type(value) is tuple else value


def json_of(fields: dict[str, Any], *, indent: int | None) -> str:
    """One JSON object. Raises UsageError naming the first field whose value has no JSON form."""
    import json

    try:
        return json.dumps(fields, indent=indent, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"field {_culprit(fields)!r} has no JSON form: {error}") from error


def _culprit(fields: dict[str, Any]) -> str | None:
    return next((name for name, value in fields.items() if not _is_json({name: value})), None)


def _is_json(value: Any) -> bool:
    import json

    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def frozen(value: Any) -> Any:
    """Something that has the hash of every value equal to this one.

    Python hashes no list and no dict, as they may change; for a value that is compared now, its contents serve.
    What cannot be looked into (an array, a model) counts by its type alone.
    """
    try:
        hash(value)
    except TypeError:
        return _frozen_contents(value)
    return value


def _frozen_contents(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, Set):
        return frozenset(value)
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, Sequence):
        return tuple(map(frozen, value))
    return type(value)
