"""Bad input: a clear error that names the thing and what is allowed, and nothing changed; odd names are names."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex.errors import NotFoundError, StateError, StoreError, UsageError
from dspex.stores import open_store
from dspex.versions import StateManager, _records
from dspex.versions._records import FORMAT_KEY, FormatRecord

ODD = (
    "a/b/../c",
    ".",
    "..",
    "/",
    "%2F",
    "m/x",
    "x y\n\tz",
    "ключ",
    "名前",
    "\x00",
    "\x7f",
    "🙂" * 100,
    "x" * 400,
    "latest",
    "*",
)


@pytest.fixture
def states(url):
    with StateManager(url) as manager:
        yield manager


@pytest.mark.parametrize("name", ODD)
def test_any_text_is_a_name(states, name):
    """Slashes, dots, line breaks and every script name modules, branches and snapshots, apart from all others."""
    states.save_state(name, {"of": name})
    states.save_state(f"{name[:399]}~"[:400] if name.isascii() else "~", {"of": "another"})
    states.branch(name, name if name != "main" else "x")
    states.create_snapshot(name, [name])
    assert states.load_state(name) == {"of": name}
    assert name in states.modules()
    assert states.head(name, name).id == "1"
    assert states.snapshots()[0].members == {name: "1"}
    assert states.verify().ok


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=st.text(min_size=1, max_size=60), other=st.text(min_size=1, max_size=60))
def test_names_never_meet(one, other):
    """Two different texts are two modules, whatever is in them; a tag is found by its own text only."""
    with StateManager("memory://") as states:
        for name in {one, other}:
            states.save_state(name, {"of": name})
        assert states.modules() == sorted({one, other})
        assert [states.load_state(name) for name in (one, other)] == [{"of": one}, {"of": other}]


@pytest.mark.parametrize("tag", ["²", "٣", "½", "v1", "1a", "a/b", "sha256:x", "🙂"])
def test_a_tag_may_look_nearly_like_an_id(states, tag):
    """Digits of other scripts are no ids: tags of them are found, and unknown ones are told to be unknown."""
    states.save_state("m", {"i": 1})
    with pytest.raises(NotFoundError, match="has no version, tag or moment"):
        states.load_state("m", tag)
    states.tag("m", tag)
    assert states.load_state("m", tag) == {"i": 1}


@pytest.mark.parametrize(
    "tag", ["1", "007", "1.2.3", "latest", "5@3f2a9c1d", "2026-11-23T17:21:42.123456Z", f"sha256:{'0' * 64}@1a"]
)
def test_a_tag_that_looks_like_an_id_is_refused(states, tag):
    """So is one that looks like the id of a version that a sync had to call otherwise."""
    states.save_state("m", {"i": 1})
    with pytest.raises(UsageError, match="looks like an id of a version; name it otherwise"):
        states.tag("m", tag)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "a text that is not empty"),
        (None, "a text that is not empty, not None"),
        (5, "a text that is not empty, not 5"),
        (b"m", "a text that is not empty"),
        ("x" * 10_240, "takes 10240 bytes of UTF-8; at most 400 are allowed"),
        ("ü" * 201, "takes 402 bytes"),
        ("\ud800", "half a surrogate pair"),
    ],
)
def test_what_is_no_name_is_refused(states, name, said):
    """An empty one, no text, 10 kB, half a surrogate pair: each way of naming says so, and nothing is changed."""
    states.save_state("m", {})
    before = states.store.revision()
    for call in (
        lambda: states.save_state(name, {}),
        lambda: states.load_state(name),
        lambda: states.head(name),
        lambda: states.tag("m", name),
        lambda: states.branch("m", name),
        lambda: states.create_snapshot(name, ["m"]),
        lambda: states.create_snapshot("s", [name]),
        lambda: states.save_state("m", {}, tags=[name]),
    ):
        with pytest.raises(UsageError, match=said):
            call()
    assert states.store.revision() == before


def cyclic():
    state = {}
    state["self"] = [state]
    return state


def deep():
    state = {}
    for _ in range(100_000):
        state = {"in": state}
    return state


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: {"a": {"b": object()}}, r"'a'\]\['b'\]"),
        (lambda: {"a": [1, lambda: 0]}, r"'a'\]\[1\]"),
        (lambda: {"a": "\ud800"}, "a"),
        (cyclic, "self"),
        (deep, "in"),
    ],
)
def test_what_is_no_state_is_refused(states, make, said):
    """The error names the path; cycles and bottomless nesting end in one too; nothing is saved."""
    with pytest.raises(StateError, match=said):
        states.save_state("m", make())
    assert states.head("m") is None


def test_a_large_state_is_kept(url):
    """A state of 100 MB is saved and loaded; saved again it costs nothing but its record."""
    if url == "memory://":
        state = {"text": "0123456789abcdef" * (100 * 2**20 // 16), "i": 1}
    else:
        state = {"text": "0123456789abcdef" * (10 * 2**20 // 16), "bytes": bytes(range(256)) * 4096}
    with StateManager(url) as states:
        assert states.save_state("m", state).size > 10 * 2**20
        count = len(states.store.scan_chunks(limit=10_000))
        states.save_state("m", state)
        assert len(states.store.scan_chunks(limit=10_000)) == count
        assert states.load_state("m") == state


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": float("nan")},
        {"a": (1,)},
        {1: 2},
        {"a": object()},
        {"a": "\ud800"},
        {"a": "x" * 70_000},
        cyclic(),
        {"a": b"x"},
    ],
)
def test_metadata_that_json_would_change_are_refused(states, metadata):
    """So are too many; nothing is saved."""
    with pytest.raises(StateError, match="metadata"):
        states.save_state("m", {}, metadata=metadata)
    assert states.head("m") is None


def test_unknown_things_are_named(states):
    """Modules, versions, tags, moments, branches, snapshots, schemas that are not there: the error names each and what there is."""
    with pytest.raises(NotFoundError, match="no module 'm' was ever saved in"):
        states.load_state("m")
    states.save_state("m", {"i": 1})
    long_ago = datetime(1999, 1, 1, tzinfo=UTC)
    for at in ("2", "0", "-1", "9" * 30, "1.0.0", "nothing", "sha256:0", long_ago):
        with pytest.raises(NotFoundError, match=r"'m' has no version, tag or moment .*; its newest is '1'"):
            states.load_state("m", at)
    for call, said in (
        (lambda: states.save_state("m", {}, branch="b"), "has no branch 'b'; make it with"),
        (lambda: states.merge("m", "b"), "has no branch 'b'"),
        (lambda: states.untag("m", "t"), "has no tag 't'"),
        (lambda: states.restore_snapshot("s"), "no snapshot 's'; there is none"),
        (lambda: states.delete_snapshot("s"), "no snapshot 's'"),
        (lambda: states.create_snapshot("s", ["m", "n"]), "'n' has no newest version"),
        (lambda: states.delete("n"), "no module 'n'"),
        (lambda: states.history("n"), "no module 'n'"),
    ):
        with pytest.raises(NotFoundError, match=said):
            call()
    assert states.head("n") is None


@pytest.mark.parametrize("at", [None, 1, 1.0, b"1", ["1"], datetime(2026, 1, 1)])
def test_what_names_no_version_is_refused(states, at):
    """Numbers, None and moments without a zone are wrong arguments, not unknown versions."""
    states.save_state("m", {})
    with pytest.raises(UsageError):
        states.load_state("m", at)


def test_a_text_is_no_list_of_texts(states):
    """A module id or a tag in place of a list of them is refused, not taken apart into letters."""
    states.save_state("m", {})
    with pytest.raises(UsageError, match="module_ids must be a list"):
        states.create_snapshot("s", "m")
    with pytest.raises(UsageError, match="tags must be a list"):
        states.save_state("m", {}, tags="t")


def test_a_store_of_a_newer_dspex_is_refused(url):
    """It is named with its format and the one that can be read, and not touched."""
    store = open_store(url)
    StateManager(store).save_state("m", {})
    entry = store.read([FORMAT_KEY])[FORMAT_KEY]
    from dspex.stores import Write

    newer = _records.sealed(FORMAT_KEY, FormatRecord(99))
    revision = store.write(Write(expect={FORMAT_KEY: entry.revision}, put={FORMAT_KEY: newer}))
    with pytest.raises(StoreError, match="has format 99, of a newer dspex; this one reads up to 1: upgrade"):
        StateManager(store)
    assert store.revision() == revision
    store.close()
