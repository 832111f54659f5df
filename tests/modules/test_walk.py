"""Enumeration of what is in a program."""

import dataclasses
from typing import Any

import pytest

from dspex import Module, Parameter, Predictor


@dataclasses.dataclass
class Record:
    inner: Any = None


@dataclasses.dataclass(slots=True)
class Slotted:
    inner: Any = None


def paths(module, **options):
    return [path for path, _ in module.named_parameters(**options)]


def made(**attributes):
    module = Module()
    vars(module).update(attributes)
    return module


def test_parameters_are_found_in_the_order_in_which_they_were_set():
    """Depth first, attributes as they were set, which is DSPy's order."""
    module = made(b=Parameter(), sub=made(x=Parameter()), a=Parameter())
    assert paths(module) == ["b", "sub.x", "a"]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([Parameter()], "a[0]"),
        ((Parameter(),), "a[0]"),
        ({"k": Parameter()}, "a['k']"),
        ({0: Parameter()}, "a[0]"),
        ([[[Parameter()]]], "a[0][0][0]"),
        ({"x": [{1: Parameter()}]}, "a['x'][0][1]"),
        (Record(Parameter()), "a.inner"),
        (Slotted([Parameter()]), "a.inner[0]"),
        ([Record(made(p=Parameter()))], "a[0].inner.p"),
        ({(1, "b"): Parameter()}, "a[(1, 'b')]"),
    ],
)
def test_containers_are_entered_at_any_depth(value, path):
    """Lists, tuples, dicts and dataclasses, in one another, with the path that one would write."""
    assert paths(made(a=value)) == [path]


def test_keys_that_look_alike_have_different_paths():
    """The keys 0, '0', True and an object that shows itself as 0 are four places."""
    odd = type("Odd", (), {"__repr__": lambda self: "0"})()
    found = paths(made(a={0: Parameter(), "0": Parameter(), odd: Parameter(), None: Parameter()}))
    assert found == ["a[0]", "a['0']", "a[#2]", "a[None]"]


def test_what_is_shared_is_found_once_under_its_first_path():
    """A parameter at two places is one parameter."""
    shared = Parameter()
    assert paths(made(a=shared, b=[shared], c=made(p=shared))) == ["a"]


def test_cycles_end():
    """Modules and containers that hold themselves are walked once."""
    module = made(p=Parameter())
    module.me = module
    module.loop = [module]
    module.loop.append(module.loop)
    assert paths(module) == ["p"]
    assert [path for path, _ in module.named_sub_modules()] == ["self"]


def test_depth_needs_no_recursion():
    """A chain of 3,000 modules is walked."""
    module = made(p=Parameter())
    for _ in range(3_000):
        module = made(inner=module)
    assert len(module.parameters()) == 1
    assert sum(1 for _ in module.named_sub_modules()) == 3_001


def test_a_parameter_is_a_leaf():
    """What a parameter holds is its own affair."""
    outer = Parameter([Parameter()])
    assert paths(made(a=outer)) == ["a"]


def test_a_predictor_alone_is_its_own_parameter():
    """The path of the root is `self`."""
    predictor = Predictor("a -> b")
    assert predictor.named_parameters() == [("self", predictor)]


def test_frozen_modules_are_left_out_unless_asked_for():
    """Frozen sub-modules keep their parameters to themselves; a frozen root shows its own."""
    module = made(a=made(p=Parameter()).freeze(), b=Parameter())
    assert paths(module) == ["b"]
    assert paths(module, frozen=True) == ["a.p", "b"]
    assert paths(module.a) == ["p"]


def test_as_dspy_finds_no_more_than_dspy():
    """Containers inside of containers and dataclasses are not entered, and keys are text."""
    module = made(
        a=[Parameter(), [Parameter()]], d={0: Parameter()}, r=Record(Parameter()), s=made(l=[made(p=Parameter())])
    )
    assert paths(module, like_dspy=True) == ["a[0]", "d['0']", "s.l[0].p"]
    assert len(paths(module)) == 5


def test_sub_modules_are_found_breadth_first():
    """The path of a sub-module is a shortest one, as in DSPy."""
    inner = made()
    module = made(deep=made(again=inner), near=[{"k": inner}])
    assert [path for path, _ in module.named_sub_modules()] == ["self", "self.deep", "self.deep.again"]
    assert [path for path, _ in made(a=[made(), {"key": made(), 0: made()}]).named_sub_modules()] == [
        "self",
        "self.a[0]",
        "self.a[1][key]",
        "self.a[1][0]",
    ]


def test_sub_modules_by_type_depth_and_frozenness():
    """`type_` may be any class; `max_depth` counts modules; a frozen module is given, not entered."""
    module = made(a=made(b=made(c=Parameter())))
    module.a.freeze()
    assert [path for path, _ in module.named_sub_modules(Parameter)] == ["self.a.b.c"]
    assert [path for path, _ in module.named_sub_modules(max_depth=1)] == ["self", "self.a"]
    assert [path for path, _ in module.named_sub_modules(max_depth=0)] == ["self"]
    assert [path for path, _ in module.named_sub_modules(skip_compiled=True)] == ["self", "self.a"]
