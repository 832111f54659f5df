"""Paths: written by enumeration, followed and replaced by name."""

import dataclasses
import enum
from collections import namedtuple

import pytest

from dspex import Module, Parameter, Predictor
from dspex.errors import UsageError

Pair = namedtuple("Pair", "left right")


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    inner: object


def test_every_path_of_enumeration_is_followed_back():
    """Odd names and keys of many types included."""
    module = Module()
    vars(module)["odd name"] = Parameter()
    vars(module)["self"] = Parameter()
    vars(module)["it's"] = Parameter()
    keys = [0, "0", "a]b", "it's", 'say "so"', (1, ("x",)), None, True, 2.5, b"b", Color.RED, frozenset({1}), "\n"]
    module.heads = {key: Parameter() for key in keys[1:]} | {"sub": {0: [Parameter()]}}
    found = module.named_parameters()
    assert len(found) == 3 + len(keys[1:]) + 1
    assert len({path for path, _ in found}) == len(found)
    for path, parameter in found:
        assert module.get_attribute_by_name(path) is parameter
    for path, value in module.named_sub_modules(object):
        assert module.get_attribute_by_name(path) is value


def test_replacing_in_lists_dicts_dataclasses_and_modules():
    """`set_attribute_by_name` puts a value wherever enumeration found one."""
    module = Module()
    module.a = [{"k": Parameter(), 0: Parameter()}, Frozen(Parameter())]
    for number, (path, _) in enumerate(module.named_parameters()):
        module.set_attribute_by_name(path, number)
    assert module.a == [{"k": 0, 0: 1}, Frozen(2)]


def test_a_tuple_on_the_way_is_replaced():
    """A tuple cannot be changed, so one with the new item takes its place; a named one keeps its class."""
    module = Module()
    module.a = ((Parameter(), 1), Pair(Parameter(), 2))
    module.set_attribute_by_name("a[0][0]", "x")
    module.set_attribute_by_name("a[1][0]", "y")
    assert module.a == (("x", 1), Pair("y", 2))
    assert type(module.a[1]) is Pair


def test_new_attributes_and_entries_can_be_set():
    """As with DSPy's function of this name."""
    module = Module()
    module.sub = Module()
    module.d = {}
    module.set_attribute_by_name("self.sub.new", 1)
    module.set_attribute_by_name("d['new']", 2)
    assert (module.sub.new, module.d) == (1, {"new": 2})


@pytest.mark.parametrize(
    "path", ["missing.x", "a[7]", "a['x']", "a[", "a]", "a..b", "a[0", "1a", "a['x", "self", "", "a[0]b", "a.[0]"]
)
def test_a_path_that_leads_nowhere_is_named(path):
    """Whatever is wrong with it, it is a UsageError that shows it."""
    module = Module()
    module.a = [Parameter()]
    with pytest.raises(UsageError):
        module.set_attribute_by_name(path, 1)


def test_mapping_predictors_replaces_them_everywhere():
    """A predictor that is shared is made once and put at both its places."""
    module, shared, calls = Module(), Predictor("a -> b"), []
    module.a, module.b, module.c = shared, [(shared,)], Predictor("a -> b")

    def changed(predictor):
        calls.append(predictor)
        return Predictor("x -> y")

    assert module.map_named_predictors(changed) is module
    assert len(calls) == 2
    assert module.a is module.b[0][0]
    assert module.a is not shared
    assert {str(p.signature) for p in module.predictors()} == {"x -> y"}


def test_frozen_modules_are_not_mapped():
    """What is frozen stays as it is."""
    module = Module()
    module.sub = Module()
    module.sub.p = predictor = Predictor("a -> b")
    module.sub.freeze()
    module.map_named_predictors(lambda p: None)
    assert module.sub.p is predictor


@pytest.mark.parametrize("path", ["__class__", "__dict__"])
def test_pythons_own_names_are_no_places(path):
    """They are refused as any place that is none."""
    with pytest.raises(UsageError, match="belong to Python"):
        Module().set_attribute_by_name(path, 1)
