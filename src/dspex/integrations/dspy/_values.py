"""Variables on their way in and values on their way out, where DSPy's own types meet dspex's."""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dspy.primitives.code_interpreter import CodeInterpreterError
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from dspex.errors import VariableError
from dspex.integrations.dspy import _guest
from dspex.languages import _values

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from dspex.execution._result import ExecutionResult

_SCALARS: Final = (str, int, float, bool, bytes, type(None))


def check_names(names: Iterable[object], tools: Container[object]) -> None:
    """Raise DSPy's error for a name that cannot be a variable, or is a tool's."""
    for name in names:
        if name in tools:
            raise CodeInterpreterError(f"{name!r} is a tool and a variable as well; give one of them another name")
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or _guest.is_reserved(name):
            raise CodeInterpreterError(f"Invalid variable name: '{name}'")


def carried(value: Any) -> Any:
    """`value` if it can cross as it is, else what DSPy would make of it. Raises `CodeInterpreterError`."""
    if type(value) in _SCALARS or _crosses(value):
        return value
    return plain(value)


def _crosses(value: object) -> bool:
    if isinstance(value, BaseModel) or _is_record(value):
        return False  # programs of DSPy's expect a dict
    try:
        _values.encode({"value": value})
    except VariableError:
        return False
    return True


def _is_record(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def plain(value: Any) -> Any:
    """Models and records as dicts, at any depth; what cannot cross at all as pydantic writes it into JSON."""
    if isinstance(value, BaseModel):
        return plain(_model(value))
    if _is_record(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return tuple(items) if type(value) is tuple else items
    return value if type(value) in _SCALARS or _crosses(value) else _as_json(value)


def _model(value: BaseModel) -> Any:
    try:
        return value.model_dump(mode="json")
    except PydanticSerializationError as error:
        raise CodeInterpreterError(f"Unable to serialize {type(value).__name__} as JSON: {error}") from error


def _as_json(value: object) -> Any:
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        raise CodeInterpreterError(f"Unsupported value type: {type(value).__name__}") from None


def returned(result: ExecutionResult) -> Any:
    """The value of a program that did not fail; for one that cannot cross, what it looks like."""
    return result.value if result.value_repr is None else result.value_repr


def as_dspy(value: Any) -> Any:
    """One value that is no JSON, as DSPy writes it."""
    return plain(value) if isinstance(value, BaseModel) or _is_record(value) else _as_json(value)


def named(value: Any) -> Any:
    """Named tuples as dicts, at any depth: so DSPy's programs get them from tools."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: named(item) for key, item in value._asdict().items()}
    if type(value) is dict:
        return {key: named(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(named, value))
    return value


def answered(value: Any) -> Any:
    """What a tool returned, as the program gets it: as it is, or as a dict, or, as the last way out, as its text."""
    try:
        return carried(named(value))
    except CodeInterpreterError as error:
        if isinstance(error.__cause__, PydanticSerializationError):
            raise
        return str(value)
