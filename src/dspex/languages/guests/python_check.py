"""The policy's early word on a Python program: forbidden imports and calls, found in its syntax tree, with the line.

This is a kindness that tells early, not a wall. A program that wants to hide what it calls can (`getattr`, `exec`, an
assignment), and nothing is lost: what it may do is decided by the kernel, not here.

Theory of operation. One walk over the tree collects the imports, the calls and the names that the program binds itself;
then each import and call is looked up. Names are not followed through scopes: an import counts for the whole program,
and a name that the program itself defines (`def eval(...)`) is its own, so that no honest program is refused. The tree
is the adversary's, so nothing recurses, and no name is ever put together that is longer than the longest forbidden
one: time is linear in the tree.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

_IMPORTERS = frozenset({"__import__", "importlib.import_module", "importlib.__import__"})
_BUILTINS = ("builtins.", "__builtins__.")


class Violation(NamedTuple):
    """The first thing in a program that its policy forbids."""

    line: int
    """From 1."""
    column: int
    """From 1, in UTF-8 bytes, as the compiler counts."""
    name: str
    """The entry of the policy that was met."""
    message: str


def first_violation(tree: ast.AST, modules: frozenset[str], calls: frozenset[str]) -> Violation | None:
    """What comes first in the source of all that imports one of `modules` or calls one of `calls` by name."""
    if not modules and not calls:
        return None
    program = _Program(tree, modules, calls)
    return min(filter(None, map(program.violation, program.places)), default=None)


class _Program:
    """The imports and calls of one program, and what its names stand for."""

    def __init__(self, tree: ast.AST, modules: frozenset[str], calls: frozenset[str]) -> None:
        self.modules = modules
        self.calls = calls
        self.longest = max(map(len, (*modules, *calls, *_IMPORTERS))) + len(_BUILTINS[-1])
        self.imported: dict[str, str] = {}
        self.defined: set[str] = set()
        self.places: list[ast.Call | ast.Import | ast.ImportFrom] = []
        methods: set[ast.AST] = set()  # bound in a class body: they hide no global name
        for node in ast.walk(tree):  # iterative, parents before their children
            if isinstance(node, ast.ClassDef):
                methods.update(node.body)
            self._enter(node, node in methods)

    def _enter(self, node: ast.AST, method: bool) -> None:
        if isinstance(node, (ast.Call, ast.Import, ast.ImportFrom)):
            self.places.append(node)
        if isinstance(node, ast.Import):
            self._bind_modules(node)
        elif isinstance(node, ast.ImportFrom):
            self._bind_members(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if not method:
                self.defined.add(node.name)
        elif isinstance(node, ast.arg):
            self.defined.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self.defined.add(node.id)

    def _bind_modules(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self._bind(alias.asname, alias.name)
            else:
                root = alias.name.partition(".")[0]
                self._bind(root, root)

    def _bind_members(self, node: ast.ImportFrom) -> None:
        module = "" if node.level or not node.module else node.module[: self.longest + 1]
        for alias in node.names:
            if alias.name == "*":
                self._bind_all(module)
            else:
                self._bind(alias.asname or alias.name, f"{module}.{alias.name}" if module else "")

    def _bind_all(self, module: str) -> None:
        for call in self.calls | _IMPORTERS:
            parent, _, name = call.rpartition(".")
            if parent and parent == module:
                self._bind(name, call)

    def _bind(self, name: str, meaning: str) -> None:
        """Note what an imported name stands for: nothing that could be forbidden, if it is too long."""
        self.imported[name] = meaning if len(meaning) <= self.longest else ""

    def violation(self, node: ast.Call | ast.Import | ast.ImportFrom) -> Violation | None:
        """What is wrong with one import or call."""
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Import):
            return self._import(node, [alias.name for alias in node.names])
        if node.level or not node.module:
            return None
        module = node.module[: self.longest + 1]
        return self._import(node, [f"{module}.{alias.name}" for alias in node.names])

    def _import(self, node: ast.stmt | ast.expr, names: list[str]) -> Violation | None:
        for name in names:
            if found := self._forbidden_module(name):
                return _violation(node, found, f"the policy forbids to import '{found}'")
        return None

    def _forbidden_module(self, name: str) -> str | None:
        """The forbidden module that `name` is, or lies in."""
        end = name.find(".", 0, self.longest + 1)
        while end >= 0:
            if name[:end] in self.modules:
                return name[:end]
            end = name.find(".", end + 1, self.longest + 1)
        return name if name in self.modules else None

    def _call(self, node: ast.Call) -> Violation | None:
        name = self._called(node.func)
        if name in self.calls:
            return _violation(node, name, f"the policy forbids to call '{name}'")
        if name in _IMPORTERS and (module := _literal(node)):
            return self._import(node, [module])
        return None

    def _called(self, node: ast.expr) -> str:
        """The full dotted name that is called; empty if it has none, or too long a one, or is the program's own."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute) and len(parts) <= self.longest:
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        root = self.imported.get(node.id)
        if root is None:
            root = "" if node.id in self.defined else node.id
        if not root or sum(map(len, parts)) + len(root) > self.longest:
            return ""
        return _without_builtins(".".join((root, *reversed(parts))))


def _literal(call: ast.Call) -> str | None:
    """The module name given to an importing call, if it is written out."""
    given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "name")]
    if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
        return given[0].value
    return None


def _without_builtins(name: str) -> str:
    for prefix in _BUILTINS:
        name = name.removeprefix(prefix)
    return name


def _violation(node: ast.stmt | ast.expr, name: str, message: str) -> Violation:
    return Violation(node.lineno, node.col_offset + 1, name, message)
