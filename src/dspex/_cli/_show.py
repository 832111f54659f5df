"""A result as a terminal shows it: output, then the value, or what went wrong and what to do about it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from dspex.execution._result import ExecutionResult, Failure

_RAISE = "allow more in a policy file, --policy FILE, under [limits]: "
_HINTS = {
    "timeout": "allow more with --timeout SECONDS",
    "cpu_limit": "allow more with --timeout SECONDS, or cpu in a policy file",
    "memory_limit": "allow more with --memory SIZE",
    "process_limit": _RAISE + "processes",
    "disk_limit": _RAISE + "disk",
    "output_limit": _RAISE + "output",
    "value_limit": _RAISE + "value",
    "policy": "what is allowed is said in a policy file, --policy FILE",
}


def show(result: ExecutionResult, name: str = "") -> None:
    """Write a result to stdout and stderr. `name` is what the program is called in its tracebacks."""
    _write(sys.stdout, result.stdout)
    if result.error is None:
        text = shown_value(result)
        if text is not None:
            joint = "\n" if result.stdout and not result.stdout.endswith("\n") else ""
            _write(sys.stdout, f"{joint}{text}\n")
    sys.stdout.flush()
    _write(sys.stderr, result.stderr)
    if result.error is not None:
        _write(sys.stderr, _explained(result.error, name))
    sys.stderr.flush()


def shown_value(result: ExecutionResult) -> str | None:
    """The value as Python's own prompt would show it; None for the value None."""
    if result.value_repr is not None:
        return result.value_repr
    if result.value is None:
        return None
    try:
        return repr(result.value)
    except (ValueError, RecursionError) as error:  # integers of more digits than Python likes to print
        return f"<{result.value_type}: it cannot be shown: {error}>"


def to_json(result: ExecutionResult) -> dict[str, Any]:
    """`to_dict` for JSON: a value that is not of JSON is null, and then, as always, there is its repr."""
    return {**result.to_dict(), "value": _plain(result.value), "value_repr": shown_value(result)}


def _plain(value: object) -> Any:
    import json

    try:
        text = json.dumps(value, allow_nan=False, check_circular=False)
        return json.loads(text) if _has_text_keys(value) else None
    except (TypeError, ValueError, RecursionError):
        return None


def _has_text_keys(value: object) -> bool:
    """JSON would quietly make text of keys that are numbers."""
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_has_text_keys, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(_has_text_keys, value))


def _explained(failure: Failure, name: str) -> str:
    trace = failure.traceback or f"{failure.type}: {failure.message}"
    if name:
        trace = trace.replace('  File "<program>", line ', f'  File "{name}", line ').replace("<program>:", f"{name}:")
    hint = _HINTS.get(failure.kind)
    return f"{trace.rstrip()}\ndspex: the program failed ({failure.kind}){'; ' + hint if hint else ''}\n"


def _write(stream: TextIO, text: str) -> None:
    """Text of any code points, whatever the locale."""
    if text:
        stream.flush()
        stream.buffer.write(text.encode("utf-8", "backslashreplace"))
