"""What values become in a state, and back: plain data, and values of the types that are there already.

Theory of operation. A state names no types: a file that could say "make one of these" could have anything made. The
object that a state is loaded into says what it is to become: where it holds an enum now, a plain value becomes a member
of that enum; where it holds a dataclass, a mapping becomes one; where it holds an array, shape and kind must agree.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import sys
import uuid
from collections.abc import Mapping
from typing import Any

from dspex.errors import StateError
from dspex.examples import Example

Mismatches = tuple[tuple[str, str], ...]

_EXACT = frozenset({str, int, float, bool, bytes, type(None)})
_SCALARS = (
    str,
    int,
    float,
    bytes,
    complex,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
)


# --- to plain data ---


def plain(value: Any, path: str) -> Any:
    """`value` as plain data that shares nothing mutable with it. `path` is where it is, for messages.

    Raises StateError for what has no plain form, and for what is nested too deeply or holds itself.
    """
    try:
        return _plain(value, path)
    except RecursionError:
        raise StateError(f"{path}: is nested too deeply to be saved, or holds itself") from None


def _plain(value: Any, path: str) -> Any:
    kind = type(value)
    if kind in _EXACT:
        return value
    if kind is list:
        return [item if type(item) in _EXACT else _plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if kind is dict:
        return {key: item if type(item) in _EXACT else _plain(item, f"{path}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Example):
        return _plain(value._store, path)
    return _plain_of_class(value, path)


def _plain_of_class(value: Any, path: str) -> Any:
    if isinstance(value, enum.Enum):
        return _plain(value.value, path)
    if isinstance(value, (tuple, list)):
        items = [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{path}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return {_plain(item, path) for item in value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name), f"{path}.{name}") for name in names}
    return _plain_of_library(value, path)


def _plain_of_library(value: Any, path: str) -> Any:
    if _is_array(value):
        return value.copy()
    if _is_numpy_scalar(value):
        return value.item()
    if _is_model(value):
        return _plain(value.model_dump(), path)
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, _SCALARS):
        return _without_subclass(value)
    if isinstance(value, bytearray):
        return bytes(value)
    raise StateError(
        f"{path}: holds a {type(value).__module__}.{type(value).__qualname__}, which is no plain data; "
        "an attribute whose name begins with _ is not saved"
    )


def _without_subclass(value: Any) -> Any:
    """A str or a number of a class of its own, as what it is underneath."""
    kinds: tuple[type, ...] = (str, int, float, bytes)
    kind = next((kind for kind in kinds if isinstance(value, kind)), None)
    return value if kind is None else kind(value)


# --- back to values ---


def fitted(value: Any, like: Any, path: str) -> tuple[Any, Mismatches]:
    """The plain `value` as one of the type of `like`, and what does not fit, by path. None is like anything."""
    kind = type(like)
    if like is None:
        return plain(value, path), ()
    if kind in _EXACT:
        return _fitted_scalar(value, kind, path)
    if isinstance(like, enum.Enum):
        return _built(lambda: kind(value), value, kind, path)
    if isinstance(like, Example):
        return _fitted_example(value, like, path)
    if dataclasses.is_dataclass(like):
        return _fitted_record(value, like, path)
    if _is_array(like):
        return _fitted_array(value, like, path)
    if _is_model(like):
        return _built(lambda: kind.model_validate(value), value, kind, path)
    return _fitted_collection(value, like, path)


def _fitted_scalar(value: Any, kind: type, path: str) -> tuple[Any, Mismatches]:
    if type(value) is kind:
        return value, ()
    if kind is float and type(value) is int:
        return float(value), ()
    return None, _wrong(path, kind, value)


def _fitted_example(value: Any, like: Example, path: str) -> tuple[Any, Mismatches]:
    if not isinstance(value, Mapping):
        return None, _wrong(path, type(like), value)
    made = type(like)(plain(dict(value), path))
    return (made if like.input_keys is None else made.with_inputs(*like.input_keys)), ()


def _fitted_record(value: Any, like: Any, path: str) -> tuple[Any, Mismatches]:
    if not isinstance(value, Mapping):
        return None, _wrong(path, type(like), value)
    fields = {field.name: field for field in dataclasses.fields(like)}
    wrong = [(f"{path}.{name}", "is missing") for name in fields if name not in value]
    wrong += [(f"{path}.{name}", f"is no field of {type(like).__name__}") for name in value if name not in fields]
    made = {}
    for name in fields.keys() & value.keys():
        made[name], more = fitted(value[name], getattr(like, name), f"{path}.{name}")
        wrong += more
    if wrong:
        return None, tuple(wrong)
    return _built(lambda: _record(type(like), fields, made), value, type(like), path)


def _record(kind: type, fields: dict[str, dataclasses.Field[Any]], values: dict[str, Any]) -> Any:
    record = kind(**{name: value for name, value in values.items() if fields[name].init})
    for name, value in values.items():
        if not fields[name].init:
            object.__setattr__(record, name, value)
    return record


def _fitted_array(value: Any, like: Any, path: str) -> tuple[Any, Mismatches]:
    if not _is_array(value):
        return None, _wrong(path, type(like), value)
    if value.shape != like.shape:
        return None, ((path, f"has shape {value.shape}, but {like.shape} is needed"),)
    if value.dtype != like.dtype:
        return None, ((path, f"is of type {value.dtype}, but {like.dtype} is needed"),)
    return value.copy(), ()


def _fitted_collection(value: Any, like: Any, path: str) -> tuple[Any, Mismatches]:
    kind = type(like)
    if isinstance(like, (list, tuple)) and isinstance(value, (list, tuple)):
        return _fitted_items(value, like, path)
    if isinstance(like, Mapping) and isinstance(value, Mapping):
        return _fitted_entries(value, like, path)
    if isinstance(like, (set, frozenset)) and isinstance(value, (set, frozenset, list, tuple)):
        return _built(lambda: kind(plain(list(value), path)), value, kind, path)
    if isinstance(like, (pathlib.PurePath, bytearray)) and isinstance(value, (str, bytes, bytearray)):
        return _built(lambda: kind(value), value, kind, path)
    if isinstance(value, kind):
        return plain(value, path), ()
    if isinstance(like, (str, int, float, bytes)) or _is_numpy_scalar(like):  # a class of its own, or of NumPy
        return _built(lambda: kind(value), value, kind, path)
    return None, _wrong(path, kind, value)


def _fitted_items(value: Any, like: Any, path: str) -> tuple[Any, Mismatches]:
    """A list may be of any length, its items as those there if they are alike; a tuple's are as those at their places."""
    if isinstance(like, list):
        models = _models(like, len(value))
    elif len(like) != len(value):
        return None, ((path, f"has {len(value)} items, but {len(like)} are needed"),)
    else:
        models = list(like)
    pairs = [fitted(item, model, f"{path}[{i}]") for i, (item, model) in enumerate(zip(value, models, strict=True))]
    items = [item for item, _ in pairs]
    made = items if type(like) is list else _sequence(type(like), items)
    return made, tuple(mismatch for _, wrong in pairs for mismatch in wrong)


def _models(like: list[Any], count: int) -> list[Any]:
    """For each item that is to come, one that says of which type it is to be; None: plain data will do."""
    if len(set(map(type, like))) == 1 and _is_rich(like[0]):
        return [like[0]] * count
    return [item if _is_rich(item) else None for item in like] if len(like) == count else [None] * count


def _sequence(kind: type, items: list[Any]) -> Any:
    return kind._make(items) if hasattr(kind, "_make") else kind(items)


def _fitted_entries(value: Any, like: Any, path: str) -> tuple[Any, Mismatches]:
    """A dict may have other keys; under a key that is there already, no plain data takes the place of another type."""
    made: dict[Any, Any] = {}
    wrong: list[tuple[str, str]] = []
    for key, item in value.items():
        model = like.get(key)
        made[key], more = fitted(item, model if _is_rich(model) else None, f"{path}[{key!r}]")
        wrong += more
    return made, tuple(wrong)


def _is_rich(value: Any) -> bool:
    """Whether a value is, or holds, one of a type that plain data must be made into."""
    if type(value) is list:
        return any(map(_is_rich, value))
    if type(value) is dict:
        return any(map(_is_rich, value.values()))
    return type(value) not in _EXACT


def _built(make: Any, value: Any, kind: type, path: str) -> tuple[Any, Mismatches]:
    try:
        return make(), ()
    except Exception as error:  # whatever a class of the user's raises about a value
        return None, ((path, f"{_shown(value)} makes no {kind.__name__}: {error}"),)


def _wrong(path: str, kind: type, value: Any) -> Mismatches:
    return ((path, f"is {_article(type(value).__name__)}, but {_article(kind.__name__)} is needed"),)


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'aeioAEIO' else 'a'} {name}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- libraries that may not be there: a value of theirs can only be met once they have been imported ---


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def _is_model(value: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(value, pydantic.BaseModel)
