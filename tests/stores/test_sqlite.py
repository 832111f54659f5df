"""The store in an SQLite file."""

import concurrent.futures
import contextlib
import sqlite3

import pytest

from dspex.errors import StoreUnavailableError
from dspex.stores import Write
from dspex.testing import StoreSuite

FORMAT_1 = """
PRAGMA journal_mode = WAL;
CREATE TABLE records (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE chunks (hash BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE log (revision INTEGER PRIMARY KEY, note BLOB NOT NULL);
PRAGMA application_id = 0x64737078;
PRAGMA user_version = 1;
"""


class TestSqlite(StoreSuite):
    """It passes the suite."""

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/states.db"

    def test_a_store_of_format_1_is_brought_forward(self, tmp_path, url):
        """Many open it at once: all see what was there, at its revisions, and it goes on as any other; nothing is left over."""
        with contextlib.closing(sqlite3.connect(tmp_path / "states.db")) as former:
            former.executescript(FORMAT_1)
            rows = [(f"k{i:04d}", bytes(i), i + 1) for i in range(2000)]
            former.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
            former.executemany("INSERT INTO log VALUES (?, ?)", [(i + 1, b"n%d" % i) for i in range(2000)])
            former.commit()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(lambda _: self.open(url), range(4)))
        there = [(key, (value, revision)) for key, value, revision in rows]
        assert [store.scan("k", limit=5000) for store in stores] == [there] * 4
        assert stores[0].write(Write(expect={"k1999": 2000}, put={"k1999": b"large" * 1000, "k0001": b""})) == 2001
        assert stores[1].read(["k1999", "k0001"]) == {"k1999": (b"large" * 1000, 2001), "k0001": (b"", 2001)}
        assert [change.note for change in stores[1].changes(1998)] == [b"n1998", b"n1999", b""]
        assert stores[2].damage() == []
        for store in stores:
            store.close()
        tables = {"records", "bodies", "chunks", "log"}
        with contextlib.closing(sqlite3.connect(tmp_path / "states.db")) as now:
            assert {name for (name,) in now.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == tables

    def test_bringing_forward_is_all_or_nothing(self, tmp_path, url):
        """What cannot be brought forward is left as it was, and opens once the cause is gone."""
        with contextlib.closing(sqlite3.connect(tmp_path / "states.db")) as former:
            former.executescript(f"{FORMAT_1} CREATE TABLE bodies (of, somebody, elses);")
            former.execute("INSERT INTO records VALUES ('k', 'v', 1)")
            former.commit()
            for _ in range(2):
                with pytest.raises(StoreUnavailableError, match="bodies already exists; nothing was changed"):
                    self.open(url)
            assert former.execute("SELECT key, revision FROM records").fetchall() == [("k", 1)]
            assert former.execute("PRAGMA user_version").fetchone() == (1,)
            former.execute("DROP TABLE bodies")
        with contextlib.closing(self.open(url)) as store:
            assert store.read(["k"])["k"].revision == 1
