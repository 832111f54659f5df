"""A program drawn as a tree: what is in it, of which type, how large, what is frozen or shared."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.modules._walk import LEAF, MODULE, Found, Kinds, children

if TYPE_CHECKING:
    from rich.tree import Tree as RichTree

    from dspex.modules._parameter import Parameter


class Line(NamedTuple):
    """One line of a tree. `name` is the last step of `path`; `shared` is the path at which it was drawn first."""

    depth: int
    path: str
    name: str
    type: str
    kind: int
    size: str
    frozen: bool
    shared: str | None

    def __str__(self) -> str:
        notes = [self.size] if self.size else []
        notes += ["frozen"] * self.frozen
        notes += [f"shared: {self.shared}"] if self.shared else []
        return f"{self.name}: {self.type}" + (f" ({', '.join(notes)})" if notes else "")


class Tree:
    """The tree of a program, as it was when this was made. `print(tree)` draws it, and so does Rich, in colours."""

    def __init__(self, root: Any) -> None:
        self.lines = _lines(root)

    def __str__(self) -> str:
        return "\n".join(_guides(self.lines, i) + str(line) for i, line in enumerate(self.lines))

    def __repr__(self) -> str:
        return str(self)

    def __rich__(self) -> RichTree:
        from rich.text import Text
        from rich.tree import Tree as RichTree

        branches: list[RichTree] = []
        for line in self.lines:
            label = Text.assemble((line.name, "bold"), ": ", (line.type, _COLOURS.get(line.kind, "dim")))
            label.append(str(line)[len(f"{line.name}: {line.type}") :], "yellow" if line.frozen else "dim")
            del branches[line.depth :]
            branches.append(branches[-1].add(label) if branches else RichTree(label))
        return branches[0]

    def to_list(self) -> list[dict[str, Any]]:
        """The lines as plain data, in the order in which they are drawn."""
        names = {LEAF: "parameter", MODULE: "module"}
        return [{**line._asdict(), "kind": names.get(line.kind, "container")} for line in self.lines]


_COLOURS = {LEAF: "green", MODULE: "cyan"}


def _lines(root: Any) -> list[Line]:
    """All lines in the order in which they are drawn; containers in which nothing is are left out."""
    kinds = Kinds()
    first: dict[int, str] = {id(root): "self"}
    lines = [_line(0, ("self", root, kinds[type(root)]), "", None)]
    stack = [(1, "", found) for found in reversed(_inside(("", root, kinds[type(root)]), kinds))]
    while stack:
        depth, above, found = stack.pop()
        path, value, _kind = found
        shared = first.get(id(value))
        lines.append(_line(depth, found, above, shared))
        if shared is None:
            first[id(value)] = path
            stack += [(depth + 1, path, inner) for inner in reversed(_inside(found, kinds))]
    return _kept(lines)


def _inside(found: Found, kinds: Kinds) -> list[Found]:
    return [] if found[2] == LEAF else children(*found, kinds)


def _line(depth: int, found: Found, above: str, shared: str | None) -> Line:
    path, value, kind = found
    name = path[len(above) :].removeprefix(".")
    frozen = kind == MODULE and value._compiled
    return Line(depth, path, name, type(value).__qualname__, kind, _size(value, kind), frozen, shared)


def _size(value: Any, kind: int) -> str:
    if kind == LEAF:
        return ", ".join(_sizes_of_parameter(value))
    return f"{len(value)} items" if isinstance(value, (list, tuple, dict)) else ""


def _sizes_of_parameter(parameter: Parameter) -> list[str]:
    demos = getattr(parameter, "demos", None)
    if isinstance(demos, list) and hasattr(parameter, "signature"):
        return [str(parameter.signature).replace("\n", " ")[:80], f"{len(demos)} demos"]
    state = {name: value for name, value in vars(parameter).items() if not name.startswith("_")}
    return [f"{name}: {described(value)}" for name, value in state.items()]


def described(value: Any) -> str:
    """A value's type and size in a few words."""
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{kind} {tuple(value.shape)} {value.dtype}"
    return f"{kind} of {len(value)}" if isinstance(value, collections.abc.Sized) else kind


def _kept(lines: list[Line]) -> list[Line]:
    """Without containers that hold nothing of interest: those after which no deeper line is kept."""
    kept: list[Line] = []
    for line in reversed(lines):
        holds = bool(kept) and kept[-1].depth > line.depth
        if line.kind in (LEAF, MODULE) or holds or line.depth == 0:
            kept.append(line)
    return kept[::-1]


def _guides(lines: list[Line], place: int) -> str:
    """What stands before a line: for each depth above, whether another line follows there."""
    depth = lines[place].depth
    follows = set()
    lowest = depth + 1
    for line in lines[place + 1 :]:
        if line.depth < lowest:
            lowest = line.depth
            follows.add(line.depth)
        if lowest <= 1:
            break
    guides = ["│   " if level in follows else "    " for level in range(1, depth)]
    return "".join(guides) + (("├── " if depth in follows else "└── ") if depth else "")
