"""What holds for every program: random trees with sharing, cycles and odd names."""

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex import Example, Module, Parameter, Predictor, diff

KEYS = st.one_of(st.text(max_size=4), st.integers(-2, 2), st.booleans(), st.none(), st.tuples(st.text(max_size=2)))
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.binary(max_size=5)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@dataclasses.dataclass
class Record:
    first: Any = None
    second: Any = None


@st.composite
def programs(draw):
    """A module whose parts may be at several places, and may lead back to those that hold them."""
    root = Module()
    nodes: list[Any] = [root]
    for _ in range(draw(st.integers(0, 12))):
        node = draw(st.sampled_from(["module", "parameter", "predictor", "list", "dict", "record", "tuple", "old"]))
        made = _made(draw, node, nodes)
        _attach(draw, draw(st.sampled_from([n for n in nodes if not isinstance(n, (Parameter, tuple))])), made)
        if node != "old":
            nodes.append(made)
    return root


def _made(draw, node, nodes):
    if node == "old":
        return draw(st.sampled_from(nodes))
    if node == "parameter":
        return Parameter(draw(VALUES))
    if node == "predictor":
        made = Predictor("a -> b", n=draw(VALUES))
        made.demos = [Example(a=draw(VALUES)).with_inputs("a")]
        return made
    if node == "tuple":
        return (Parameter(draw(VALUES)), draw(st.sampled_from(nodes)))
    return {"module": Module, "list": list, "dict": dict, "record": Record}[node]()


def _attach(draw, holder, made):
    if isinstance(holder, list):
        holder.append(made)
    elif isinstance(holder, dict):
        holder[draw(KEYS)] = made
    elif isinstance(holder, Record):
        setattr(holder, draw(st.sampled_from(["first", "second"])), made)
    else:
        vars(holder)["x" + draw(st.text(max_size=3)) if draw(st.booleans()) else draw(st.sampled_from("abc"))] = made


@settings(max_examples=150, deadline=None)
@given(programs())
def test_path_lookup_inverts_enumeration(program):
    """Every path is different and leads to what it was given for; parameters and sub-modules alike."""
    found = program.named_parameters()
    assert len({path for path, _ in found}) == len(found) == len({id(parameter) for _, parameter in found})
    for path, value in [*found, *program.named_sub_modules(object)]:
        assert program.get_attribute_by_name(path) is value


@settings(max_examples=150, deadline=None)
@given(programs())
def test_setting_inverts_enumeration(program):
    """What is put at a parameter's path is what is found there."""
    for path, _ in program.named_parameters():
        new = Parameter("new")
        program.set_attribute_by_name(path, new)
        assert program.get_attribute_by_name(path) is new


MUTABLE = (Module, Parameter, list, dict, set, Record, Example)


@settings(max_examples=150, deadline=None)
@given(programs())
def test_copies_share_nothing_mutable(program):
    """Not one module, container, parameter or example is in both; and their trees and states are the same."""
    copied = program.deepcopy()
    ours, theirs = ({id(value): value for _, value in root.named_sub_modules(MUTABLE)} for root in (program, copied))
    assert not ours.keys() & theirs.keys()
    for path, predictor in program.named_predictors():
        twin = copied.get_attribute_by_name(path)
        assert twin.config is not predictor.config
        assert twin.demos[0] is not predictor.demos[0]
    assert str(copied.tree()) == str(program.tree())
    assert not diff(program, copied)


@settings(max_examples=150, deadline=None)
@given(programs())
def test_states_come_back(program):
    """A state loads into a copy that was changed everywhere, and makes it the same again."""
    state = program.dump_state()
    target = program.deepcopy()
    for predictor in target.predictors():
        predictor.demos, predictor.config, predictor.instructions = [], {}, "changed"
    assert target.load_state(state) == ()
    assert {d.path.rpartition(".")[2] for d in diff(program, target)} <= {"config"}
