"""Snapshots and moments of many modules."""

from datetime import UTC, datetime, timedelta

import pytest

from dspex.errors import ConflictError, NotFoundError, UsageError
from dspex.versions import StateManager


@pytest.fixture
def states():
    with StateManager("memory://") as manager:
        for name in ("a", "b"):
            manager.save_state(name, {name: 0})
        yield manager


def test_a_snapshot_is_restored_as_new_versions(states):
    """All modules are what they were, nothing of what came between is lost."""
    made = states.create_snapshot("s", ["a", "b"])
    assert made.members == {"a": "1", "b": "1"}
    states.save_state("a", {"a": 1})
    states.save_state("b", {"b": 1})
    restored = states.restore_snapshot("s")
    assert [(str(version), version.parents) for version in restored] == [("a@3", ("2",)), ("b@3", ("2",))]
    assert (states.load_state("a"), states.load_state("b")) == ({"a": 0}, {"b": 0})
    assert states.load_state("a", "2") == {"a": 1}
    assert [snapshot.name for snapshot in states.snapshots()] == ["s"]
    states.delete_snapshot("s")
    with pytest.raises(NotFoundError, match="there is no snapshot 's'; there is none"):
        states.restore_snapshot("s")


def test_a_snapshot_is_of_all_or_none(states):
    """A module that was never saved, no modules, a name that is taken: no snapshot is made."""
    with pytest.raises(NotFoundError, match="'c' has no newest version"):
        states.create_snapshot("s", ["a", "c"])
    with pytest.raises(UsageError, match="a snapshot of no modules"):
        states.create_snapshot("s", [])
    assert states.snapshots() == []
    states.create_snapshot("s", ["a"])
    with pytest.raises(ConflictError, match="there is a snapshot 's'"):
        states.create_snapshot("s", ["b"])


def test_everything_goes_back_to_a_moment(states):
    """Each module is as it was; one that did not exist has no newest version, but keeps its versions."""
    moment = datetime.now(UTC)
    states.save_state("a", {"a": 1})
    late = states.save_state("late", {"late": 1})
    restored = states.restore(at=moment)
    assert [str(version) for version in restored] == ["a@3"]
    assert states.load_state("a") == {"a": 0}
    assert states.head("b").id == "1"
    assert states.head("late") is None
    assert states.load_state("late", late) == {"late": 1}
    assert states.restore(at=datetime.now(UTC)) == []
    assert states.verify().ok


def test_a_moment_before_everything_empties_the_heads(states):
    """Going back to before all leaves no newest version, and all versions."""
    states.restore(at=datetime.now(UTC) - timedelta(days=1))
    assert states.head("a") is None
    assert states.load_state("a", "1") == {"a": 0}


def test_an_id_or_a_tag_is_restored(states):
    """Every module that matches goes back to its version of that name, or none does; of a Version, its module alone."""
    first = states.version("a")
    for name in ("a", "b"):
        states.tag(name, "good")
        states.save_state(name, {name: 1})
    assert list(map(str, states.restore(at="good"))) == ["a@3", "b@3"]
    assert (states.load_state("a"), states.load_state("b")) == ({"a": 0}, {"b": 0})
    states.tag("a", "only", "2")
    with pytest.raises(NotFoundError, match="'b' has no version, tag or moment 'only'"):
        states.restore(at="only")
    assert states.head("a").id == "3"
    assert list(map(str, states.restore(at="only", pattern="a"))) == ["a@4"]
    [again] = states.restore(at=first)
    assert (again.module_id, again.metadata) == ("a", {"restored_from": "1", "restored_by": "version 1"})
