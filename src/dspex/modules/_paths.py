"""Paths: how the place of a node in a program is written, and found again.

A path is written as one would in Python: `search.steps[0].heads['main']`. Two different places never have the same path:

- an attribute whose name is no identifier (or is `self`) is written as a string: `search.'odd name'`;
- a key of a dict that is a str, a number, bytes, None or a tuple of these is written as Python would: `[0]`, `['0']`;
- a member of an enum is written by its name, `[Color.RED]`; any other key by its position, `[#2]`.

`self` alone is the root, and `self.` may stand before any path. Sub-modules are named as DSPy names them, where a key that
is an identifier stands without quotes: `self.heads[main]`. Both are understood.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import enum
import keyword
import math
from typing import Any, NamedTuple

from dspex.errors import UsageError

_LITERAL = frozenset({str, int, bool, bytes, type(None)})


class Step(NamedTuple):
    """One step of a path: to an attribute, or to what is in brackets."""

    is_key: bool
    text: str


# --- writing ---


def below(path: str, name: str) -> str:
    """The path of an attribute of the node at `path`; the empty path is the root's."""
    text = name if name.isidentifier() and name != "self" else repr(name)
    return f"{path}.{text}" if path else text


def key_texts(keys: Any) -> list[str]:
    """The keys of a dict as they are written in paths, all different."""
    texts = [repr(key) if _is_literal(key) else _member(key) for key in keys]
    counts = collections.Counter(texts)
    return [f"#{place}" if text is None or counts[text] > 1 else text for place, text in enumerate(texts)]


def bare(text: str) -> str:
    """The text of a key as DSPy names sub-modules: without quotes when it cannot be taken for anything else."""
    name = text[1:-1]
    quoted = text[:1] in "'\"" and name.isidentifier() and not keyword.iskeyword(name)
    return name if quoted else text


def _is_literal(key: Any) -> bool:
    kind = type(key)
    if kind is tuple:
        return all(map(_is_literal, key))
    return kind in _LITERAL or (kind is float and math.isfinite(key))


def _member(key: Any) -> str | None:
    return f"{type(key).__name__}.{key.name}" if isinstance(key, enum.Enum) and type(key.name) is str else None


# --- reading ---


def steps_of(path: str) -> list[Step]:
    """The steps of a path. Raises UsageError when it is none, saying where."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        step, at = _step(path, at, first=not steps)
        steps.append(step)
    if steps and steps[0] == Step(False, "self"):
        del steps[0]
    return [Step(step.is_key, _unquoted(step)) for step in steps]


def _step(path: str, at: int, *, first: bool) -> tuple[Step, int]:
    if path[at] == "[" and not first:
        end = _end_of_bracket(path, at)
        return Step(True, path[at + 1 : end]), end + 1
    start = at if first else at + 1
    if not first and path[at] != ".":
        raise _bad(path, at)
    end = _end_of_name(path, start)
    if end == start:
        raise _bad(path, start)
    return Step(False, path[start:end]), end


def _end_of_name(path: str, at: int) -> int:
    if path[at : at + 1] in ("'", '"'):
        return _end_of_string(path, at)
    end = at
    while end < len(path) and path[end] not in ".[]":
        end += 1
    if not path[at:end].isidentifier():
        raise _bad(path, at)
    return end


def _end_of_string(path: str, at: int) -> int:
    end = at + 1
    while end < len(path) and path[end] != path[at]:
        end += 2 if path[end] == "\\" else 1
    if end >= len(path):
        raise _bad(path, at)
    return end + 1


def _end_of_bracket(path: str, at: int) -> int:
    end = at + 1
    while end < len(path) and path[end] != "]":
        end = _end_of_string(path, end) if path[end] in "'\"" else end + 1
    if end >= len(path):
        raise _bad(path, at)
    return end


def _unquoted(step: Step) -> str:
    return ast.literal_eval(step.text) if not step.is_key and step.text[0] in "'\"" else step.text


def _bad(path: str, at: int) -> UsageError:
    return UsageError(f"{path!r} is no path: at {path[at : at + 10]!r}; a path is like search.steps[0].heads['main']")


# --- following ---


def found(root: Any, path: str) -> Any:
    """What is at `path`. Raises UsageError when there is nothing."""
    node = root
    for step in steps_of(path):
        node = _followed(node, step, path)
    return node


def replaced(root: Any, path: str, value: Any) -> None:
    """Put `value` at `path`. A tuple on the way is replaced by one that holds it.

    Raises UsageError when there is no such place, or it is the root itself.
    """
    steps = steps_of(path)
    if not steps:
        raise UsageError("a module cannot be put in its own place: 'self' is the root")
    nodes = [root]
    for step in steps[:-1]:
        nodes.append(_followed(nodes[-1], step, path))
    for node, step in zip(reversed(nodes), reversed(steps), strict=True):
        if not (step.is_key and isinstance(node, tuple)):
            _put(node, step, value, path)
            return
        value = _tuple_with(node, _place(node, step, path), value)


def _followed(node: Any, step: Step, path: str) -> Any:
    if step.is_key:
        return node[_place(node, step, path)]
    if not hasattr(node, step.text):
        raise UsageError(f"there is nothing at {path!r}: {type(node).__name__} has no attribute {step.text!r}")
    return getattr(node, step.text)


def _put(node: Any, step: Step, value: Any, path: str) -> None:
    if step.is_key:
        node[_place(node, step, path, new=True)] = value
    elif step.text.startswith("__"):
        raise UsageError(f"{path!r} is no place for a value: names with two underscores belong to Python")
    elif dataclasses.is_dataclass(node):
        object.__setattr__(node, step.text, value)  # also of a frozen one, whose fields were enumerated
    else:
        setattr(node, step.text, value)


def _place(node: Any, step: Step, path: str, *, new: bool = False) -> Any:
    """The index or the key that the text in brackets means; with `new`, of an entry that may not be there yet."""
    key = _meant(step.text)
    if isinstance(node, (list, tuple)):
        if type(key) is int and -len(node) <= key < len(node):
            return key
    elif isinstance(node, dict):
        if key is not _NOTHING and (key in node or new):
            return key
        for known, text in zip(node, key_texts(node), strict=True):
            if text == step.text:
                return known
    raise UsageError(f"there is nothing at {path!r}: {type(node).__name__} has no [{step.text}]")


_NOTHING = object()


def _meant(text: str) -> Any:
    """The key that is written, or _NOTHING when it can be found only by comparing."""
    if text.isidentifier() and not keyword.iskeyword(text):
        return text
    try:
        key = ast.literal_eval(text)
        hash(key)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _NOTHING
    return key


def _tuple_with(node: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    items = list(node)
    items[place] = value
    return type(node)._make(items) if hasattr(node, "_make") else type(node)(items)
