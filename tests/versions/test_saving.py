"""Saving: what a version says, on what it stands, and who may save."""

from datetime import UTC, datetime

import pytest

from dspex.errors import ConflictError, NotFoundError, StateError, UsageError
from dspex.modules import Module, Parameter
from dspex.state import content_id
from dspex.versions import NEW, StateManager


@pytest.fixture
def states():
    with StateManager("memory://") as manager:
        yield manager


def test_a_version_tells_what_was_saved(states):
    """Ids, parents, content, time, metadata, tags and branch are as the save had them."""
    before = datetime.now(UTC)
    first = states.save_state("answerer", {"x": 1}, metadata={"score": 0.5}, tags=["good", "best"])
    second = states.save_state("answerer", {"x": 2})
    assert (first.id, first.module_id, first.parents, first.branch) == ("1", "answerer", (), "main")
    assert (first.metadata, first.tags, first.schema) == ({"score": 0.5}, ("best", "good"), "1")
    assert first.content == content_id({"x": 1})
    assert before <= first.time < second.time
    assert second.parents == ("1",)
    assert str(second) == "answerer@2"
    assert states.version("answerer", "1") == first
    assert states.head("answerer") == second


def test_equal_states_are_one_content(states):
    """Whoever saves an equal state has the same content, and no chunk is stored again."""
    state = {f"p{i}": "text" * 100 for i in range(100)}
    one = states.save_state("a", state)
    chunks = states.store.scan_chunks()
    other = states.save_state("b", dict(reversed(state.items())))
    assert one.content == other.content == content_id(state)
    assert states.store.scan_chunks() == chunks


def test_a_small_change_stores_little(states):
    """Of a thousand parameters, changing one stores about one: at most four times its size and 4 kB, records too."""
    state = {f"predict{i}.instructions": {"value": f"Answer question {i} in a few words, please."} for i in range(1000)}
    states.save_state("big", state)
    chunks = set(states.store.scan_chunks())
    records = {key: entry.value for key, entry in states.store.scan("")}
    state["predict500.instructions"] = {"value": "Another instruction, which an optimizer found out."}
    version = states.save_state("big", state)
    new = [
        data for digest, data in states.store.read_chunks(states.store.scan_chunks()).items() if digest not in chunks
    ]
    changed = [entry.value for key, entry in states.store.scan("") if records.get(key) != entry.value]
    parameter = len('predict500.instructions": {"value": "Another instruction, which an optimizer found out."}')
    assert sum(map(len, new + changed)) <= 4 * parameter + 4096
    assert version.size > 60_000
    assert states.load_state("big") == state


@pytest.mark.parametrize("size", [0, 1, 300, 12_000, 13_000, 300_000])
def test_states_of_every_size_come_back(states, size):
    """A state of one chunk, of many, with chunks of hashes above them, with long texts and bytes, is what it was."""
    state = {
        "list": list(range(size // 10)),
        "text": "ü" * size,
        "bytes": b"\0\xff" * size,
        "deep": {"k": [{"v": size}]},
    }
    state |= {f"k{i}": {"n": i, "t": (i, {i})} for i in range(size // 100)}
    states.save_state("m", state)
    assert states.load_state("m") == state


def test_a_parent_that_moved_is_a_conflict(states):
    """A save that names its parent is compare-and-set; the error has both versions, and nothing was saved."""
    first = states.save_state("m", {"x": 1})
    second = states.save_state("m", {"x": 2}, parent=first)
    with pytest.raises(ConflictError, match="'m' has moved on to '2' since '1'") as caught:
        states.save_state("m", {"x": 3}, parent=first)
    assert (caught.value.ours, caught.value.theirs) == (first, second)
    assert [version.id for version in states.list_versions("m").versions] == ["2", "1"]


def test_new_means_new(states):
    """With parent=NEW a module must not exist."""
    states.save_state("m", {}, parent=NEW)
    with pytest.raises(ConflictError, match="'m' is not new"):
        states.save_state("m", {}, parent=NEW)


def test_two_managers_on_one_store_see_each_other():
    """What one remembers of its own last save never hides what another saved since."""
    one = StateManager("memory://")
    other = StateManager(one.store)
    for i in range(6):
        version = (one, other)[i % 2].save_state("m", {"i": i})
        assert version.id == str(i + 1)
    assert one.load_state("m") == other.load_state("m") == {"i": 5}
    head = one.head("m")
    other.save_state("m", {"i": 6})
    with pytest.raises(ConflictError):
        one.save_state("m", {"i": 7}, parent=head)


def test_schema_comes_from_the_state_or_the_parent(states):
    """What is not said is what dump_state says, else what the parent had, else 1."""
    assert states.save_state("m", {}).schema == "1"
    assert states.save_state("m", {}, schema="2.1").schema == "2.1"
    assert states.save_state("m", {}).schema == "2.1"
    assert states.save_state("m", {"metadata": {"dspex": {"schema": 7}}}).schema == "7"


def test_a_module_is_saved_and_loaded_into():
    """Anything with a state can be saved, and loaded into, all or not at all."""

    class Program(Module):
        def __init__(self):
            super().__init__()
            self.threshold = Parameter(0.5)

    with StateManager("memory://") as states:
        program, other = Program(), Program()
        program.threshold.value = 0.9
        version = states.save_state("program", program)
        assert states.load_into("program", other) == version
        assert other.threshold.value == 0.9
        target = {"old": 1}
        states.save_state("plain", {"new": 2})
        states.load_into("plain", target)
        assert target == {"new": 2}


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"state": {"a": {"b": object()}}}, StateError, r"state\['a'\]\['b'\]: a builtins.object is no plain data"),
        ({"parent": "1"}, UsageError, "parent must be a Version or NEW, not '1'"),
        ({"bump": "huge"}, UsageError, "bump must be one of 'major', 'minor', 'patch'"),
        ({"branch": "nowhere"}, NotFoundError, "'m' has no branch 'nowhere'; make it with branch()"),
        ({"tags": "text"}, UsageError, "tags must be a list of texts"),
        ({"tags": ["12"]}, UsageError, "the tag '12' looks like an id"),
        ({"tags": ["latest"]}, UsageError, "the tag 'latest' looks like an id"),
        ({"metadata": {"a": (1, 2)}}, StateError, "metadata must be JSON"),
        ({"metadata": {"a": float("nan")}}, StateError, "metadata must be JSON"),
        ({"metadata": {"a": "x" * 70_000}}, StateError, "at most 65536 are allowed"),
        ({"schema": ""}, UsageError, "a schema must be a text that is not empty"),
        ({"module_id": ""}, UsageError, "a module id must be a text that is not empty"),
        ({"module_id": "\ud800"}, UsageError, "half a surrogate pair"),
    ],
)
def test_wrong_arguments_are_named(states, keywords, error, message):
    """What cannot be saved is named with the way out, and nothing is saved."""
    with pytest.raises(error, match=message):
        states.save_state(**{"module_id": "m", "state": {}, **keywords})
    assert states.modules() == []


@pytest.mark.parametrize("module_id", ["a/b.c", "..", "%2F", "日本 語", "a" * 400, "line\nbreak", "*", "m/x", "🙂"])
def test_module_ids_are_any_text(states, module_id):
    """Slashes, dots, percents and any Unicode are part of a name and nothing else."""
    states.save_state(module_id, {"name": module_id})
    states.save_state("other", {})
    assert states.load_state(module_id) == {"name": module_id}
    assert states.modules() == sorted([module_id, "other"])
    assert states.list_versions(module_id).versions[0].module_id == module_id


@pytest.mark.parametrize(
    ("versioning", "ids"),
    [
        ("incremental", ["1", "2", "3"]),
        ("semantic", ["1.0.0", "1.0.1", "1.1.0"]),
    ],
)
def test_ids_by_strategy(versioning, ids):
    """Versions are called as the strategy has it."""
    with StateManager("memory://", versioning=versioning) as states:
        found = [states.save_state("m", {"i": i}, bump=bump).id for i, bump in enumerate([None, "patch", "minor"])]
        assert found == ids
        assert states.load_state("m", ids[1]) == {"i": 1}


def test_ids_by_time_and_content():
    """An id is the version's time, or the hash of all that it says: then the same save has the same id everywhere."""
    with StateManager("memory://", versioning="timestamp") as states:
        version = states.save_state("m", {})
        assert version.id == version.time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    made = []
    for _ in range(2):
        with StateManager("memory://", versioning="content") as states:
            made.append([states.save_state("m", {"i": i}).id for i in range(3)])
            assert states.load_state("m", made[-1][0]) == {"i": 0}
    assert made[0] == made[1]
    assert len(set(made[0])) == 3


def test_semantic_ids_on_two_branches_differ():
    """Two branches that raise the same part get two ids."""
    with StateManager("memory://", versioning="semantic") as states:
        states.save_state("m", {"i": 0})
        states.branch("m", "b")
        ids = [states.save_state("m", {"i": 1}, branch=branch).id for branch in ("main", "b")]
        assert ids == ["1.0.1", "1.0.2"]


def test_unknown_choices_are_refused():
    """A strategy, resolver or store that is not known is named with those that are."""
    with pytest.raises(UsageError, match="versioning must be one of 'incremental'"):
        StateManager("memory://", versioning="daily")
    with pytest.raises(UsageError, match="resolver must be 'reject', 'last_write_wins', 'merge' or a function"):
        StateManager("memory://", resolver="hope")
    with pytest.raises(UsageError, match=r"no store is known for tape://; there is .*sqlite://"):
        StateManager("tape://x")
    with pytest.raises(UsageError, match="is no URL of a store"):
        StateManager("states.db")
