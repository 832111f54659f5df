"""LangGraph's checkpoints in our stores: its own conformance suite, and what its own savers let through."""

import asyncio
import itertools
import operator
from typing import Annotated, TypedDict

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate

from dspex.errors import ConflictError, IntegrityError, UsageError
from dspex.integrations.langgraph import DspexSaver
from dspex.stores import Write
from dspex.versions import StateManager
from versions.conftest import url_of

STORES = ("memory", "sqlite", "file", "postgresql", "redis", "etcd")
_numbers = itertools.count()


@pytest.mark.parametrize("kind", STORES)
def test_it_passes_langgraphs_conformance(kind, request, tmp_path, name):
    """Base and extended, all of it, in every store."""

    @checkpointer_test(name=f"dspex-{kind}")
    async def saver():
        place = tmp_path / str(next(_numbers))
        place.mkdir()
        with DspexSaver(url_of(kind, request, place, f"{name}n{next(_numbers)}")) as made:
            yield made

    report = asyncio.run(validate(saver))
    failed = {capability: result.failures for capability, result in report.results.items() if result.failures}
    assert failed == {}
    assert all(result.detected and result.passed for result in report.results.values())
    assert len(report.results) == 8


@pytest.fixture
def saver():
    with DspexSaver("memory://") as made:
        yield made


def put(saver, parent=None, source="loop", thread="t"):
    """One checkpoint of a thread."""
    config = parent or {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    checkpoint = empty_checkpoint()
    return saver.put(config, checkpoint, {"source": source, "step": 0}, {})


def test_two_runs_from_one_parent_are_a_conflict(saver):
    """The second is refused, naming both, and the first one's work is the latest; a fork on purpose is none."""
    first = put(saver)
    second = put(saver, first)
    with pytest.raises(ConflictError, match="another run went on from it") as caught:
        put(saver, first)
    assert caught.value.theirs == second["configurable"]["checkpoint_id"]
    assert saver.get_tuple({"configurable": {"thread_id": "t"}}).config == second
    assert put(saver, first, source="fork")
    assert put(saver, first, source="update")
    loose = DspexSaver(saver._store, forks=True)
    assert put(loose, first)


def test_a_child_that_was_deleted_is_none(saver):
    """After the runs that made it are gone, a parent may have another child."""
    first = put(saver)
    saver.put(first, empty_checkpoint(), {"source": "loop", "step": 1, "run_id": "r"}, {})
    saver.delete_for_runs(["r"])
    second = put(saver, first)
    assert saver.get_tuple({"configurable": {"thread_id": "t"}}).config == second
    with pytest.raises(ConflictError):
        put(saver, first)


def test_a_put_that_is_sent_again_is_the_same(saver):
    """A retry of one put is no conflict."""
    first = put(saver)
    checkpoint = empty_checkpoint()
    for _ in range(2):
        saver.put(first, checkpoint, {"source": "loop", "step": 1}, {})
    assert len(list(saver.list({"configurable": {"thread_id": "t"}}))) == 2


def test_every_flipped_byte_is_refused(saver):
    """Whichever byte of a checkpoint or a write is changed, it is not loaded."""
    config = put(saver)
    saver.put_writes(config, [("channel", {"value": 1})], "task")
    for key, entry in saver._store.scan("langgraph/"):
        for place in range(len(entry.value)):
            bad = bytearray(entry.value)
            bad[place] ^= 1
            saver._store.write(Write(put={key: bytes(bad)}))
            with pytest.raises(IntegrityError, match="is damaged"):
                saver.get_tuple(config)
        saver._store.write(Write(put={key: entry.value}))
    assert saver.get_tuple(config).pending_writes == [("task", "channel", {"value": 1})]


def test_pruning_keeps_what_the_latest_is_made_of(saver):
    """Ancestors are kept as far back as a channel has only what changed; the rest goes."""
    configs = [put(saver)]
    for deltas in ({}, {"messages": (1, 1)}, {"messages": (2, 2)}):
        metadata = {"source": "loop", "step": 1, "counters_since_delta_snapshot": deltas}
        configs.append(saver.put(configs[-1], empty_checkpoint(), metadata, {}))
    saver.prune(["t"])
    kept = [found.config for found in saver.list({"configurable": {"thread_id": "t"}})]
    assert kept == configs[:0:-1]
    with pytest.raises(UsageError, match="strategy must be"):
        saver.prune(["t"], strategy="hope")


def test_names_of_any_text_are_apart(saver):
    """Threads and namespaces with slashes and percents do not meet; what is too long is refused."""
    for thread in ("a", "a/b", "a%2Fb", "ü", "a/"):
        put(saver, thread=thread)
    saver.delete_thread("a")
    threads = {found.config["configurable"]["thread_id"] for found in saver.list(None)}
    assert threads == {"a/b", "a%2Fb", "ü", "a/"}
    with pytest.raises(UsageError, match="too long together"):
        put(saver, thread="x" * 3000)


def test_it_shares_a_store_with_states():
    """Checkpoints and versions of states in one store do not disturb each other."""
    with StateManager("memory://") as states, DspexSaver(states.store) as saver:
        states.save_state("m", {"text": "x" * 20_000})
        config = put(saver)
        states.compact()
        assert states.verify().ok
        assert saver.get_tuple(config) is not None
        saver.delete_thread("t")
        assert states.load_state("m")


def test_a_graph_goes_on_where_it_stopped(tmp_path):
    """A compiled graph of LangGraph keeps its thread in the store, and goes on from there in another process's place."""
    from langgraph.graph import END, START, StateGraph

    class State(TypedDict):
        seen: Annotated[list, operator.add]

    builder = StateGraph(State)
    builder.add_node("note", lambda state: {"seen": [len(state["seen"])]})
    builder.add_edge(START, "note")
    builder.add_edge("note", END)
    config = {"configurable": {"thread_id": "1"}}
    for expected in (["a", 1], ["a", 1, "b", 3]):
        with DspexSaver(f"sqlite:///{tmp_path}/states.db") as saver:
            graph = builder.compile(checkpointer=saver)
            assert graph.invoke({"seen": [expected[-2]]}, config)["seen"] == expected
            assert graph.get_state(config).values == {"seen": expected}
