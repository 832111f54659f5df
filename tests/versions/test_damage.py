"""Flipped bits, truncated files, lost rows: never a wrong state, always named by verify."""

import pathlib
import random
import sqlite3

import pytest

from dspex.errors import DspexError, IntegrityError
from dspex.stores import Write, open_store
from dspex.versions import StateManager

SMALL = {"a": "one", "n": 1}
LARGE = {f"k{i}": f"value {i} " * 5 for i in range(600)}


def filled(url):
    """A store of two modules, their states by version."""
    saved = {}
    with StateManager(url) as states:
        for module_id, state in (("small", SMALL), ("large", LARGE), ("large", {**LARGE, "k7": "changed"})):
            version = states.save_state(module_id, state)
            saved[module_id, version.id] = state
        states.tag("large", "good", "1")
        states.create_snapshot("s", ["small", "large"])
    return saved


def loads(url, saved):
    """Which versions load; each as it was saved, or with an error of ours."""
    good = set()
    with StateManager(url) as states:
        for (module_id, id), state in saved.items():
            try:
                assert states.load_state(module_id, id) == state
                good.add((module_id, id))
            except DspexError:
                pass
    return good


class Tampered:
    """A store that gives one chunk or record with one bit flipped."""

    def __init__(self, store, digest=None, key=None, bit=0):
        self._store, self._digest, self._key, self._bit = store, digest, key, bit

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _flip(self, data):
        place = self._bit // 8 % len(data)
        return data[:place] + bytes([data[place] ^ (1 << self._bit % 8)]) + data[place + 1 :]

    def read_chunks(self, hashes):
        found = self._store.read_chunks(hashes)
        return {digest: self._flip(data) if digest == self._digest else data for digest, data in found.items()}

    def read(self, keys):
        found = self._store.read(keys)
        return {k: e._replace(value=self._flip(e.value)) if k == self._key else e for k, e in found.items()}

    def scan(self, *args, **options):
        found = self._store.scan(*args, **options)
        return [(k, e._replace(value=self._flip(e.value)) if k == self._key else e) for k, e in found]


def test_every_flipped_bit_of_a_chunk_is_found():
    """Whichever byte of a chunk is changed, the versions that need it do not load, the others do, and verify names them."""
    states = StateManager("memory://")
    states.save_state("small", SMALL)
    states.save_state("large", LARGE)
    states.save_state("large", {**LARGE, "k7": "changed"})
    store = states.store
    wanted = {("small", "1"): SMALL, ("large", "1"): LARGE, ("large", "2"): {**LARGE, "k7": "changed"}}
    chosen = random.Random(3)
    for digest in store.scan_chunks():
        users = {
            (module_id, id)
            for module_id, id in wanted
            if digest in states._contents.hashes(module_id, states._catalog.find(module_id, id).saved)
        }
        data = store.read_chunks([digest])[digest]
        for place in range(0, len(data), max(1, len(data) // 16)):
            bad = StateManager(Tampered(store, digest=digest, bit=8 * place + chosen.randrange(8)))
            for (module_id, id), state in wanted.items():
                if (module_id, id) in users:
                    with pytest.raises(IntegrityError) as caught:
                        bad.load_state(module_id, id)
                    assert caught.value.affected == ((module_id, id),)
                else:
                    assert bad.load_state(module_id, id) == state
        problems = bad.verify().problems
        assert {problem.thing for problem in problems} == {digest.hex()}
        assert set(problems[0].affected) == users


def test_every_flipped_byte_of_a_record_is_found():
    """Whichever byte of a record is changed, verify names the record, and nothing is loaded by it."""
    states = StateManager("memory://")
    states.save_state("m", SMALL, tags=["t"], metadata={"k": "v"})
    states.create_snapshot("s", ["m"])
    for key, entry in states.store.scan(""):
        for place in range(len(entry.value)):
            bad = Tampered(states.store, key=key, bit=8 * place + place % 8)
            if key.startswith("m/"):
                with pytest.raises(IntegrityError):
                    StateManager.load_state(_unchecked(bad), "m")
            if place % 20 == 0:
                assert [problem.thing for problem in _unchecked(bad).verify().problems if problem.thing == key] == [key]


def _unchecked(store):
    """A manager on a store whose format record may be what is damaged."""
    manager = object.__new__(StateManager)
    good = StateManager("memory://")
    manager.__dict__.update(good.__dict__)
    manager._store = store
    from dspex.versions._catalog import Catalog
    from dspex.versions._contents import Contents

    manager._catalog, manager._contents = Catalog(store), Contents(store)
    return manager


def test_a_record_under_anothers_key_is_damage():
    """A whole and unharmed value that stands under another key is refused."""
    states = StateManager("memory://")
    states.save_state("a", {"who": "a"})
    states.save_state("b", {"who": "b"})
    value = states.store.read(["m/a"])["m/a"].value
    states.store.write(Write(put={"m/b": value}))
    with pytest.raises(IntegrityError, match="the record m/b is damaged"):
        states.load_state("b")


def test_lost_records_and_chunks_are_named(url):
    """Verify tells of each version that lost its record or a chunk, in every store."""
    saved = filled(url) if url != "memory://" else {}
    if not saved:
        return
    store = open_store(url)
    states = StateManager(store)
    digest = sorted(states._contents.hashes("small", states._catalog.find("small", "1").saved))[0]
    store.write(Write(drop=[digest], delete=["v/large/000000000001"]))
    with pytest.raises(IntegrityError, match=f"the chunk {digest.hex()} is missing"):
        states.load_state("small")
    found = {problem.thing: problem.affected for problem in states.verify().problems}
    gone = (("large", "1"),)
    assert found == {digest.hex(): (("small", "1"),), "v/large/000000000001": gone, "t/large/good": gone}
    assert states.load_state("large") == saved["large", "2"]
    store.close()


def test_damaged_sqlite_files_never_give_a_wrong_state(tmp_path):
    """Random bytes, zeroed pages and cut ends of the database file: a state is right, or an error says so."""
    path = tmp_path / "states.db"
    saved = filled(f"sqlite:///{path}")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data, chosen = path.read_bytes(), random.Random(5)
    for i in range(60):
        bad = bytearray(data)
        place = chosen.randrange(len(bad))
        if i % 3 == 0:
            bad[place] ^= 1 << chosen.randrange(8)
        elif i % 3 == 1:
            page = place // 4096 * 4096
            bad[page : page + 4096] = bytes(len(bad[page : page + 4096]))
        else:
            del bad[place:]
        for suffix in ("-wal", "-shm"):
            pathlib.Path(f"{path}{suffix}").unlink(missing_ok=True)
        path.write_bytes(bad)
        try:
            good = loads(f"sqlite:///{path}", saved)
            with StateManager(f"sqlite:///{path}") as states:
                hit = {pair for problem in states.verify().problems for pair in problem.affected}
                whole = not states.verify().problems
        except DspexError:
            continue
        assert good == set(saved) or not whole
        assert {pair for pair in saved if pair not in good} <= hit | saved.keys()


def test_damaged_journal_files_are_named(tmp_path):
    """Whichever file of the journal is changed, verify names it and what it holds; an index that is lost is made anew."""
    path = tmp_path / "states"
    saved = filled(f"file:///{path}")
    for file in sorted(path.rglob("*.txt")):
        data = file.read_bytes()
        for place in range(0, len(data), max(1, len(data) // 12)):
            file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            with StateManager(f"file:///{path}") as states:
                assert str(file) in {problem.thing for problem in states.verify().problems}
            assert loads(f"file:///{path}", saved) <= set(saved)
        file.write_bytes(data)
    for file in path.glob("index.db*"):
        file.unlink()
    assert loads(f"file:///{path}", saved) == set(saved)
    (path / "index.db").write_bytes(b"no database at all")
    assert loads(f"file:///{path}", saved) == set(saved)
    with StateManager(f"file:///{path}") as states:
        assert states.verify().ok


def test_a_damaged_journal_is_not_replayed(tmp_path):
    """Without an index, a journal with a damaged file is refused by its name: nothing is made up."""
    path = tmp_path / "states"
    filled(f"file:///{path}")
    file = sorted(path.rglob("*.txt"))[2]
    file.write_bytes(file.read_bytes()[:-5])
    for index in path.glob("index.db*"):
        index.unlink()
    with pytest.raises(IntegrityError, match=f"{file.name} is damaged"):
        StateManager(f"file:///{path}")
