"""Tags, branches, deletion: what holds a version, and what may change."""

import pytest

from dspex.errors import ConflictError, NotFoundError, UsageError
from dspex.versions import NEW, StateManager


@pytest.fixture
def states():
    with StateManager("memory://") as manager:
        for i in range(4):
            manager.save_state("m", {"i": i})
        yield manager


def test_a_tag_names_a_version_and_moves(states):
    """A tag is found by load, moves by default, and is taken away."""
    states.tag("m", "production", "2")
    assert states.load_state("m", "production") == {"i": 1}
    assert states.version("m", "2").tags == ("production",)
    assert states.tag("m", "production", "3").tags == ("production",)
    assert states.version("m", "2").tags == ()
    with pytest.raises(ConflictError, match="is at version '3'; move=True moves it"):
        states.tag("m", "production", "1", move=False)
    states.untag("m", "production")
    with pytest.raises(NotFoundError, match="'m' has no version, tag or moment 'production'; its newest is '4'"):
        states.load_state("m", "production")
    with pytest.raises(NotFoundError, match="'m' has no tag 'production'"):
        states.untag("m", "production")


def test_an_id_goes_before_a_tag(states):
    """`at` is latest, then an id, then a tag."""
    states.tag("m", "v2", "1")
    assert states.load_state("m", "v2") == {"i": 0}
    assert states.load_state("m", "2") == {"i": 1}
    assert states.load_state("m", "latest") == {"i": 3}


def test_what_is_held_is_not_deleted(states):
    """A head, a tagged version and one in a snapshot stay; the error names the holder."""
    states.tag("m", "good", "2")
    states.branch("m", "trial", "3")
    states.create_snapshot("s", ["m"])
    states.save_state("m", {"i": 4})
    for id, holder in (("5", "branch 'main'"), ("2", "tag 'good'"), ("3", "branch 'trial'"), ("4", "snapshot 's'")):
        with pytest.raises(UsageError, match=f"is held by the {holder}"):
            states.delete("m", id)


def test_a_deleted_version_leaves_its_place(states):
    """Its state is gone, its children still know it, and the store is whole."""
    states.delete("m", "2")
    with pytest.raises(NotFoundError, match="version '2' of 'm' was deleted"):
        states.load_state("m", "2")
    assert [version.id for version in states.list_versions("m").versions] == ["4", "3", "1"]
    assert states.version("m", "3").parents == ("2",)
    assert list(states.history("m").ancestors("4")) == ["4", "3", "2", "1"]
    with pytest.raises(NotFoundError, match="was deleted"):
        states.tag("m", "late", "2")
    assert states.verify().ok


def test_a_deleted_module_can_be_new_again(states):
    """A module goes with all its versions and tags; its numbers go on."""
    states.tag("m", "good")
    states.delete("m")
    assert states.head("m") is None
    assert states.list_versions("m").versions == ()
    with pytest.raises(NotFoundError, match="its main branch is empty"):
        states.load_state("m")
    assert states.save_state("m", {"again": 1}, parent=NEW).id == "6"
    assert states.verify().ok


def test_unknown_things_are_told_apart(states):
    """head() of an unknown module is None; everything else says what there is."""
    assert states.head("nobody") is None
    with pytest.raises(NotFoundError, match="no module 'nobody' was ever saved in memory://"):
        states.load_state("nobody")
    with pytest.raises(NotFoundError, match="no module 'nobody' was ever saved"):
        states.history("nobody")
    with pytest.raises(NotFoundError, match="'m' has no version, tag or moment '99'; its newest is '4'"):
        states.load_state("m", "99")
    with pytest.raises(ConflictError, match="'m' has a branch 'main'"):
        states.branch("m", "main")
    with pytest.raises(UsageError, match="is no version of 'm'"):
        states.load_state("m", states.save_state("other", {}))
    with pytest.raises(UsageError, match="at must be a Version, a datetime or a str"):
        states.load_state("m", 3)
