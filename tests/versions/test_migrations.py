"""Migrations: the graph of schemas, and versions taken through it."""

import pytest

from dspex.errors import MigrationError, UsageError
from dspex.versions import Migrations, StateManager


@pytest.fixture
def migrations():
    made = Migrations()
    made.calls = []

    @made.step("1", "1.1")
    def rename(state):
        made.calls.append("1 -> 1.1")
        state["demos"] = state.pop("examples")
        return state

    @made.step("1.1", "2")
    def count(state):
        made.calls.append("1.1 -> 2")
        return {**state, "count": len(state["demos"])}

    @made.step("1.1", "1")
    def back(state):
        return {"examples": state["demos"]}

    @made.step("1", "broken")
    def broken(state):
        state["examples"].append("changed before it fails")
        raise KeyError("no such thing")

    return made


@pytest.fixture
def states(migrations):
    with StateManager("memory://", migrations=migrations) as manager:
        manager.save_state("m", {"examples": [1, 2]})
        yield manager


def test_the_shortest_path_is_taken_and_shown(states, migrations):
    """The steps are known before they are run; the child has the state, its parent stays."""
    assert [str(step) for step in states.plan_migration("m", "2")] == ["1 -> 1.1", "1.1 -> 2"]
    assert migrations.calls == []
    version = states.migrate_state("m", "2")
    assert (version.parents, version.schema, version.branch) == (("1",), "2", "main")
    assert version.metadata == {"migrated_from": "1", "steps": ["1 -> 1.1", "1.1 -> 2"]}
    assert states.load_state("m") == {"demos": [1, 2], "count": 2}
    assert states.load_state("m", "1") == {"examples": [1, 2]}


def test_a_version_is_migrated_once(states, migrations):
    """Asked again, the same child is given and no step runs."""
    first = states.migrate_state("m", "2", at="1")
    calls = list(migrations.calls)
    assert states.migrate_state("m", "2", at="1") == first
    assert states.load_state("m", "1", schema="2") == {"demos": [1, 2], "count": 2}
    assert migrations.calls == calls


def test_an_old_version_is_migrated_beside_the_branch(states):
    """The child of a version that is no head is on no branch, and the head is as it was."""
    states.save_state("m", {"examples": []})
    version = states.migrate_state("m", "1.1", at="1")
    assert (version.branch, version.parents) == (None, ("1",))
    assert states.head("m").id == "2"
    assert states.load_state("m", version) == {"demos": [1, 2]}


def test_loading_migrates_where_asked(states):
    """A module is loaded in the schema that it needs."""
    target = {}
    version = states.load_into("m", target, schema="1.1")
    assert (target, version.schema) == ({"demos": [1, 2]}, "1.1")


def test_a_way_back_only_where_a_step_says_so(states):
    """There is a path down from 1.1, none from 2."""
    states.migrate_state("m", "1.1")
    assert states.load_state("m", schema="1") == {"examples": [1, 2]}
    states.migrate_state("m", "2", at="2")
    with pytest.raises(MigrationError, match="no steps lead from schema '2' to '1'; from there, nothing"):
        states.migrate_state("m", "1", at=states.list_versions("m").versions[0])


def test_a_step_that_fails_leaves_nothing(states):
    """The error names the step; no version is made, and the old one is untouched."""
    with pytest.raises(MigrationError, match="the step 1 -> broken failed: KeyError: 'no such thing'"):
        states.migrate_state("m", "broken")
    assert [version.id for version in states.list_versions("m").versions] == ["1"]
    assert states.load_state("m") == {"examples": [1, 2]}


def test_the_seed_form_names_both_schemas(states):
    """`migrate_state(module, from, to)` checks where it comes from."""
    assert states.migrate_state("m", "1", "1.1").schema == "1.1"
    with pytest.raises(UsageError, match=r"version 2 has schema '1.1', not '1'"):
        states.migrate_state("m", "1", "2")


def test_a_graph_says_where_it_ends():
    """Heads are the schemas from which nothing leads on; steps are registered once."""
    migrations = Migrations()
    migrations.step("1", "2")(dict)
    migrations.step("1", "3")(dict)
    assert migrations.heads() == ("2", "3")
    with pytest.raises(UsageError, match="there is a step from '1' to '2'"):
        migrations.step("1", "2")
    with pytest.raises(UsageError, match="changes no schema"):
        migrations.step("1", "1")
