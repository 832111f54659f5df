"""Conflicts: a save whose parent is no longer the newest, and what each resolver makes of it."""

import pytest

from dspex.errors import ConflictError
from dspex.versions import StateManager

BASE = {"a": 1, "b": {"x": 1, "y": [1, 2]}, "gone": 0}


def conflict(resolver, ours, theirs):
    """Two saves from one parent; the second's version and the manager."""
    states = StateManager("memory://", resolver=resolver)
    base = states.save_state("m", BASE)
    states.save_state("m", theirs, parent=base)
    return states, states.save_state("m", ours, parent=base)


def test_merge_takes_both_changes():
    """What only one side changed is in the merge; it has both as parents."""
    ours = {"a": 2, "b": {"x": 1, "y": [1, 2], "new": 1}, "gone": 0}
    theirs = {"a": 1, "b": {"x": 5, "y": [1, 2]}}
    states, version = conflict("merge", ours, theirs)
    assert states.load_state("m") == {"a": 2, "b": {"x": 5, "y": [1, 2], "new": 1}}
    assert version.parents == ("2", "1")


@pytest.mark.parametrize(
    ("ours", "theirs", "paths"),
    [
        ({**BASE, "a": 2}, {**BASE, "a": 3}, ("a",)),
        ({**BASE, "b": {"x": 1, "y": [1]}}, {**BASE, "b": {"x": 1, "y": [2]}}, ("b.y",)),
        ({"a": 1, "b": BASE["b"]}, {**BASE, "gone": 1}, ("gone",)),
        ({**BASE, "a": 1.0}, {**BASE, "a": True}, ("a",)),
        ([1], [2], ("(the whole state)",)),
    ],
)
def test_what_both_changed_is_named(ours, theirs, paths):
    """A true conflict is refused with its paths, and the head is as it was."""
    with pytest.raises(ConflictError) as caught:
        conflict("merge", ours, theirs)
    assert caught.value.paths == paths
    assert caught.value.theirs.id == "2"


def test_the_same_change_on_both_sides_is_none():
    """Both may come to the same value."""
    states, _ = conflict("merge", {**BASE, "a": 7}, {**BASE, "a": 7})
    assert states.load_state("m") == {**BASE, "a": 7}


def test_last_write_wins_keeps_the_other_in_the_history():
    """The later save is the newest, and nothing of the other is lost."""
    states, version = conflict("last_write_wins", {"ours": 1}, {"theirs": 1})
    assert states.load_state("m") == {"ours": 1}
    assert version.parents == ("2", "1")
    assert states.load_state("m", "2") == {"theirs": 1}


def test_a_function_decides():
    """A resolver of the user's sees both versions and all three states."""
    seen = []

    def resolver(conflict):
        seen.append(
            (conflict.base.id, conflict.theirs.id, conflict.base_state, conflict.our_state, conflict.their_state)
        )
        return {"both": [conflict.our_state, conflict.their_state]}

    states, _ = conflict(resolver, {"ours": 1}, {"theirs": 1})
    assert seen == [("1", "2", BASE, {"ours": 1}, {"theirs": 1})]
    assert states.load_state("m") == {"both": [{"ours": 1}, {"theirs": 1}]}


def test_a_resolver_may_give_none():
    """None is a state too, and not ours."""
    states, _ = conflict(lambda conflict: None, {"ours": 1}, {"theirs": 1})
    assert states.load_state("m") is None


def test_branches_are_merged():
    """A branch goes its own way and is merged back, with both heads as parents; a true conflict is refused."""
    states = StateManager("memory://")
    states.save_state("m", {"a": 1, "b": 1})
    start = states.branch("m", "trial")
    assert states.head("m", "trial") == start
    tried = states.save_state("m", {"a": 1, "b": 2}, branch="trial")
    assert states.load_state("m") == {"a": 1, "b": 1}
    states.save_state("m", {"a": 2, "b": 1})
    merged = states.merge("m", "trial")
    assert (merged.parents, merged.branch) == (("3", "2"), "main")
    assert states.load_state("m") == {"a": 2, "b": 2}
    assert states.save_state("m", {"a": 5}, parent=tried).branch == "trial"
    states.save_state("m", {"a": 6, "b": 2})
    with pytest.raises(ConflictError, match="both changed a"):
        states.merge("m", "trial")


def test_branches_of_two_schemas_are_not_merged():
    """What one side calls otherwise cannot be put together by path: one of them is migrated first."""
    states = StateManager("memory://")
    states.save_state("m", {"a": 1})
    states.branch("m", "trial")
    states.save_state("m", {"b": 1}, branch="trial", schema="2")
    with pytest.raises(ConflictError, match="'main' has schema '1', 'trial' '2'; migrate one of them first"):
        states.merge("m", "trial")
    assert states.load_state("m") == {"a": 1}
