"""Watching, compacting, syncing, bundles, and the asynchronous twins."""

import asyncio
import threading
from datetime import timedelta

import pytest

from dspex.errors import CompactedError, ConflictError, StateFormatError, StoreError, UsageError
from dspex.stores import open_store
from dspex.versions import Retention, StateManager, _sweep


@pytest.fixture
def states():
    with StateManager("memory://") as manager:
        yield manager


def test_watching_begins_where_a_list_ended(states):
    """Whatever is saved after a list comes, in order, each once; another module's saves do not."""
    states.save_state("m", {"i": 0})
    page = states.list_versions("m")
    made = [states.save_state("m", {"i": i}, tags=["t"] if i == 2 else []) for i in (1, 2)]
    states.save_state("other", {})
    found = [(event.kind, event.version_id, event.name) for event in states.watch("m", page.revision, timeout=0.05)]
    assert found == [("save", "2", "main"), ("save", "3", "main"), ("tag", "3", "t")]
    assert [event.version_id for event in states.watch("m", made[0], timeout=0.05)] == ["3", "3"]


def test_watching_wakes_up(states):
    """A watcher gets what another thread saves meanwhile."""
    timer = threading.Timer(0.1, lambda: states.save_state("m", {}))
    timer.start()
    assert next(states.watch("m", timeout=30)).kind == "save"
    timer.join()


def test_forgotten_events_are_said_to_be(states):
    """Who was away for longer than events are kept must list anew."""
    versions = [states.save_state("m", {"i": i}) for i in range(5)]
    states.compact(forget_before=versions[3])
    with pytest.raises(CompactedError):
        list(states.watch("m", versions[0], timeout=0))
    assert next(states.watch("m", versions[3], timeout=0)).version_id == "5"


def test_compacting_drops_what_no_version_needs(states):
    """Of the versions that are not held, the newest are kept; chunks of the others go, all that is kept loads."""
    for i in range(10):
        states.save_state("m", {"text": f"{i}" * 20_000}, tags=["keep"] if i == 2 else [])
    manager = StateManager(states.store, retention=Retention(keep_last=3))
    before = len(states.store.scan_chunks())
    done = manager.compact()
    assert done.versions == 6
    assert done.chunks == before - len(states.store.scan_chunks()) > 0
    assert [version.id for version in manager.list_versions("m").versions] == ["10", "9", "8", "3"]
    assert all(states.load_state("m", id) for id in ("10", "9", "8", "3"))
    report = manager.verify()
    assert (report.ok, report.spare, report.versions) == (True, 0, 4)
    assert manager.compact().versions == 0


def test_young_versions_are_kept(states):
    """What is younger than asked for stays, whatever its number."""
    for i in range(5):
        states.save_state("m", {"i": i})
    assert (
        StateManager(states.store, retention=Retention(keep_last=1, keep_for=timedelta(hours=1))).compact().versions
        == 0
    )
    with pytest.raises(UsageError, match="keep_last must be at least 1"):
        Retention(keep_last=0)


def test_saves_wait_for_a_sweep(states):
    """While chunks are removed no save is made; afterwards it is, with every chunk it needs."""
    state = {"text": "shared " * 5000}
    states.save_state("m", state)
    lease = _sweep.take(states.store, "somebody")
    with pytest.raises(StoreError, match="is being compacted by somebody"):
        states.compact()
    saved = []
    thread = threading.Thread(target=lambda: saved.append(states.save_state("m", {**state, "x": 1})))
    thread.start()
    thread.join(0.1)
    assert not saved
    _sweep.put(states.store, _sweep.SweepRecord(), lease)
    thread.join()
    assert states.load_state("m") == {**state, "x": 1}


def test_a_dead_sweeper_is_passed(states, monkeypatch):
    """A sweep whose lease ran out no longer stops saves, and may drop nothing more."""
    monkeypatch.setattr(_sweep, "LEASE", -1.0)
    lease = _sweep.take(states.store, "dead")
    assert states.save_state("m", {}).id == "1"
    from dspex.errors import MovedError

    with pytest.raises(MovedError):
        _sweep.renew(states.store, "dead", lease)


def test_a_store_is_brought_to_another(states, tmp_path):
    """All versions, ids, tags, branches and states come; a second time nothing does."""
    for i in range(4):
        states.save_state("m", {"i": i, "text": "x" * 20_000}, tags=[f"t{i}"])
    states.branch("m", "side", "2")
    states.save_state("m", {"side": 1}, branch="side")
    url = f"sqlite:///{tmp_path}/other.db"
    done = states.sync(url)
    assert (done.versions, set(done.moved)) == (5, {("m", "main"), ("m", "side")})
    assert states.sync(url).versions == 0
    with StateManager(url) as other:
        assert other.history("m").parents == states.history("m").parents
        assert other.history("m").heads == states.history("m").heads
        assert other.version("m", "t1").uid == states.version("m", "t1").uid
        assert other.load_state("m", "3") == states.load_state("m", "3")
        assert other.verify().ok


def test_stores_that_went_apart_are_merged_or_refused(states):
    """Where both saved, the receiver's resolver decides; ids that are taken are told apart; nothing is lost."""
    states.save_state("m", {"a": 1, "b": 1})
    other = StateManager("memory://", resolver="merge")
    states.sync(other)
    ours = states.save_state("m", {"a": 2, "b": 1})
    theirs = other.save_state("m", {"a": 1, "b": 2})
    with pytest.raises(ConflictError):
        states.sync(other, "pull")
    done = states.sync(other, "push")
    assert done.merged == (("m", "main"),)
    assert other.load_state("m") == {"a": 2, "b": 2}
    assert {version.uid for version in other.list_versions("m").versions} >= {ours.uid, theirs.uid}
    assert states.sync(other, "pull").moved == (("m", "main"),)
    assert states.load_state("m") == {"a": 2, "b": 2}
    assert states.verify().ok
    assert other.verify().ok


def test_stores_with_nothing_in_common_are_apart(states):
    """Two modules of one name that were made apart conflict, unless both agree."""
    states.save_state("m", {"a": 1})
    other = StateManager("memory://", resolver="merge")
    other.save_state("m", {"b": 2})
    states.sync(other)
    assert other.load_state("m") == {"a": 1, "b": 2}
    strict = StateManager("memory://")
    strict.save_state("m", {"a": 3})
    with pytest.raises(ConflictError):
        states.sync(strict)
    assert strict.load_state("m") == {"a": 3}


def test_a_bundle_carries_modules(states, tmp_path):
    """What a file holds is brought into another store; a damaged or foreign file is refused."""
    for name in ("a", "b"):
        states.save_state(name, {"name": name, "text": "y" * 30_000}, tags=["t"])
    path = tmp_path / "states.bundle"
    assert states.export(path, "a") == path.stat().st_size
    other = StateManager("memory://")
    assert other.import_(path).versions == 1
    assert other.modules() == ["a"]
    assert other.load_state("a", "t") == states.load_state("a")
    data = path.read_bytes()
    for bad in (data[:-1], data[:100] + b"\0" + data[101:], b"", b"text"):
        path.write_bytes(bad)
        with pytest.raises(StateFormatError):
            other.import_(path)


def test_long_work_tells_how_far_it_is(states, tmp_path):
    """Syncing and bundles count versions, compacting versions and chunks."""
    for i in range(3):
        states.save_state("m", {"i": i})
    told = {name: [] for name in ("sync", "export", "import", "compact", "both")}
    states.sync("memory://", progress=told["sync"].append)
    states.export(tmp_path / "bundle", progress=told["export"].append)
    states.compact(progress=told["compact"].append)
    with StateManager("memory://") as there:
        there.save_state("n", {})
        there.import_(tmp_path / "bundle", progress=told["import"].append)
        there.save_state("m", {"i": 3})
        states.sync(there, "both", progress=told["both"].append)
    assert told == {"sync": [1, 2, 3], "export": [1, 2, 3], "import": [1, 2, 3], "compact": [1, 2, 3], "both": [1, 2]}


def test_every_method_has_an_asynchronous_twin(states):
    """The twins do the same, and the loop goes on meanwhile."""

    async def main():
        version = await states.asave_state("m", {"x": 1}, tags=["t"])
        ticks = asyncio.create_task(asyncio.sleep(0))
        assert await states.aload_state("m", "t") == {"x": 1}
        await ticks
        assert await states.ahead("m") == version
        assert (await states.averify()).ok
        found = [event.kind async for event in states.awatch("m", 0, timeout=0.05)]
        assert found == ["save", "tag"]
        await asyncio.gather(*(states.asave_state("m", {"x": i}) for i in range(20)))
        assert (await states.ahead("m")).id == "21"

    asyncio.run(main())


def test_a_store_given_stays_open(tmp_path):
    """A manager closes only the store that it opened."""
    store = open_store(f"sqlite:///{tmp_path}/s.db")
    with StateManager(store) as states:
        states.save_state("m", {})
    assert StateManager(store).load_state("m") == {}
    store.close()
