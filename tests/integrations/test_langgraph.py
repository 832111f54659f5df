"""LangGraph's checkpoints in our stores: its own conformance suite, and what its own savers let through."""

import asyncio
import contextlib
import hashlib
import itertools
import operator
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Annotated, TypedDict

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base import id as uuids
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from dspex.errors import ConflictError, IntegrityError, StateError, StateFormatError, StoreError, UsageError
from dspex.integrations import langgraph
from dspex.integrations.langgraph import DspexSaver
from dspex.stores import Write, open_store
from dspex.versions import StateManager
from versions.conftest import url_of

STORES = ("memory", "sqlite", "file", "postgresql", "redis", "etcd")
THREAD = {"configurable": {"thread_id": "t"}}
LATEST = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
KEY = b"k" * 32
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
    """The second is refused, naming both, whatever it is a source of, and the first one's work is the latest."""
    first = put(saver)
    second = put(saver, first)
    for source in ("loop", "input", "update"):
        with pytest.raises(ConflictError, match="another run went on from there") as caught:
            put(saver, first, source=source)
        assert caught.value.ours == first["configurable"]["checkpoint_id"]
        assert caught.value.theirs == second["configurable"]["checkpoint_id"]
    assert saver.get_tuple(LATEST).config == second
    assert len([*saver.list(LATEST)]) == 2
    assert put(DspexSaver(saver._store, forks=True), first)


@pytest.mark.parametrize("kind", STORES)
def test_of_many_puts_from_one_parent_one_goes_through(kind, request, tmp_path, name):
    """Eight at once, in every store: the one that was acknowledged is the only child, and the latest."""
    with DspexSaver(url_of(kind, request, tmp_path, name)) as saver:
        first, start = put(saver), threading.Barrier(8)

        def run(_):
            start.wait()
            try:
                return put(saver, first)
            except ConflictError:
                return None

        with ThreadPoolExecutor(8) as pool:
            won = [config for config in pool.map(run, range(8)) if config]
        assert [found.config for found in saver.list(LATEST)] == [won[0], branched(first, won[0])]
        assert len(won) == 1


def branched(config, child):
    """How a checkpoint's config is given when it is read by its id: with the child that it has."""
    return {"configurable": {**config["configurable"], "__dspex_seen": child["configurable"]["checkpoint_id"]}}


def test_who_goes_back_on_purpose_branches_off(saver):
    """A checkpoint that is read by its id may get another child than it had, but none that it got since."""
    first = put(saver)
    put(saver, first)
    one = saver.get_tuple(first).config
    second = put(saver, one)
    assert saver.get_tuple(LATEST).config == second
    with pytest.raises(ConflictError):
        put(saver, one)
    assert put(saver, saver.get_tuple(first).config)
    assert put(saver, first, source="fork")


def test_a_stale_run_is_refused_after_pruning_too(saver):
    """The marks of children outlive their checkpoints: what began before a prune hides nothing that came since."""
    first = put(saver)
    latest = put(saver, put(saver, first))
    saver.prune(["t"])
    assert [found.config for found in saver.list(LATEST)] == [latest]
    with pytest.raises(ConflictError):
        put(saver, first)
    saver.delete_thread("t")
    assert saver._store.scan("langgraph/") == []


def test_a_child_that_was_deleted_is_none(saver):
    """After the runs that made it are gone, a parent may have another child."""
    first = put(saver)
    gone = saver.put(first, empty_checkpoint(), {"source": "loop", "step": 1, "run_id": "r"}, {})
    saver.put(gone, empty_checkpoint(), {"source": "loop", "step": 2, "run_id": "r"}, {})
    saver.delete_for_runs(["r"])
    second = put(saver, first)
    assert saver.get_tuple(LATEST).config == second
    with pytest.raises(ConflictError):
        put(saver, first)
    saver.delete_for_runs(["r"])
    with pytest.raises(ConflictError):
        put(saver, first)


def test_a_thread_whose_first_run_was_deleted_may_begin_again(saver):
    """By its runs or as a whole: what was deleted stands in nobody's way."""
    made = graph(saver, count)
    config = {"configurable": {"thread_id": "t"}, "metadata": {"run_id": "r"}}
    for delete in (lambda: saver.delete_for_runs(["r"]), lambda: saver.delete_thread("t"), lambda: None):
        assert made.invoke({"seen": ["a"]}, config) == {"seen": ["a", 1]}
        delete()
    saver.copy_thread("t", "copy")
    copy = {"configurable": {"thread_id": "copy"}}
    assert made.get_state(copy).values == {"seen": ["a", 1]}
    assert made.invoke({"seen": ["b"]}, copy) == {"seen": ["a", 1, "b", 3]}


def test_a_clock_that_was_set_back_hides_nothing(saver, monkeypatch):
    """What would be put below its parent is refused; when the clock has caught up, the thread goes on from where it was."""
    made = graph(saver, count)
    expected = made.invoke({"seen": ["a"]}, THREAD)
    with monkeypatch.context() as back:
        back.setattr(uuids, "time", SimpleNamespace(time_ns=lambda: time.time_ns() - 3600 * 10**9))
        back.setattr(uuids, "_last_v6_timestamp", None)
        with pytest.raises(StateError, match="a clock was set back"):
            made.invoke({"seen": ["b"]}, THREAD)
    assert made.get_state(THREAD).values == expected
    assert made.invoke({"seen": ["b"]}, THREAD) == {"seen": ["a", 1, "b", 3]}


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
    kept = [found.checkpoint["id"] for found in saver.list({"configurable": {"thread_id": "t"}})]
    assert kept == [config["configurable"]["checkpoint_id"] for config in configs[:0:-1]]
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


def test_many_checkpoints_are_listed_newest_first(saver):
    """However many there are; before one, so many, with metadata; of a thread's namespaces together too."""
    configs = [put(saver)]
    for step in range(1, 50):
        configs.append(saver.put(configs[-1], empty_checkpoint(), {"source": "loop", "step": step % 10}, {}))
    ids = [config["configurable"]["checkpoint_id"] for config in reversed(configs)]

    def listed(config=LATEST, **wanted):
        return [found.checkpoint["id"] for found in saver.list(config, **wanted)]

    assert listed() == listed({"configurable": {"thread_id": "t"}}) == listed(None) == ids
    assert listed(before=configs[-11]) == ids[11:]
    assert listed(limit=30) == ids[:30]
    assert listed(limit=0) == []
    assert listed(filter={"step": 3}, limit=2) == [ids[6], ids[16]]
    assert listed(configs[7]) == [ids[-8]]


class Cipher:
    """What LangGraph's encryption is given by who has a cipher of his own."""

    def encrypt(self, plaintext):
        return "aes", b"n" * 12 + AESGCM(KEY).encrypt(b"n" * 12, plaintext, None)

    def decrypt(self, ciphername, ciphertext):
        return AESGCM(KEY).decrypt(ciphertext[:12], ciphertext[12:], None)


def test_nothing_is_pickled(saver):
    """Neither with LangGraph's own fallback, nor sealed by its encryption, nor when a pickle stands in the store."""
    loose = JsonPlusSerializer(pickle_fallback=True)
    config = put(saver)
    for serde in (loose, EncryptedSerializer(Cipher(), loose)):
        other = DspexSaver(saver._store, serde=serde)
        with pytest.raises(StateFormatError, match="it is pickled"):
            other.put_writes(config, [("channel", threading.Thread)], "task")
    key = saver._store.scan("langgraph/")[0][0]
    pickled = langgraph._Checkpoint(None, "pickle", pickle.dumps(empty_checkpoint()), b"{}")
    saver._store.write(Write(put={key: langgraph._sealed(key, pickled)}))
    with pytest.raises(StateFormatError, match="it is pickled"):
        DspexSaver(saver._store, serde=loose).get_tuple(config)


def test_checkpoints_are_encrypted_with_a_key(tmp_path):
    """Nothing of them is to be seen in the file; without the key, or with another, nothing is read or written."""
    url = f"sqlite:///{tmp_path}/s.db"
    with DspexSaver(url, key=KEY) as saver:
        config = put(saver)
        saver.put_writes(config, [("channel", "nobody may read this")], "task")
        assert saver.get_tuple(config).pending_writes == [("task", "channel", "nobody may read this")]
        with pytest.raises(ConflictError):
            put(saver, config), put(saver, config)
    assert b"nobody may read" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    with pytest.raises(StoreError, match="is encrypted; give its key"):
        DspexSaver(url)
    with pytest.raises(StoreError, match="the key does not open"):
        DspexSaver(url, key=b"x" * 32)
    with StateManager(url, key=KEY) as states:
        states.rotate_key(KEY, b"n" * 32)
    with DspexSaver(url, key=b"n" * 32) as saver:
        assert saver.get_tuple(config) is not None


class State(TypedDict):
    seen: Annotated[list, operator.add]


def graph(saver, *nodes):
    """A compiled graph that runs some functions one after the other."""
    builder = StateGraph(State)
    builder.add_sequence([(str(place), node) for place, node in enumerate(nodes)])
    builder.add_edge(START, "0")
    return builder.compile(checkpointer=saver)


def count(state):
    return {"seen": [len(state["seen"])]}


def ask(state):
    return {"seen": [interrupt("?")]}


def new_input_from_old(saver):
    made = graph(saver, count, count)
    made.invoke({"seen": ["a"]}, THREAD)
    old = [*made.get_state_history(THREAD)][1].config
    return [made.invoke({"seen": ["b"]}, old), made.invoke({"seen": ["c"]}, THREAD)]


def replay_of_each(saver):
    made = graph(saver, count, count)
    made.invoke({"seen": ["a"]}, THREAD)
    return [made.invoke(None, found.config) for found in [*made.get_state_history(THREAD)] * 2]


def update_of_old(saver):
    made = graph(saver, count, count)
    made.invoke({"seen": ["a"]}, THREAD)
    old = [*made.get_state_history(THREAD)][1].config
    return [made.invoke(None, made.update_state(old, {"seen": [i]})) for i in range(2)]


def copy_of_old(saver):
    made = graph(saver, count, count)
    made.invoke({"seen": ["a"]}, THREAD)
    old = [*made.get_state_history(THREAD)][1].config
    return [made.invoke(None, made.update_state(old, None, "__copy__")) for _ in range(2)]


def answers_to_one_question(saver):
    made = graph(saver, ask, count)
    made.invoke({"seen": ["a"]}, THREAD)
    asked = made.get_state(THREAD).config
    return [made.invoke(Command(resume=i), config) for i, config in enumerate((THREAD, asked, asked))]


def subgraphs(saver):
    made = graph(saver, graph(None, ask, count), count)
    made.invoke({"seen": ["a"]}, THREAD)
    answered = [made.invoke(Command(resume=i), THREAD) for i in range(2)]
    history = [*made.get_state_history(THREAD)]
    return [*answered, *(made.invoke(None, found.config).get("seen") for found in history)]


def failures(saver):
    times = itertools.count()

    def fail(state):
        if next(times) < 2:
            raise ValueError("not yet")
        return {"seen": ["done"]}

    made = graph(saver, count, fail)
    for given in ({"seen": ["a"]}, None):
        with pytest.raises(ValueError, match="not yet"):
            made.invoke(given, THREAD)
    return made.invoke(None, THREAD)


def durabilities(saver):
    made = graph(saver, count, count)
    return [made.invoke({"seen": [way]}, THREAD, durability=way) for way in ("sync", "async", "exit", "exit", "sync")]


FLOWS = [
    new_input_from_old, replay_of_each, update_of_old, copy_of_old,
    answers_to_one_question, subgraphs, failures, durabilities,
]  # fmt: skip


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_a_graph_does_what_it_does_with_langgraphs_own_saver(flow, saver):
    """Going back, branching off, resuming, failing and repeating: the same values, and no conflict where there is none."""
    assert flow(saver) == flow(InMemorySaver())


@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_of_two_graphs_on_one_thread_one_is_refused(saver, durability, new):
    """Both began from the same checkpoint, or from none: one ends with a conflict, and the thread has the other's work."""
    if not new:
        graph(saver, count).invoke({"seen": ["a"]}, THREAD)
    start = threading.Barrier(2)

    class Meeting(DspexSaver):
        """Both have read the latest before either puts."""

        def get_tuple(self, config):
            found = super().get_tuple(config)
            start.wait(10)
            return found

    def run(name):
        try:
            return graph(Meeting(saver._store), count).invoke({"seen": [name]}, THREAD, durability=durability)
        except ConflictError:
            return None

    with ThreadPoolExecutor(2) as pool:
        ended = [*pool.map(run, "bc")]
    assert ended.count(None) == 1
    assert graph(saver, count).get_state(THREAD).values in ended


def test_a_graph_goes_on_where_it_stopped(tmp_path):
    """A compiled graph of LangGraph keeps its thread in the store, and goes on from there in another process's place."""
    for expected in (["a", 1], ["a", 1, "b", 3]):
        with DspexSaver(f"sqlite:///{tmp_path}/states.db") as saver:
            made = graph(saver, count)
            assert made.invoke({"seen": [expected[-2]]}, THREAD)["seen"] == expected
            assert made.get_state(THREAD).values == {"seen": expected}


def as_before(store, spared=0):
    """Put a saver's records where an earlier dspex had them, by kind, but for the last few."""
    found = store.scan("langgraph/")
    for key, entry in found[: len(found) - spared]:
        thread, namespace, last = key.split("/", 3)[1:]
        id, _, (kind, *task) = last.partition("!")
        before, body = "/".join(("langgraph", kind, thread, namespace, id)) + "".join(task), entry.value[32:]
        value = hashlib.sha256(before.encode() + b"\0" + body).digest() + body
        store.write(Write(put={before: value} if id else {}, delete=[key], note=b"[]"))


@pytest.mark.parametrize("kind", STORES)
def test_checkpoints_of_before_are_moved(kind, request, tmp_path, name):
    """Checkpoints, writes and marks are there as they were, whatever threads are called, also where some had been moved."""
    with contextlib.closing(open_store(url_of(kind, request, tmp_path, name))) as store:
        saver = DspexSaver(store)
        for thread in ("c", "n", "t"):
            first = put(saver, thread=thread)
            saver.put_writes(put(saver, first), [("channel", "w"), ("other", 1)], "task")
        there = list(saver.list(None))
        assert len(there) == 6
        as_before(store, spared=1)
        saver = DspexSaver(store)
        assert list(saver.list(None)) == there
        with pytest.raises(ConflictError):
            put(saver, first)
        put(saver, saver.get_tuple(LATEST).config)
        assert [key for key, _ in store.scan("langgraph/") if "!" not in key] == []


def test_what_held_not_before_is_not_moved():
    """The mark of a child that was deleted goes, so its parent may get another; what was damaged is moved, and still is."""
    with contextlib.closing(open_store("memory://")) as store:
        saver = DspexSaver(store)
        first = put(saver)
        second = put(saver, first)
        child = f"langgraph/t//{second['configurable']['checkpoint_id']}!c"
        store.write(Write(delete=[child], note=b"[]"))
        damaged = put(saver, thread="damaged")
        as_before(store)
        key = f"langgraph/c/damaged//{damaged['configurable']['checkpoint_id']}"
        store.write(Write(put={key: store.read([key])[key].value[:-1] + b"?"}, note=b"[]"))
        saver = DspexSaver(store)
        put(saver, saver.get_tuple(LATEST).config)
        with pytest.raises(IntegrityError, match=r"langgraph/damaged//.*!c is damaged"):
            saver.get_tuple(damaged)
