"""Full disks, read-only directories, stores of somebody else: a clear error, nothing lost, and on it goes."""

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys

import pytest

from dspex.errors import StoreError, StoreUnavailableError, UnknownOutcomeError
from dspex.stores import Write
from dspex.versions import StateManager, _records

_FILLS = """
import os, resource, signal, sys
from dspex.errors import StoreUnavailableError, UnknownOutcomeError
from dspex.versions import StateManager
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
states = StateManager(sys.argv[1])
states.save_state("m", {"i": 0})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
for i in range(1, 1000):
    try:
        states.save_state("m", {"i": i, "text": os.urandom(20_000)})
    except (StoreUnavailableError, UnknownOutcomeError) as error:
        print(i - 1, error)
        error_of_save = error
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert states.load_state("m")["i"] in ((i - 1, i) if isinstance(error_of_save, UnknownOutcomeError) else (i - 1,))
states.save_state("m", {"i": "again"})
"""


@pytest.mark.parametrize(("kind", "limit"), [("sqlite", 300_000), ("file", 60_000)])
def test_a_full_disk_is_an_error_and_no_loss(tmp_path, kind, limit):
    """A save for which there is no room fails and says so; what was saved is there, and later saves succeed."""
    url = f"{kind}:///{tmp_path}/states"
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", _FILLS, url, str(limit)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last, error = done.stdout.split(" ", 1)
    assert "nothing was changed" in error or "full" in error
    with StateManager(url) as states:
        assert states.load_state("m") == {"i": "again"}
        assert states.verify().ok
        assert states.load_state("m", str(int(last) + 1))["i"] == int(last)


def test_a_full_file_system(tmp_path):
    """The same on a real small file system, where this user may mount one."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        return
    try:
        for kind in ("sqlite", "file"):
            with StateManager(f"{kind}:///{tmp_path}/{kind}") as states:
                saved = 0
                with pytest.raises((StoreUnavailableError, UnknownOutcomeError)) as caught:
                    for saved in range(200):
                        states.save_state("m", {"i": saved, "text": os.urandom(30_000)})
                unknown = isinstance(caught.value, UnknownOutcomeError)
                assert states.load_state("m")["i"] in ((saved - 1, saved) if unknown else (saved - 1,))
                for path in tmp_path.glob("ballast*"):
                    path.unlink()
                assert states.verify().ok
            shutil.rmtree(tmp_path / kind, ignore_errors=True)
            for path in tmp_path.glob(f"{kind}*"):
                path.unlink()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_a_directory_that_cannot_be_written(tmp_path, kind):
    """Who may not write is told where and why."""
    home = tmp_path / "locked"
    home.mkdir()
    home.chmod(stat.S_IRUSR | stat.S_IXUSR)
    code = (
        "import os, sys\n"
        "from dspex.errors import StoreError\n"
        "import dspex.versions, dspex.stores._sqlite, dspex.stores._file\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: dspex.versions.StateManager(sys.argv[1])\n"
        "except StoreError as error: print(error)\n"
    )
    for directory in (tmp_path, *tmp_path.parents):
        if os.geteuid() == 0 and directory.owner() == "root" and directory.is_relative_to("/tmp"):
            directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    if os.geteuid() == 0:
        os.chown(home, 65534, 65534)
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code, f"{kind}:///{home}/states"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert str(home) in done.stdout, done.stderr
    assert "ermission denied" in done.stdout or "writable" in done.stdout


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_a_directory_that_is_not_there(tmp_path, kind):
    """No directory is made up."""
    with pytest.raises(StoreUnavailableError, match="does not exist; make it first"):
        StateManager(f"{kind}:///{tmp_path}/no/such/place")


def test_somebody_elses_files_are_left_alone(tmp_path):
    """A database or directory of something else is refused and unchanged."""
    connection = sqlite3.connect(tmp_path / "theirs.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="is an SQLite database, but no store of dspex"):
        StateManager(f"sqlite:///{tmp_path}/theirs.db")
    (tmp_path / "text.db").write_text("not a database, but long enough to have a header of one, surely" * 4)
    with pytest.raises(StoreError, match="file is not a database"):
        StateManager(f"sqlite:///{tmp_path}/text.db")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("milk")
    with pytest.raises(StoreError, match="holds something else"):
        StateManager(f"file:///{tmp_path}/notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["todo.txt"]


def test_stores_of_a_newer_dspex_are_refused(url):
    """A format that is not known is named, with the way out."""
    if url == "memory://":
        return
    with StateManager(url) as states:
        record = _records.sealed(_records.FORMAT_KEY, _records.FormatRecord(99))
        states.store.write(Write(put={_records.FORMAT_KEY: record}))
    with pytest.raises(StoreError, match="has format 99, of a newer dspex; this one reads up to 1: upgrade"):
        StateManager(url)


def test_sqlite_files_of_a_newer_dspex_are_refused(tmp_path):
    """Also where the tables themselves are newer."""
    StateManager(f"sqlite:///{tmp_path}/s.db").close()
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(StoreError, match="has format 7, made by a newer dspex"):
        StateManager(f"sqlite:///{tmp_path}/s.db")


def test_limits_are_as_they_were():
    """The tests that fill a disk do it in processes of their own."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
