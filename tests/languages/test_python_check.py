"""The early word on a Python program: what is found, where, and what is left in peace."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.languages.guests import python_check
from dspex.languages.guests.python_check import first_violation

MODULES = frozenset({"ctypes", "os.path", "subprocess"})
CALLS = frozenset({"eval", "os.system", "shutil.rmtree", "a.b.c"})


def check(code, modules=MODULES, calls=CALLS):
    """The first violation in the code."""
    return first_violation(ast.parse(code), modules, calls)


@pytest.mark.parametrize(
    ("code", "line", "column", "name"),
    [
        ("import ctypes", 1, 1, "ctypes"),
        ("import json, ctypes.util as u", 1, 1, "ctypes"),
        ("x = 1\nfrom ctypes import CDLL", 2, 1, "ctypes"),
        ("from ctypes.util import find_library", 1, 1, "ctypes"),
        ("from os import path", 1, 1, "os.path"),
        ("import os.path", 1, 1, "os.path"),
        ("if True:\n    __import__('subprocess')", 2, 5, "subprocess"),
        ("x = __import__(name='subprocess')", 1, 5, "subprocess"),
        ("import importlib\nimportlib.import_module('ctypes.util')", 2, 1, "ctypes"),
        ("from importlib import import_module as load\nload('ctypes')", 2, 1, "ctypes"),
        ("from importlib import *\nimport_module('ctypes')", 2, 1, "ctypes"),
        ("eval('1')", 1, 1, "eval"),
        ("import builtins as b\nb.eval('1')", 2, 1, "eval"),
        ("__builtins__.eval('1')", 1, 1, "eval"),
        ("import os\nos.system('ls')", 2, 1, "os.system"),
        ("os.system('ls')", 1, 1, "os.system"),
        ("import os as o\nx = o.system('ls')", 2, 5, "os.system"),
        ("from os import system\nsystem('ls')", 2, 1, "os.system"),
        ("from os import system as s\nprint(s('ls'))", 2, 7, "os.system"),
        ("from os import *\nsystem('ls')", 2, 1, "os.system"),
        ("def f():\n    o.system('ls')\nimport os as o", 2, 5, "os.system"),
        ("import a.b as ab\nab.c()", 2, 1, "a.b.c"),
        ("from a import b\nb.c().d()", 2, 1, "a.b.c"),
        ("try:\n    import os\nexcept ImportError:\n    os = None\nos.system('ls')", 5, 1, "os.system"),
        ("class A:\n    def eval(self): return eval('1')", 2, 28, "eval"),
        ("@eval('1')\ndef f(): import ctypes", 1, 2, "eval"),
    ],
)
def test_what_is_forbidden_is_found(code, line, column, name):
    """Imports and calls by name, also through import aliases, are found at their place."""
    violation = check(code)
    assert violation is not None
    assert violation[:3] == (line, column, name)
    assert f"'{name}'" in violation.message


@pytest.mark.parametrize(
    "code",
    [
        "",
        "import os, ctypeslib, os.pathological",
        "from . import ctypes",
        "from .ctypes import x",
        "from .os import system\nsystem()",
        "def eval(x): return x\neval(1)",
        "def f(eval): return eval(1)",
        "eval = len\neval('x')",
        "class Calculator:\n    def eval(self): return 1\nCalculator().eval()",
        "model.eval()",
        "f().system()",
        "x = eval",
        "import numpy as os\nos.system()",
        "from mymodule import evaluate as eval\neval('x')",
        "__import__(name)",
        "__import__()",
        "__import__('json')",
        "a.b.c.d()",
        "a.b()",
    ],
)
def test_what_is_not_forbidden_is_left_in_peace(code):
    """Names that only look like forbidden ones, and those that the program defines itself, pass."""
    assert check(code) is None


def test_the_first_in_the_source_is_told():
    """Of several violations the first by line and column is told, however the tree is ordered."""
    violation = check("def f():\n    x = {eval('k'): eval('v')}\nimport ctypes\nimport subprocess")
    assert (violation.line, violation.column) == (2, 10)


def test_with_nothing_forbidden_the_tree_is_not_looked_at():
    """Empty sets answer at once: not even a tree is needed."""
    assert first_violation(None, frozenset(), frozenset()) is None


def _deep(make, depth=100_000):
    node = ast.Call(func=ast.Name(id="eval", ctx=ast.Load()), args=[], keywords=[], lineno=1, col_offset=0)
    chain = [node]
    for _ in range(depth):
        node = make(node)
        chain.append(node)
    return node, chain


@pytest.mark.parametrize(
    "make",
    [
        lambda node: ast.UnaryOp(op=ast.Not(), operand=node),
        lambda node: ast.Attribute(value=node, attr="a", ctx=ast.Load()),
        lambda node: ast.Call(func=node, args=[], keywords=[], lineno=2, col_offset=0),
        lambda node: ast.If(test=ast.Constant(value=1), body=[node], orelse=[]),
    ],
)
def test_a_very_deep_tree_is_walked_to_its_end(make):
    """A tree a hundred thousand levels deep is no trouble."""
    tree, chain = _deep(make)
    violation = first_violation(tree, MODULES, CALLS)
    while chain:  # taken apart from the top, so that freeing it does not recurse either
        node = chain.pop()
        node.__dict__.clear()
    assert violation.name == "eval"


@pytest.mark.parametrize(
    "code",
    [
        "import " + ".".join("a" * 10_000) + " as x\n" + "x.y()\n" * 10_000,
        "import " + "a" * 100_000 + " as x\n" + "x.y()\n" * 30_000,
        "from " + "a" * 100_000 + " import " + ", ".join(f"b{n}" for n in range(30_000)),
        "from ctypeslib import *\n" * 30_000,
    ],
    ids=["dotted", "long", "members", "stars"],
)
def test_long_names_do_not_multiply(code):
    """A long name used many times is never put together as many times (else this would take gigabytes of copying)."""
    assert check(code) is None


@given(
    st.lists(st.sampled_from(["import os", "import ctypes", "eval(1)", "x = 1", "from os import system", "system(2)"]))
)
def test_the_line_told_is_the_first_that_is_wrong(lines):
    """The line that is told is the first on which something forbidden stands."""
    imported = "from os import system" in lines
    wrong = [
        number
        for number, line in enumerate(lines, 1)
        if line in ("import ctypes", "eval(1)") or (line == "system(2)" and imported)
    ]
    violation = check("\n".join(lines))
    assert (violation.line if violation else None) == (wrong[0] if wrong else None)


def test_the_file_needs_nothing_but_the_standard_library():
    """Run as a file of its own, isolated, it imports ast and typing and nothing of dspex."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print([n for n in sys.modules if 'dspex' in n])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, python_check.__file__], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    body = ast.parse(Path(python_check.__file__).read_text(encoding="utf-8")).body
    imported = {node.names[0].name for node in body if isinstance(node, ast.Import)}
    imported |= {node.module for node in body if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "ast", "typing"}
