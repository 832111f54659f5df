"""Values as DSPy's interpreter hands them over, with its losses: for programs that count on these."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError

from dspex.integrations.dspy._values import as_dspy, named, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.execution._result import ExecutionResult


def sent(value: Any) -> Any:
    """A variable as DSPy sends it: tuples and sets as lists, all else that is no JSON as pydantic writes it."""
    if isinstance(value, dict):
        return {sent(key): sent(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [sent(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return _sorted([sent(item) for item in value])
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return sent(as_dspy(value))


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:
        return items


def returned(result: ExecutionResult) -> Any:
    """The value of a program that did not fail. Raises `CodeExecutionError` for one that left early, as DSPy does."""
    if result.value_repr is not None:
        return {}
    if result.value is None and result.value_type is not None:
        raise CodeExecutionError(f"{result.value_type}: [0]")
    with _writing():
        return received(result.value)


def received(value: Any) -> Any:
    """A program's value after DSPy's way through JavaScript's JSON: see docs/from-dspy.md for what is lost."""
    if isinstance(value, dict):
        return {str(key): received(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [received(item) for item in value]
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (bytes, bytearray)):
        return {str(index): byte for index, byte in enumerate(value)}
    return value if value is None or isinstance(value, (str, bool, int)) else {}


def _number(value: float) -> int | float | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def answered(value: Any) -> Any:
    """A tool's result as DSPy's programs get it: None as '', what is no JSON as its text."""
    if value is None:
        return ""
    try:
        return json.loads(json.dumps(plain(named(value)), allow_nan=False))
    except (TypeError, ValueError):
        return str(value)
    except CodeInterpreterError as error:
        if error.__cause__ is not None:  # a model that pydantic cannot write
            raise
        return str(value)


def submitted(fields: dict[str, Any]) -> Any:
    """What SUBMIT was given after Python's own JSON, in which None and floats stay."""
    with _writing():
        return json.loads(json.dumps(fields, default=lambda value: {}, skipkeys=True))


@contextmanager
def _writing() -> Iterator[None]:
    """A program's value that has no text, as a number of too many digits has none, is the program's error."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise CodeExecutionError(f"{type(error).__name__}: {[str(error)]}") from error
