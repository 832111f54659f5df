"""Enumeration: every parameter and sub-module of a program, each once, under its first path.

Theory of operation. A program is a graph: modules refer to modules, share them, and may refer back. The walk keeps its
own stack, so depth costs memory but no recursion, and a set of what it has seen, so what is shared is entered once and
a cycle ends. What a value is for the walk depends on its type alone; that is found out once for each type and walk,
so the thousand strings and numbers among the attributes cost one lookup each.

Parameters are met depth first, in the order in which attributes were set: that is the order of DSPy, and the first path is
the one that reads first. Sub-modules are met breadth first, as in DSPy, so their first path is a shortest one.

Entered are: modules, lists, tuples, dicts and dataclasses, at any depth. Not entered: parameters, which are leaves, and
sets, in which nothing has a place.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any

from dspex.modules._node import OWN, Node
from dspex.modules._parameter import Parameter
from dspex.modules._paths import bare, below, key_texts

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

OTHER, LEAF, MODULE, ITEMS, ENTRIES, RECORD = range(6)

Found = tuple[str, Any, int]


# Attributes of every module that are no parts of the program.
NO_PARTS = OWN | {"_compiled"}


class Kinds(dict[type, int]):
    """What values of a type are for a walk; each type is asked about once."""

    def __missing__(self, kind: type) -> int:
        self[kind] = found = _kind_of(kind)
        return found


def _kind_of(kind: type) -> int:
    if issubclass(kind, Parameter):
        return LEAF
    if issubclass(kind, Node):
        return MODULE
    if issubclass(kind, (list, tuple)):
        return ITEMS
    if issubclass(kind, dict):
        return ENTRIES
    return RECORD if dataclasses.is_dataclass(kind) and not issubclass(kind, type) else OTHER


# --- parameters ---


def parameters_of(root: Any, *, frozen: bool = False) -> list[tuple[str, Parameter]]:
    """Every parameter of `root` with its path, those of frozen sub-modules only when `frozen` is set."""
    if isinstance(root, Parameter):
        return [("self", root)]
    kinds, seen = Kinds(), {id(root)}
    found: list[tuple[str, Parameter]] = []
    stack: list[Iterator[Found]] = []
    _enter(("", root, MODULE), kinds, seen, found, stack)
    while stack:
        for path, value, kind in stack[-1]:
            identity = id(value)
            if identity in seen:
                continue
            seen.add(identity)
            if kind == LEAF:
                found.append((path, value))
            elif frozen or not (kind == MODULE and value._compiled):
                _enter((path, value, kind), kinds, seen, found, stack)
                break
        else:
            stack.pop()
    return found


def _enter(
    node: Found, kinds: Kinds, seen: set[int], found: list[tuple[str, Parameter]], stack: list[Iterator[Found]]
) -> None:
    """Go into a node. Of a module that holds leaves only, and new ones, all are found in one go: most are such."""
    path, value, kind = node
    leaves = _leaves(path, value, kinds) if kind == MODULE else None
    if leaves is not None:
        new = {id(leaf) for _, leaf in leaves}
        if len(new) == len(leaves) and seen.isdisjoint(new):
            seen |= new
            found += leaves
            stack.append(iter(()))
            return
    stack.append(iter(children(path, value, kind, kinds)))


def _leaves(path: str, node: Node, kinds: Kinds) -> list[tuple[str, Parameter]] | None:
    """What a module holds, when nothing of it is to be entered and all names are plain; None otherwise."""
    attributes = vars(node).copy()
    for name in NO_PARTS:
        attributes.pop(name, None)
    held = {kinds[kind] for kind in set(map(type, attributes.values()))}
    if not held <= {OTHER, LEAF} or "self" in attributes or not all(map(str.isidentifier, attributes)):
        return None
    pairs: Iterable[tuple[str, Any]] = attributes.items()
    if OTHER in held:
        pairs = [pair for pair in pairs if kinds[type(pair[1])]]
    return [(f"{path}.{name}", value) for name, value in pairs] if path else list(pairs)


def children(path: str, node: Any, kind: int, kinds: Kinds) -> list[Found]:
    """The children of one node that are of interest, each with its path and what it is for a walk."""
    if kind == ITEMS:
        return [(f"{path}[{i}]", value, kinds[type(value)]) for i, value in enumerate(node) if kinds[type(value)]]
    if kind == ENTRIES:
        return _entries(path, node, kinds)
    found = [
        (name, value, of) for name, value in attributes_of(node) if (of := kinds[type(value)]) and name not in NO_PARTS
    ]
    names = [name for name, _, _ in found]
    if "self" in names or not all(map(str.isidentifier, names)):
        return [(below(path, name), value, of) for name, value, of in found]
    prefix = f"{path}." if path else ""
    return [(prefix + name, value, of) for name, value, of in found] if prefix else found


def _entries(path: str, node: dict[Any, Any], kinds: Kinds) -> list[Found]:
    items = list(node.items())
    if not any(kinds[type(value)] for _, value in items):
        return []
    texts = key_texts([key for key, _ in items])
    return [
        (f"{path}[{text}]", value, kinds[type(value)])
        for text, (_, value) in zip(texts, items, strict=True)
        if kinds[type(value)]
    ]


def attributes_of(node: Any) -> list[tuple[str, Any]]:
    """The attributes of a module or a dataclass as they are at this moment, whoever else is setting some."""
    if hasattr(node, "__dict__"):
        return list(vars(node).items())
    names = [field.name for field in dataclasses.fields(node)]
    return [(name, getattr(node, name)) for name in names if hasattr(node, name)]


# --- as DSPy does it ---


def parameters_as_dspy(root: Any) -> list[tuple[str, Parameter]]:
    """Exactly what DSPy's `named_parameters` finds, by DSPy's names, but in linear time and with an end to cycles.

    It looks into the containers that are attributes of modules, but not into containers inside of these, nor into
    dataclasses, nor into frozen sub-modules; and it looks inside a parameter when that is the root.
    """
    kinds, seen = Kinds(), {id(root)}
    found: list[tuple[str, Parameter]] = [("self", root)] if isinstance(root, Parameter) else []
    stack = [_children_as_dspy("", root, kinds)]
    while stack:
        for path, value, kind in stack[-1]:
            if id(value) in seen:
                continue
            seen.add(id(value))
            if kind == LEAF:
                found.append((path, value))
            elif not value._compiled:
                stack.append(_children_as_dspy(f"{path}.", value, kinds))
                break
        else:
            stack.pop()
    return found


def _children_as_dspy(prefix: str, node: Any, kinds: Kinds) -> Iterator[Found]:
    for name, value in list(vars(node).items()):
        kind = kinds[type(value)]
        inside: Iterable[tuple[str, Any]] = ()
        if kind in (LEAF, MODULE):
            yield f"{prefix}{name}", value, kind
        elif kind == ITEMS:
            inside = ((f"{prefix}{name}[{i}]", item) for i, item in enumerate(value))
        elif kind == ENTRIES:
            inside = ((f"{prefix}{name}['{key}']", item) for key, item in list(value.items()))
        for path, item in inside:
            if kinds[type(item)] in (LEAF, MODULE):
                yield path, item, kinds[type(item)]


# --- sub-modules ---


def sub_modules_of(
    root: Any, type_: Any, *, skip_compiled: bool, max_depth: int | None, enter_parameters: bool
) -> Iterator[tuple[str, Any]]:
    """Everything of type `type_` in the graph, breadth first; see `Module.named_sub_modules`."""
    kinds, seen = Kinds(), {id(root)}
    queue: deque[tuple[str, Any, int]] = deque([("self", root, 0)])
    while queue:
        path, node, depth = queue.popleft()
        if isinstance(node, type_):
            yield path, node
        if isinstance(node, Node) and (depth == max_depth or (skip_compiled and node._compiled)):
            continue
        if node is not root and kinds[type(node)] == LEAF and not enter_parameters:
            continue
        for name, value in _everything_in(path, node, kinds):
            if id(value) not in seen:
                seen.add(id(value))
                queue.append((name, value, depth + isinstance(value, Node)))


def _everything_in(path: str, node: Any, kinds: Kinds) -> list[tuple[str, Any]]:
    """All that a node holds, of interest or not: somebody may look for any type."""
    kind = kinds[type(node)]
    if kind == ITEMS:
        return [(f"{path}[{i}]", value) for i, value in enumerate(node)]
    if kind == ENTRIES:
        items = list(node.items())
        texts = key_texts([key for key, _ in items])
        return [(f"{path}[{bare(text)}]", value) for text, (_, value) in zip(texts, items, strict=True)]
    if kind == OTHER:
        return []
    return [(below(path, name), value) for name, value in attributes_of(node)]


# --- places ---


def places_of(root: Any, wanted: Container[int]) -> list[tuple[str, Any]]:
    """Every path at which one of the objects with these ids is, several for what is shared; frozen modules excepted."""
    if id(root) in wanted:
        return [("self", root)]
    kinds, seen = Kinds(), {id(root)}
    places: list[tuple[str, Any]] = []
    stack: list[Found] = [("", root, MODULE)]
    while stack:
        for path, value, kind in children(*stack.pop(), kinds):
            if id(value) in wanted:
                places.append((path, value))
            elif kind != LEAF and id(value) not in seen and not (kind == MODULE and value._compiled):
                seen.add(id(value))
                stack.append((path, value, kind))
    return places
