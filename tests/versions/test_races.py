"""What happens when another is faster: every race is made by hand, at the very place where it hurts."""

import itertools
import time
from datetime import UTC, datetime

import pytest

from dspex.errors import ConflictError, NotFoundError, StoreError
from dspex.stores import open_store
from dspex.versions import Migrations, Retention, StateManager, _sweep, _verifying
from dspex.versions._records import SweepRecord

BIG = {"text": "much text " * 5000}


class Meddled:
    """A store in which something is done just before one of its methods is called for the nth time from now."""

    def __init__(self, store):
        self._store = store
        self._plans = {}

    def before(self, method, act, *, nth=1):
        self._plans[method] = [nth, act]

    def __repr__(self):
        return repr(self._store)

    def __getattr__(self, name):
        value = getattr(self._store, name)
        if name not in self._plans:
            return value

        def called(*args, **kwargs):
            plan = self._plans.get(name)
            if plan is not None:
                plan[0] -= 1
                if plan[0] == 0:
                    del self._plans[name]
                    plan[1]()
            return value(*args, **kwargs)

        return called


@pytest.fixture
def store(url):
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def meddled(store):
    return Meddled(store)


def test_a_branch_begun_since_the_last_save_is_found(store):
    """What a manager remembers of its own last save does not hide a branch that was begun after it."""
    states = StateManager(store)
    first = states.save_state("m", {"i": 1})
    states.branch("m", "side", first)
    second = states.save_state("m", {"i": 2}, parent=first, branch="side")
    assert (second.parents, second.branch) == (("1",), "side")
    with pytest.raises(ConflictError):
        states.save_state("m", {"i": 3}, parent=first, branch="side")


def test_two_migrations_make_one_child(store, meddled):
    """A migration that another finished just before this one saved gives the other's version."""
    migrations = Migrations()
    migrations.step("1", "2")(lambda state: {**state, "new": True})
    one, other = StateManager(meddled, migrations=migrations), StateManager(store, migrations=migrations)
    one.save_state("m", {"i": 1})
    for reads in range(1, 12):
        one.save_state("m", {"i": reads})
        made = []
        meddled.before("read", lambda made=made: made.append(other.migrate_state("m", "2")), nth=reads)
        mine = one.migrate_state("m", "2")
        assert [mine.id] == [version.id for version in made] or not made
        parents = [version.parents for version in one.list_versions("m").versions if version.schema == "2"]
        assert len(parents) == len(set(parents))
        meddled.before("read", lambda: None)


def test_a_snapshot_holds_no_version_that_was_deleted_meanwhile(store, meddled):
    """A newest version that was replaced and deleted while a snapshot was made is not in it."""
    states, other = StateManager(meddled), StateManager(store)
    states.save_state("m", {"i": 1})

    def replace():
        other.save_state("m", {"i": 2})
        other.delete("m", "1")

    meddled.before("read", replace, nth=3)
    snapshot = states.create_snapshot("s", ["m"])
    assert snapshot.members == {"m": "2"}
    assert states.load_state("m", snapshot.members["m"]) == {"i": 2}


def test_a_version_restored_after_a_sync_keeps_moments_in_order(store):
    """A version made elsewhere and restored here is new from then on, not from when it came."""
    elsewhere = StateManager("memory://")
    elsewhere.save_state("m", {"i": 1})
    states = StateManager(store)
    elsewhere.sync(states)
    states.create_snapshot("s", ["m"])
    for i in range(2, 9):
        states.save_state("m", {"i": i})
    middle = datetime.now(UTC)
    states.restore_snapshot("s")
    states.save_state("m", {"i": 10})
    assert states.load_state("m", middle) == {"i": 8}
    assert states.load_state("m", datetime.now(UTC)) == {"i": 10}


def test_versions_made_elsewhere_end_no_list(store):
    """A list since a moment goes on beyond a version that was made long before and came late."""
    elsewhere, states = StateManager("memory://", resolver="merge"), StateManager(store, resolver="merge")
    elsewhere.save_state("m", {"a": 1})
    before = datetime.now(UTC)
    states.save_state("m", {"b": 1})
    states.save_state("m", {"b": 2})
    elsewhere.sync(states)
    found = [version.metadata.get("x", version.id) for version in states.list_versions("m", since=before).versions]
    assert {"1", "2"} <= set(found)


def test_a_list_goes_on_after_a_deleted_version(store):
    """The last version of a page may be deleted before the next page is asked for."""
    states = StateManager(store)
    for i in range(6):
        states.save_state("m", {"i": i})
    page = states.list_versions("m", limit=2)
    states.delete("m", page.next)
    assert [version.id for version in states.list_versions("m", limit=2, after=page.next).versions] == ["4", "3"]
    with pytest.raises(NotFoundError):
        states.list_versions("m", after="77")


def test_a_merge_takes_back_nothing(store):
    """What one side set back on purpose stays set back, whatever older parent its head has as well."""
    states = StateManager(store, resolver="merge")
    old = states.save_state("m", {"x": 1, "y": 1, "z": 1})
    states.save_state("m", {"x": 2, "y": 1, "z": 1})
    states.branch("m", "side")
    states.save_state("m", {"x": 2, "y": 2, "z": 1})
    states.save_state("m", {"x": 1, "y": 1, "z": 2}, parent=old)  # merged: parents 3 and 1
    states.save_state("m", {"x": 1, "y": 2, "z": 2})  # x goes back to 1
    states.save_state("m", {"x": 2, "y": 1, "z": 1, "w": 1}, branch="side")
    states.merge("m", "side")
    assert states.load_state("m") == {"x": 1, "y": 2, "z": 2, "w": 1}


def test_chunks_swept_while_a_sync_brings_a_version_are_sent_all_the_same(store, meddled):
    """A sync does not rely on chunks that it saw before others removed them."""
    elsewhere = StateManager("memory://")
    elsewhere.save_state("m", BIG)
    states = StateManager(store)
    for act in (lambda: None, states.compact):
        for nth in range(1, 6):
            name = f"m{nth}{act is not states.compact}"
            states.save_state("spare", BIG)
            states.delete("spare")  # its chunks are there until somebody compacts
            elsewhere.save_state(name, BIG)
            meddled.before("read", act, nth=nth)
            elsewhere.sync(meddled, pattern=name)
            meddled.before("read", lambda: None)
            assert states.load_state(name) == BIG
            assert states.verify().ok
            states.delete(name)


def test_two_syncs_at_once_bring_each_version_once(store, meddled):
    """A version that another sync brought meanwhile is not brought again."""
    elsewhere = StateManager("memory://")
    for i in range(3):
        elsewhere.save_state("m", {"i": i})
    meddled.before("write", lambda: elsewhere.sync(store), nth=2)
    elsewhere.sync(meddled)
    versions = StateManager(store).list_versions("m").versions
    assert [version.id for version in versions] == ["3", "2", "1"]
    assert StateManager(store).head("m").id == "3"


def test_a_save_and_a_tag_during_a_sync_do_not_break_it(store, meddled):
    """What is saved and tagged in the source while it is read comes with the next sync."""
    states, other = StateManager(store), StateManager("memory://")
    states.save_state("m", {"i": 1}, tags=["a"])
    source = StateManager(meddled)
    meddled.before("scan", lambda: states.save_state("m", {"i": 2}, tags=["b"]), nth=3)
    source.sync(other)
    states.save_state("m", {"i": 3}, tags=["c"])
    source.sync(other)
    assert other.load_state("m") == {"i": 3}
    assert [other.version("m", tag).id for tag in "abc"] == ["1", "2", "3"]


def test_a_refused_sync_changes_no_moment(store):
    """Versions that were brought but refused as heads were never the newest here."""
    states, other = StateManager(store), StateManager("memory://")
    states.save_state("m", {"i": 0})
    states.sync(other)
    states.save_state("m", {"i": 1})
    other.save_state("m", {"i": 2})
    with pytest.raises(ConflictError):
        other.sync(states)
    assert states.load_state("m", datetime.now(UTC)) == {"i": 1}
    assert [version.branch for version in states.list_versions("m").versions] == [None, "main", "main"]
    assert states.restore(at=datetime.now(UTC)) == []


def test_an_emptied_main_elsewhere_empties_no_moment_here(store):
    """The mark of an emptied main comes along, and main here stays what it is, at every moment."""
    states, other = StateManager(store), StateManager("memory://")
    other.save_state("m", {"i": 0})
    other.sync(states)
    other.delete("m")
    other.sync(states)
    assert states.load_state("m") == states.load_state("m", datetime.now(UTC)) == {"i": 0}
    assert states.verify().ok


def test_what_was_deleted_is_not_brought_to_life_by_a_sync(store):
    """A module deleted here gets no head among its stones, a deleted version no tag; later saves come."""
    states, other = StateManager(store), StateManager("memory://")
    for i in range(3):
        other.save_state("m", {"i": i})
    other.sync(states)
    states.delete("m")
    other.tag("m", "old", "1")
    other.sync(states)
    assert states.head("m") is None
    with pytest.raises(NotFoundError):
        states.version("m", "old")
    assert states.verify().ok
    other.save_state("m", {"i": 3})
    other.sync(states)
    assert states.load_state("m") == {"i": 3}
    states.sync(other)
    assert other.head("m").uid == states.head("m").uid


def test_the_same_save_on_two_machines_is_one_version(store):
    """Called by its content, a save is the same version wherever it was made: nothing went apart."""
    states, other = (StateManager(where, versioning="content") for where in (store, "memory://"))
    one, two = (manager.save_state("m", BIG) for manager in (states, other))
    assert (one.id, one.uid) == (two.id, two.uid)
    states.save_state("m", {"i": 1})
    assert states.sync(other, "both").versions == 1
    assert other.head("m").id == states.head("m").id


def test_a_deleted_version_is_not_called_damaged(store, meddled):
    """Who loads while another deletes and compacts gets the newest, or is told that it was deleted; never of damage."""
    states, other = StateManager(meddled), StateManager(store, retention=Retention(keep_last=1))
    states.save_state("m", BIG)

    def replace():
        other.save_state("m", {"i": 2})
        other.compact()

    meddled.before("read_chunks", replace)
    assert states.load_state("m") == {"i": 2}
    version = states.save_state("m", BIG)
    meddled.before("read_chunks", replace)
    with pytest.raises(NotFoundError, match="was deleted"):
        states.load_state("m", version)


def test_a_branch_begun_while_its_module_is_deleted_keeps_its_version(store, meddled):
    """A version that a branch holds since the heads were taken away is not deleted under it."""
    states, other = StateManager(meddled), StateManager(store)
    first = states.save_state("m", {"i": 1})
    states.save_state("m", {"i": 2})
    meddled.before("write", lambda: other.branch("m", "rescued", first), nth=2)
    states.delete("m")
    assert other.load_state("m", other.head("m", "rescued")) == {"i": 1}
    assert other.verify().ok
    assert other.save_state("m", {"i": 3}, branch="rescued").parents == ("1",)


def test_a_scrub_meanwhile_calls_nothing_damaged(store, meddled, monkeypatch):
    """What others save, delete and compact between two looks of a scrub is no problem."""
    monkeypatch.setattr(_verifying, "_PAGE", 4)  # records read at one moment
    states = StateManager(meddled)
    other = StateManager(store, versioning="content", retention=Retention(keep_last=1))
    names = (f"s{i}" for i in itertools.count())
    acts = (
        lambda: other.save_state("a", BIG),
        lambda: other.save_state(next(names), BIG, tags=["t"]),
        lambda: other.save_state("a", BIG) and other.save_state("a", {}) and other.compact(),
        lambda: other.create_snapshot(next(names), ["m"]),
        lambda: other.delete_snapshot(other.snapshots()[0].name),
    )
    other.save_state("m", BIG)
    other.create_snapshot("s", ["m"])
    for method in ("scan", "scan_chunks", "read_chunks", "known_chunks"):
        for nth in (1, 2, 4, 8):
            for act in acts:
                meddled.before(method, act, nth=nth)
                assert states.verify().problems == ()
                meddled.before(method, lambda: None)
    assert states.verify().problems == ()


def test_a_lease_from_before_the_clock_was_set_back_ends(store, monkeypatch):
    """A sweeper that was killed holds saves up for its lease, not for the hour by which the clock was set back since."""
    states = StateManager(store)
    _sweep.take(store, "killed")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    assert states.save_state("m", {}).id == "1"


def test_a_compaction_that_was_passed_says_so(store, meddled):
    """A sweeper whose place another took removes nothing more, and says that it has to begin again."""
    states, other = StateManager(meddled), StateManager(store)
    states.save_state("m", BIG)
    states.delete("m")

    def take_over():
        entry = store.read(["x/sweep"])["x/sweep"]
        _sweep.put(store, SweepRecord(), entry.revision)
        other.save_state("m", BIG)

    meddled.before("scan_chunks", take_over)
    with pytest.raises(StoreError, match="begin again"):
        states.compact()
    assert other.load_state("m") == BIG
    assert states.compact().chunks == 0


def test_a_migration_whose_semantic_id_is_taken_gets_the_next(store):
    """The major id that a migration would get may be another's already."""
    migrations = Migrations()
    migrations.step("1", "2")(lambda state: {**state, "new": True})
    states = StateManager(store, versioning="semantic", migrations=migrations)
    first = states.save_state("m", {"i": 1})
    states.save_state("m", {"i": 2}, bump="major")
    assert states.migrate_state("m", "2", at=first).id == "2.0.1"


def test_a_save_does_not_rely_on_chunks_that_were_swept(store, meddled):
    """Chunks that were there when a save asked, and were removed before it wrote, are sent after all."""
    state = {f"p{i}": {"demo": f"question {i}"} for i in range(2000)}
    states, other = StateManager(meddled), StateManager(store)
    other.save_state("spare", state)
    other.delete("spare")
    meddled.before("write", other.compact)
    states.save_state("m", state)
    assert states.load_state("m") == state
    assert states.verify().ok
