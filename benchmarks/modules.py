"""Programs as trees, against DSPy: the same program built with each library, timed in turns.

DSPy is a peer, not a dependency: where it cannot be imported, these figures say so.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.table import Row, median, quantiles

_MANY = 1000  # predictors of a program
_DEPTH = 20  # levels of the nested one
_DEMOS = 8


class Library(NamedTuple):
    """What a program is built of."""

    module: Any
    predictor: Any
    example: Any


def _dspex():
    import dspex

    return Library(dspex.Module, lambda: dspex.Predictor("question -> answer"), dspex.Example)


def _dspy():
    import dspy

    return Library(dspy.Module, lambda: dspy.Predict("question -> answer"), dspy.Example)


def _have_dspy():
    return importlib.util.find_spec("dspy") is not None


def _without(name):
    return [Row(f"{name}, against DSPy", "not run: pip install dspy", "", None, "")]


def modules(_):
    """The figures of programs as trees."""
    if not _have_dspy():
        return _without("modules")
    ours, theirs = _dspex(), _dspy()
    return [row for figure in (_calls, _trees, _copies, _states) for row in figure(ours, theirs)]


def examples(_):
    """The figures of examples alone."""
    if not _have_dspy():
        return _without("examples")
    import dspy

    import dspex

    return list(_examples(dspex.Example, dspy.Example))


# --- timing ---


def _microseconds(times):
    return " / ".join(f"{1e6 * t:,.2f}" for t in quantiles(times)) + " µs"


def _each(action, count):
    """Seconds for one of `count` in a row."""
    started = time.perf_counter()
    for _ in range(count):
        action()
    return (time.perf_counter() - started) / count


def _in_turns(name, bar, ours, theirs, *, count=1, rounds=9):
    """A row: both do the same, round by round, after one round that nobody counts."""
    mine, peers = [], []
    for _round in range(rounds + 1):
        mine.append(_each(ours, count))
        peers.append(_each(theirs, count))
    return Row(name, _microseconds(mine[1:]), _microseconds(peers[1:]), median(peers[1:]) / median(mine[1:]), bar)


# --- programs ---


def _flat(library, count=_MANY, demos=0):
    program = library.module()
    for number in range(count):
        predictor = library.predictor()
        predictor.demos = [_demo(library.example, number, n) for n in range(demos)]
        setattr(program, f"step{number}", predictor)
    return program


def _demo(kind, *numbers):
    name = "-".join(map(str, numbers))
    return kind(question=f"What is {name}?", answer=f"It is {name}.").with_inputs("question")


def _nested(library, levels=_DEPTH, count=_MANY):
    outer = None
    for _level in range(levels):
        program = _flat(library, count // levels)
        if outer is not None:
            program.inner = outer
        outer = program
    return outer


def _empty(library):
    class Empty(library.module):
        def forward(self, question):
            return question

    return Empty()


# --- figures ---


def _calls(ours, theirs):
    mine, peer = _empty(ours), _empty(theirs)
    yield _in_turns("call of a module with an empty `forward`", ">= 10", lambda: mine(question=1), lambda: peer(question=1), count=2000)  # fmt: skip


def _trees(ours, theirs):
    for name, bar, build in (
        ("`named_parameters` of 1,000 predictors, flat", ">= 1", _flat),
        (f"`named_parameters` of 1,000 predictors, nested {_DEPTH} deep", ">= 3", _nested),
    ):
        mine, peer = build(ours), build(theirs)
        assert len(mine.named_parameters()) == len(peer.named_parameters()) == _MANY
        yield _in_turns(name, bar, mine.named_parameters, peer.named_parameters, count=10)
    small = _nested(ours)
    large, deep = _nested(ours, count=4 * _MANY), _nested(ours, levels=4 * _DEPTH, count=4 * _MANY)
    yield _linear("`named_parameters` of 4,000 predictors against 1,000, both 20 deep", "<= 5: linear", small, large)
    # Four times as deep, paths are four times as long as well.
    yield _linear("`named_parameters` of 4,000 predictors 80 deep against 1,000 20 deep", "reported", small, deep)


def _linear(name, bar, small, large):
    row = _in_turns(name, bar, large.named_parameters, small.named_parameters, count=10)
    return row._replace(ratio=1 / row.ratio)


def _copies(ours, theirs):
    mine, peer = _flat(ours, demos=_DEMOS), _flat(theirs, demos=_DEMOS)
    yield _in_turns("`deepcopy` of 1,000 predictors with 8 demos each", ">= 5", mine.deepcopy, peer.deepcopy, rounds=5)


def _states(ours, theirs):
    mine, peer = _flat(ours, demos=_DEMOS), _flat(theirs, demos=_DEMOS)
    yield _in_turns("`dump_state` of the same", "reported", mine.dump_state, peer.dump_state, rounds=5)
    yield _loading(mine, peer, _flat(ours), _flat(theirs))
    with tempfile.TemporaryDirectory() as directory:
        yield _files(mine, peer, Path(directory, "ours.json"), Path(directory, "theirs.json"))


def _loading(mine, peer, target, peers_target):
    state, peers_state = mine.dump_state(), peer.dump_state()
    row = _in_turns(
        "`load_state` of the same", ">= 20", lambda: target.load_state(state), lambda: peers_target.load_state(peers_state), rounds=3
    )  # fmt: skip
    assert len(target.named_parameters()[-1][1].demos) == len(peers_target.named_parameters()[-1][1].demos) == _DEMOS
    return row


def _files(mine, peer, path, peers_path):
    def ours():
        mine.save(path)
        mine.load(path)

    def theirs():
        peer.save(peers_path)
        peer.load(peers_path)

    return _in_turns("`save` and `load` of the same, JSON", ">= 5", ours, theirs, rounds=3)


def _examples(*kinds):
    mine, peer = (_demo(kind, 1) for kind in kinds)
    made = [lambda kind=kind: kind(question="q", context="c", answer="a") for kind in kinds]
    yield _in_turns("an `Example` of three fields made", ">= 2", *made, count=20_000)
    yield _in_turns("a field read", ">= 2", lambda: mine.answer, lambda: peer.answer, count=20_000)
    read = [lambda kind=kind: _read(kind(question="q", context="c", answer="a")) for kind in kinds]
    yield _in_turns("an `Example` made and its three fields read once", "reported", *read, count=20_000)
    yield _in_turns("an `Example` copied", ">= 2", mine.copy, peer.copy, count=20_000)


def _read(example):
    return example.question, example.context, example.answer
