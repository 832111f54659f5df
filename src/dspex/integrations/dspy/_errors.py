"""Failures of programs as the exceptions that DSPy's modules know, with nothing lost on the way."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from dspy.primitives.code_interpreter import CodeExecutionError

if TYPE_CHECKING:
    from dspex.execution._result import ExecutionResult, Failure

_PRINTED: Final = 10_000  # characters of what was printed before the error that its text repeats


def raised(result: ExecutionResult, failure: Failure, *, strict: bool) -> Exception:
    """The exception for a failed program: `SyntaxError` for its own text, `CodeExecutionError` for all else.

    Its text begins with DSPy's own line, `ValueError: ['message']`; the traceback of the program's lines and what it had
    printed follow, unless `strict`. `traceback`, `line`, `stdout` and `stderr` are attributes as well.
    """
    error: Exception
    if failure.kind == "syntax":
        error = _syntax(failure, strict)
    else:
        error = CodeExecutionError(_first_line(failure) if strict else _whole(result, failure))
    vars(error).update(
        traceback=failure.traceback, line=failure.line, stdout=result.stdout, stderr=result.stderr, kind=failure.kind
    )
    return error


def _syntax(failure: Failure, strict: bool) -> SyntaxError:
    if strict:
        return SyntaxError("Invalid Python syntax. message: ")
    trace = failure.traceback.strip("\n")
    error = SyntaxError(f"Invalid Python syntax. message: {failure.message}" + (f"\n{trace}" if trace else ""))
    error.lineno = failure.line
    return error


def _first_line(failure: Failure) -> str:
    return f"{failure.type}: {_arguments(failure)}"


def _arguments(failure: Failure) -> str:
    """What DSPy shows: the list of the exception's arguments, as far as its message tells them."""
    if not failure.message:
        return ""
    try:
        return str(_meant(failure))
    except (
        ValueError,
        TypeError,
        SyntaxError,
        MemoryError,
        RecursionError,
    ):  # the message is the program's: it may lie
        return str([failure.message])


def _meant(failure: Failure) -> list[object]:
    """Raises what `literal_eval` does. To write a number of too many digits is a `ValueError` too."""
    meant = ast.literal_eval(failure.message)
    if type(meant) is tuple:
        return [*meant]
    plain = type(meant) in (int, float) or failure.type == "KeyError"
    return [meant if plain else failure.message]


def _whole(result: ExecutionResult, failure: Failure) -> str:
    parts = [_first_line(failure)]
    if failure.traceback.strip():
        parts.append(failure.traceback.rstrip("\n"))
    if result.stdout:
        parts.append(f"Printed before the error:\n{_shortened(result.stdout)}")
    return "\n".join(parts)


def _shortened(text: str) -> str:
    left = len(text) - _PRINTED
    return text if left <= 0 else f"({left:,} characters left out)\n{text[-_PRINTED:]}"
