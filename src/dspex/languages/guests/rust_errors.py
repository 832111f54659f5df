"""What rustc says of a program, as its author may read it: with their own lines, and nothing of what was put around them."""

from __future__ import annotations

import json
from typing import Any

from .speech import Failure

Inserted = list[list[int]]  # line, column and length of each piece that the engine put in, in order


def failure(said: str, status: int, code: str, inserted: Inserted) -> Failure:
    """The compiler's first error, and all of them as the trace."""
    errors = [message for message in _messages(said) if message["level"].startswith("error") and message.get("spans")]
    if errors:
        return _first(errors, code.splitlines(), inserted)
    if status < 0 or "memory allocation" in said or "out of memory" in said:
        return Failure("memory_limit", "MemoryError", "the compiler needed more memory than there is for the program")
    others = [message for message in _messages(said) if message["level"].startswith("error")]
    text = others[0]["message"] if others else f"the compiler ended with status {status}"
    return Failure(
        "syntax",
        "error",
        text,
        trace="".join(message.get("rendered") or "" for message in others)[-4000:] or said[-2000:],
    )


def _first(errors: list[dict[str, Any]], lines: list[str], inserted: Inserted) -> Failure:
    first = errors[0]
    line, column = _place(_primary(first), lines, inserted)
    trace = "\n".join(_shown(error, lines, inserted) for error in errors)
    return Failure("syntax", _name(first), first["message"], line=line, column=column, trace=trace)


def _name(message: dict[str, Any]) -> str:
    code = (message.get("code") or {}).get("code")
    return f"error[{code}]" if code else "error"


def _messages(said: str) -> list[dict[str, Any]]:
    found = []
    for row in said.splitlines():
        try:
            message = json.loads(row) if row.startswith("{") else {}
        except ValueError:  # the last row may be cut
            continue
        if message.get("$message_type", "diagnostic") == "diagnostic" and "level" in message:
            found.append(message)
    return found


def _primary(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next((span for span in message["spans"] if span["is_primary"]), message["spans"][0])
    while found.get("expansion"):  # within a macro's text: where the program calls it
        found = found["expansion"]["span"]
    return found


def _place(span: dict[str, Any], lines: list[str], inserted: Inserted) -> tuple[int, int]:
    line, column = span["line_start"], span["column_start"]
    before = sum(length for at, start, length in inserted if at == line and start + length <= column)
    if line > len(lines):
        return max(1, len(lines)), len(lines[-1]) + 1 if lines else 1
    return line, max(1, column - before)


def _shown(message: dict[str, Any], lines: list[str], inserted: Inserted) -> str:
    """As rustc would: the message, the place, the line with what is wrong marked, then notes."""
    span = _primary(message)
    line, column = _place(span, lines, inserted)
    text = lines[line - 1] if line <= len(lines) else ""
    wide = span["column_end"] - span["column_start"] if span["line_end"] == span["line_start"] else 1
    margin = " " * len(str(line))
    mark = "^" * max(1, min(wide, len(text) - column + 1)) + (f" {span['label']}" if span.get("label") else "")
    rows = [f"{_name(message)}: {message['message']}", f"{margin}--> <program>:{line}:{column}", f"{margin} |"]
    rows += [f"{line} | {text}", f"{margin} | {' ' * (column - 1)}{mark}"]
    rows += [f"{margin} = {child['level']}: {child['message']}" for child in message.get("children", ())]
    return "\n".join(rows) + "\n"
