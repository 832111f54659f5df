"""Looking: lists, moments, history, differences."""

from datetime import UTC, datetime, timedelta

import pytest

from dspex.errors import NotFoundError, UsageError
from dspex.versions import StateManager


@pytest.fixture
def states():
    with StateManager("memory://") as manager:
        yield manager


def test_versions_are_listed_by_page(states):
    """Pages follow one another, newest first, without a gap or a repetition, while others save."""
    for i in range(7):
        states.save_state("m", {"i": i})
    page = states.list_versions("m", limit=3)
    assert ([version.id for version in page.versions], page.next) == (["7", "6", "5"], "5")
    states.save_state("m", {"i": 8})
    page = states.list_versions("m", limit=3, after=page.next)
    assert [version.id for version in page.versions] == ["4", "3", "2"]
    page = states.list_versions("m", limit=3, after=page.next)
    assert ([version.id for version in page.versions], page.next) == (["1"], None)
    with pytest.raises(UsageError, match="limit must be at least 1"):
        states.list_versions("m", limit=0)


def test_metadata_are_the_callers_own(states):
    """Who changes what a version tells changes nothing of it for others, however often it is looked at."""
    saved = states.save_state("m", {}, metadata={"scores": [1, 2]})
    for version in (saved, states.head("m"), states.head("m")):
        assert version.metadata == {"scores": [1, 2]}
        version.metadata["scores"].append("changed")
    states.branch("m", "side")
    states.save_state("m", {"i": 1}, branch="side")
    assert states.head("m").metadata == {"scores": [1, 2]}
    assert states.verify().ok


def test_versions_are_filtered(states):
    """By time, tag, branch and metadata."""
    made = [states.save_state("m", {"i": i}, metadata={"odd": i % 2 == 1}) for i in range(4)]
    states.branch("m", "side", "2")
    states.save_state("m", {}, branch="side", tags=["t"])

    def ids(**wanted):
        return [version.id for version in states.list_versions("m", **wanted).versions]

    assert ids(metadata={"odd": True}) == ["4", "2"]
    assert ids(metadata={"odd": 1, "none": None}) == []
    assert ids(tag="t") == ids(branch="side") == ["5"]
    assert ids(since=made[1].time, until=made[2].time) == ["3", "2"]


def test_a_moment_finds_what_was_newest(states):
    """The newest of main at a moment; before the first there is none, and a moment needs a zone."""
    made = [states.save_state("m", {"i": i}) for i in range(20)]
    for i, version in enumerate(made):
        assert states.load_state("m", version.time) == {"i": i}
        assert states.version("m", version.time + timedelta(microseconds=0)).id == version.id
    assert states.load_state("m", datetime.now(UTC) + timedelta(days=1)) == {"i": 19}
    with pytest.raises(NotFoundError):
        states.load_state("m", made[0].time - timedelta(microseconds=1))
    with pytest.raises(UsageError, match="has no zone"):
        states.load_state("m", datetime(2026, 1, 1))


def test_other_branches_are_no_moment_of_main(states):
    """A save on another branch is passed over when a moment is looked for."""
    states.save_state("m", {"i": 0})
    states.branch("m", "side")
    side = states.save_state("m", {"side": 1}, branch="side")
    assert states.load_state("m", side.time) == {"i": 0}


def test_time_grows_when_the_clock_goes_back(states, monkeypatch):
    """Set back by an hour, the clock is not believed: versions stay in order and moments find them."""
    import time

    first = states.save_state("m", {"i": 0})
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    second = states.save_state("m", {"i": 1})
    assert second.time > first.time
    assert states.load_state("m", first.time) == {"i": 0}
    assert states.load_state("m", second.time) == {"i": 1}
    monkeypatch.undo()
    assert states.save_state("m", {"i": 2}).time > second.time


def test_the_history_is_a_graph(states):
    """Heads, parents, ancestors and the common one of two."""
    states.save_state("m", {"i": 0})
    states.branch("m", "side")
    states.save_state("m", {"i": 1}, branch="side")
    states.save_state("m", {"i": 2})
    history = states.history("m")
    assert history.heads == {"main": "3", "side": "2"}
    assert history.parents == {"1": (), "2": ("1",), "3": ("1",)}
    assert list(history.ancestors("3")) == ["3", "1"]
    assert history.common("2", "3") == "1"
    assert list(history.versions) == ["3", "2", "1"]


def test_differences_are_by_path(states):
    """Two versions differ in paths."""
    states.save_state("m", {"a": {"x": 1, "y": 2}, "b": [1]})
    states.save_state("m", {"a": {"x": 1, "y": 3}, "b": [1, 2]})
    assert [str(difference) for difference in states.diff("m", "1")] == ["~ a.y: 2 -> 3", "+ b[1]: 2"]
    states.save_state("list", [1])
    states.save_state("list", [2])
    assert [difference.path for difference in states.diff("list", "1", "2")] == ["state[0]"]


def test_modules_match_patterns(states):
    """Ids are listed by shell patterns."""
    for name in ("prod/a", "prod/b", "test/a"):
        states.save_state(name, {})
    assert states.modules("prod/*") == ["prod/a", "prod/b"]
    assert states.modules() == ["prod/a", "prod/b", "test/a"]
