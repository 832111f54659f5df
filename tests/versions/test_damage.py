"""Damage in a store's files: never a wrong state; the scrub finds it, and names the versions that it hits.

`python tests/versions/test_damage.py ROUNDS` (with `src` and `tests` on the path) damages an SQLite file at random for longer.
"""

import os
import pathlib
import random
import shutil
import sqlite3
import sys
import tempfile

import pytest

from dspex.errors import IntegrityError, StateError, StoreError
from dspex.state import canonical
from dspex.stores import open_store
from dspex.versions import StateManager
from statestores import url_of

STATES = (
    {"small": 1, "tags": ("a", b"b")},
    {f"p{i}": {"demo": f"question {i}", "score": i / 7} for i in range(800)},
    {f"p{i}": {"demo": f"question {i}" if i != 400 else "another", "score": i / 7} for i in range(800)},
)


def filled(url):
    """Some versions of two modules in a new store; what each id must give."""
    right = {}
    with StateManager(url) as states:
        for module in ("m", "other"):
            for i, state in enumerate(STATES):
                made = {**state, "of": module} if i == 0 else state
                version = states.save_state(module, made, tags=[f"t{i}"])
                right[module, version.id] = canonical(made)
    return right


def loaded(states, right):
    """The versions that load: each must be right. The others must raise an error of dspex's own."""
    good = set()
    for module, id in right:
        try:
            state = states.load_state(module, id)
        except StateError:
            continue
        assert canonical(state) == right[module, id], (module, id)
        good.add((module, id))
    return good


def named(report):
    """The versions that a report names; all of a module where it cannot tell which."""
    return {pair for problem in report.problems for pair in problem.affected}


def covers(hit, missed):
    """Whether every version that does not load is named."""
    return all(pair in hit or (pair[0], "*") in hit or ("*", "*") in hit for pair in missed)


def test_each_byte_of_a_chunk_is_checked():
    """Of a chunk with any byte flipped, loads of the versions that need it fail, the scrub names just these; others load."""
    store = open_store("memory://")
    states = StateManager(store)
    right = {}
    for state in STATES:
        right["m", states.save_state("m", state).id] = canonical(state)
    chunks = dict(store._chunks)
    users = {digest: set() for digest in chunks}
    for id in ("1", "2", "3"):
        for digest in states._contents.hashes("m", states._catalog.find("m", id).saved):
            users[digest].add(("m", id))
    generator = random.Random(5)
    shared = [digest for digest in chunks if len(users[digest]) == 2]
    single = [digest for digest in chunks if len(users[digest]) == 1]
    assert shared
    assert single
    small = min(single, key=lambda digest: len(chunks[digest]))
    for digest in {small, *generator.sample(shared, 3), *generator.sample(single, 3)}:
        for place in range(len(chunks[digest])):
            flipped = bytearray(chunks[digest])
            flipped[place] ^= 1 << generator.randrange(8)
            store._chunks[digest] = bytes(flipped)
            if place % 97 == 0:
                assert loaded(states, right) == right.keys() - users[digest]
                report = states.verify()
                assert named(report) == users[digest]
                assert [problem.thing for problem in report.problems] == [digest.hex()]
            else:
                with pytest.raises(IntegrityError):
                    states.load_state(*next(iter(users[digest])))
        store._chunks[digest] = chunks[digest]
    assert loaded(states, right) == right.keys()


def test_a_lost_or_swapped_chunk_is_named():
    """A chunk that is gone, or has another's bytes, is named with the versions that need it."""
    store = open_store("memory://")
    states = StateManager(store)
    right = {("m", states.save_state("m", state).id): canonical(state) for state in STATES}
    chunks = dict(store._chunks)
    one, other = sorted(chunks)[:2]
    for wrong in ({**chunks, one: chunks[other], other: chunks[one]}, {d: c for d, c in chunks.items() if d != one}):
        store._chunks.clear()
        store._chunks.update(wrong)
        missed = right.keys() - loaded(states, right)
        assert missed
        report = states.verify()
        assert named(report) == missed


@pytest.fixture
def rows(tmp_path):
    """An SQLite store, and the connection of somebody who changes its rows."""
    right = filled(url_of("sqlite", tmp_path))
    connection = sqlite3.connect(tmp_path / "states.db", isolation_level=None)
    yield url_of("sqlite", tmp_path), right, connection
    connection.close()


def test_each_record_is_checked(rows):
    """Of a record with a byte flipped, put under another's key, or gone, the scrub names the key; no wrong state is loaded."""
    url, right, connection = rows
    generator = random.Random(3)
    records = connection.execute("SELECT key, value FROM records").fetchall()
    assert len(records) > 12
    with StateManager(url) as states:
        for key, value in records:
            places = range(0, len(value), max(1, len(value) // 5))
            wrong = [
                value[:place] + bytes([value[place] ^ 1 << generator.randrange(8)]) + value[place + 1 :]
                for place in places
            ]
            wrong += [other for _, other in generator.sample(records, 3) if other != value]
            wrong += [value[: len(value) // 2], b"", value + b" "]
            for bad in wrong:
                connection.execute("UPDATE records SET value = ? WHERE key = ?", (bad, key))
                assert loaded(states, right) <= right.keys()
                report = states.verify()
                assert key in [problem.thing for problem in report.problems]
                assert covers(named(report), right.keys() - loaded(states, right))
            connection.execute("UPDATE records SET value = ? WHERE key = ?", (value, key))
        assert states.verify().ok


def test_a_record_that_was_read_before_is_checked_again(rows):
    """What a manager remembers of a module hides no damage: a bit of its record that flips later is found by the next load."""
    url, right, connection = rows
    module, _ = min(right)
    with StateManager(url) as states:
        kept = canonical(states.load_state(module))
        value = connection.execute("SELECT value FROM records WHERE key = ?", (f"m/{module}",)).fetchone()[0]
        for place in range(len(value)):
            bad = value[:place] + bytes([value[place] ^ 1 << place % 8]) + value[place + 1 :]
            connection.execute("UPDATE records SET value = ? WHERE key = ?", (bad, f"m/{module}"))
            with pytest.raises(IntegrityError, match=f"the record m/{module} is damaged"):
                states.load_state(module)
        connection.execute("UPDATE records SET value = ? WHERE key = ?", (value, f"m/{module}"))
        assert canonical(states.load_state(module)) == kept


def test_each_lost_record_is_missed(rows):
    """A row that is gone, and one that is older than it should be, are found by what else is there."""
    url, right, connection = rows
    records = connection.execute("SELECT key, value, revision FROM records").fetchall()
    with StateManager(url) as states:
        for key, value, revision in records:
            connection.execute("DELETE FROM records WHERE key = ?", (key,))
            good = loaded(states, right)
            if key.startswith(("m/", "v/")):
                report = states.verify()
                assert key in [problem.thing for problem in report.problems]
                assert covers(named(report), right.keys() - good)
            else:  # a tag, the sweep, the format: no version hangs on them
                assert good == right.keys()
            connection.execute("INSERT INTO records (key, value, revision) VALUES (?, ?, ?)", (key, value, revision))
        old = next(value for key, value, _ in records if key == "m/m")
        states.save_state("m", {"new": True})
        connection.execute("UPDATE records SET value = ? WHERE key = 'm/m'", (old,))
        assert [problem.thing for problem in states.verify().problems] == ["m/m"]


# --- the journal ---------------------------------------------------------------------------------------------------


def journal(directory):
    """Its files, in order."""
    return sorted((directory / "states" / "journal").glob("*/*.txt"))


def drop_index(directory):
    for path in (directory / "states").glob("index.db*"):
        path.unlink()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A filled store in files, to be copied."""
    directory = tmp_path_factory.mktemp("files")
    return directory, filled(url_of("file", directory))


@pytest.mark.parametrize("indexed", [True, False])
def test_each_journal_file_is_checked(files, tmp_path, indexed):
    """With any byte of any journal file flipped, what loads is right, and the file is named, by the scrub or on opening."""
    source, right = files
    shutil.copytree(source / "states", tmp_path / "states")
    generator = random.Random(1)
    url = url_of("file", tmp_path)
    for path in journal(tmp_path):
        whole = path.read_bytes()
        places = {
            *generator.sample(range(len(whole)), 6),
            *generator.sample(range(20), 4),
            len(whole) - 1,
            len(whole) - 40,
            len(whole) - 67,
        }
        for place in places:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :])
            if not indexed:
                drop_index(tmp_path)
                with pytest.raises(IntegrityError, match=path.name):
                    StateManager(url)
                continue
            with StateManager(url) as states:
                good = loaded(states, right)
                report = states.verify()
                assert str(path) in [problem.thing for problem in report.problems]
                assert covers(named(report), right.keys() - good)
        path.write_bytes(whole)
    with StateManager(url) as states:
        assert loaded(states, right) == right.keys()
        assert states.verify().ok


@pytest.mark.parametrize("indexed", [True, False])
def test_a_journal_file_that_is_cut_lost_or_swapped_is_told(files, tmp_path, indexed):
    """A file that is shorter, gone, or another's is never passed over: no acknowledged version silently goes."""
    source, right = files
    shutil.copytree(source / "states", tmp_path / "states")
    url = url_of("file", tmp_path)
    paths = journal(tmp_path)
    for path in paths:
        whole = path.read_bytes()
        other = paths[0] if path != paths[0] else paths[1]
        for bad in (whole[: len(whole) // 2], b"", None, other.read_bytes()):
            path.unlink() if bad is None else path.write_bytes(bad)
            if not indexed:
                drop_index(tmp_path)
            try:
                with StateManager(url) as states:
                    good = loaded(states, right)
                    report = states.verify()
                    assert not report.ok or (bad is None and path == paths[-1])
                    assert covers(named(report), right.keys() - good) or (bad is None and path == paths[-1])
            except IntegrityError as error:
                told = error.thing
            else:
                told = str(path)
            assert pathlib.Path(told).name == path.name
            path.write_bytes(whole)
    with StateManager(url) as states:
        assert loaded(states, right) == right.keys()


def test_the_newest_journal_file_is_missed_by_the_index(files, tmp_path):
    """Without its newest file a journal is shorter than its index knows: the store says so and forgets nothing by itself."""
    source, right = files
    shutil.copytree(source / "states", tmp_path / "states")
    newest = journal(tmp_path)[-1]
    newest.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(
            IntegrityError, match=r"is missing, and was written; restore it from a copy, or delete .*index.db"
        ):
            StateManager(url_of("file", tmp_path))
    (tmp_path / "away").rename(newest)
    with StateManager(url_of("file", tmp_path)) as states:
        assert loaded(states, right) == right.keys()


def test_an_index_may_be_damaged_or_deleted(files, tmp_path):
    """All that the index has stands in the journal: it is made anew, also under a client that has the old one open."""
    source, right = files
    shutil.copytree(source / "states", tmp_path / "states")
    url, index = url_of("file", tmp_path), tmp_path / "states" / "index.db"
    generator = random.Random(2)
    whole = index.read_bytes()
    for _ in range(20):
        start = generator.randrange(len(whole))
        index.write_bytes(whole[:start] + generator.randbytes(300) + whole[start + 300 :])
        for suffix in ("-wal", "-shm"):
            index.with_name(index.name + suffix).unlink(missing_ok=True)
        try:
            with StateManager(url) as states:
                loaded(states, right)
        except StateError:
            pass
        drop_index(tmp_path)
    with StateManager(url) as states:
        assert loaded(states, right) == right.keys()
        drop_index(tmp_path)
        with StateManager(url) as other:
            other.save_state("m", {"new": 1})
        assert states.load_state("m") == {"new": 1}
        states.save_state("m", {"new": 2})
        assert states.verify().ok


# --- the SQLite file -----------------------------------------------------------------------------------------------


def break_file(path, generator):
    """Do to a file what disks and people do; what was done."""
    data = bytearray(path.read_bytes())
    page = generator.randrange(len(data) // 4096) * 4096
    kind = generator.choice(("bit", "zeroes", "noise", "cut", "swap"))
    if kind == "bit":
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    elif kind == "zeroes":
        data[page : page + 4096] = bytes(4096)
    elif kind == "noise":
        data[page : page + 4096] = generator.randbytes(4096)
    elif kind == "cut":
        del data[generator.choice((page, page + 100, page + 4095)) :]
    else:
        other = generator.randrange(len(data) // 4096) * 4096
        data[page : page + 4096], data[other : other + 4096] = data[other : other + 4096], data[page : page + 4096]
    path.write_bytes(data)
    return f"{kind} at page {page // 4096}"


def break_often(directory, rounds, generator):
    """Damage a copy of a store again and again; how often some version could not be loaded."""
    right = filled(url_of("sqlite", directory))
    source, target = directory / "states.db", directory / "broken.db"
    told = 0
    for number in range(rounds):
        for suffix in ("", "-wal", "-shm", "-turn"):
            pathlib.Path(f"{target}{suffix}").unlink(missing_ok=True)
        shutil.copy(source, target)
        shutil.copy(f"{source}-turn", f"{target}-turn")
        what = f"round {number}: {break_file(target, generator)}"
        try:
            with StateManager(f"sqlite:///{target}") as states:
                good = loaded(states, right)
                report = states.verify()
                missed = right.keys() - good
                told += bool(missed)
                assert report.problems or not missed, what
                assert covers(named(report), missed), (what, report, missed)
        except StateError:
            told += 1
    return told


def test_a_damaged_sqlite_file_gives_no_wrong_state(tmp_path):
    """Whatever is done to pages and bits of the file, a state that loads is right, and one that does not is named."""
    assert break_often(tmp_path, 60, random.Random(11)) > 20


def test_an_emptied_sqlite_file_is_no_new_store(tmp_path):
    """A file of which nothing is left is told from one that never was."""
    filled(url_of("sqlite", tmp_path))
    os.truncate(tmp_path / "states.db", 0)
    with pytest.raises(
        StoreError, match="is empty, and was a store; restore it from a copy, or delete it to begin anew"
    ):
        StateManager(url_of("sqlite", tmp_path))
    (tmp_path / "states.db").unlink()
    with StateManager(url_of("sqlite", tmp_path)) as states:
        assert states.modules() == []


def main():
    rounds, seed = int(sys.argv[1]), random.randrange(1 << 30)
    with tempfile.TemporaryDirectory() as directory:
        told = break_often(pathlib.Path(directory), rounds, random.Random(seed))
    print(f"{rounds} damaged files, {told} told of by an error, 0 wrong states (seed {seed})")


if __name__ == "__main__":
    main()
