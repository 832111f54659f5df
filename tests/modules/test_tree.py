"""Trees and differences for people."""

import numpy
import pytest
from rich.console import Console

from dspex import Module, Parameter, Predictor, diff
from dspex.errors import UsageError
from programs import Answer, with_demos


def program():
    module = Module()
    module.a = Predictor("q -> a")
    module.words = ["not", "shown"]
    module.steps = {"x": [Parameter(numpy.zeros((2, 3)))], 0: Module()}
    module.again, module.me = module.a, module
    module.kept = Answer().freeze()
    return module


DRAWN = """\
self: Module
├── a: Predictor (q -> a, 0 demos)
├── steps: dict (2 items)
│   ├── ['x']: list (1 items)
│   │   └── [0]: Parameter (value: ndarray (2, 3) float64)
│   └── [0]: Module
├── again: Predictor (q -> a, 0 demos, shared: a)
├── me: Module (shared: self)
└── kept: Answer (frozen)
    ├── search: Predictor (question -> query, 0 demos)
    └── steps: dict (1 items)
        └── ['main']: list (1 items)
            └── [0]: Predictor (query -> answer, 0 demos)"""


def test_a_tree_shows_types_sizes_what_is_frozen_and_shared():
    """Containers in which nothing is are left out; a cycle ends."""
    assert str(program().tree()) == DRAWN


def test_rich_draws_the_same():
    """In colours, but with the same words."""
    console = Console(record=True, width=100, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    console.print(program().tree())
    console.file.close()
    assert [line.rstrip() for line in console.export_text().splitlines()] == DRAWN.splitlines()


def test_differences_are_named_down_to_the_value():
    """Changed, added, removed, each by its path."""
    a, b = with_demos(Answer()), with_demos(Answer(), 3)
    b.search.instructions = "Think."
    b.search.demos[0]["query"] = "new"
    del b.steps["main"]
    b.extra = Parameter(1)
    found = {(difference.change, difference.path) for difference in diff(a, b)}
    assert found == {
        ("changed", "search.signature.instructions"),
        ("changed", "search.demos[0].query"),
        ("added", "search.demos[2]"),
        ("added", "search.demo_inputs[2]"),
        ("removed", "steps['main'][0]"),
        ("added", "extra"),
    }
    assert "~ search.demos[0].query: 'search 0 query' -> 'new'" in map(str, diff(a, b))


def test_equal_programs_have_no_differences():
    """Copies, NaN and arrays included."""
    module = program()
    module.nan = Parameter(float("nan"))
    assert diff(module, module.deepcopy()) == []
    assert diff(module.dump_state(), module) == []


def test_types_and_arrays_differ():
    """1 and True, and arrays by their content."""
    a, b = Module(), Module()
    a.x, b.x = Parameter([1, numpy.zeros(2)]), Parameter([True, numpy.ones(2)])
    assert [difference.path for difference in diff(a, b)] == ["x.value[0]", "x.value[1]"]


def test_only_what_has_a_state_is_compared():
    """Anything else is named."""
    with pytest.raises(UsageError, match="int"):
        diff(Module(), 5)
