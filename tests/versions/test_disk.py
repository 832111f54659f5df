"""Disks that are full or read-only, clocks that are set back, files of somebody else: a clear error, nothing lost, and on."""

import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
import time

import pytest

from dspex.errors import StoreError, StoreUnavailableError, UnknownOutcomeError
from dspex.versions import StateManager
from statestores import DURABLE, url_of

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
NOISE = os.urandom(30_000).hex()


@pytest.fixture(params=DURABLE)
def small(request, tmp_path):
    """The URL of a new store on a small disk; that needs root, others have a limit on the size of files."""
    if os.geteuid():
        yield url_of(request.param, tmp_path), None
        return
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", disk], check=True)
    yield url_of(request.param, disk), disk
    subprocess.run(["umount", disk], check=True)


@contextlib.contextmanager
def full(disk, keep=0):
    """No room but `keep` bytes, for a while."""
    if disk is None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (keep, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1024)) == 1024:
            pass
    os.truncate(filler, max(0, filler.stat().st_size - keep))
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_loses_nothing(small):
    """A save that finds no room says so and is not there; what was acknowledged loads meanwhile; with room it goes on."""
    url, disk = small
    acknowledged = {}
    with StateManager(url) as states:
        for i in range(3):
            acknowledged[states.save_state("m", {"i": i, "text": f"{i}{NOISE}"}).id] = i
        for keep in (0, 8192, 32768, 131072):
            with full(disk, keep):
                with pytest.raises((StoreUnavailableError, UnknownOutcomeError), match=url.partition(":")[0]):
                    for i in range(10, 200):
                        acknowledged[states.save_state("m", {"i": i, "text": f"{keep}{i}{NOISE}"}).id] = i
                assert {id: states.load_state("m", id)["i"] for id in acknowledged} == acknowledged
            acknowledged[states.save_state("m", {"i": 0}).id] = 0
            assert states.verify().problems == ()
    with StateManager(url) as states:
        assert {id: states.load_state("m", id)["i"] for id in acknowledged} == acknowledged
        assert states.verify().problems == ()


def test_a_save_that_failed_for_room_is_not_there(small):
    """What is said to have changed nothing has changed nothing, also for the next client."""
    url, disk = small
    with StateManager(url) as states:
        states.save_state("m", {"i": 0})
        sure, unknown = {"1"}, 0
        for keep in range(0, 120_000, 9000):
            with full(disk, keep):
                try:
                    sure.add(states.save_state("m", {"text": f"{keep}{NOISE}"[:30_000]}).id)
                except UnknownOutcomeError:
                    unknown += 1
                except StoreUnavailableError:
                    pass
            states.save_state("n", {"keep": keep})
            there = {version.id for version in states.list_versions("m").versions}
            assert sure <= there
            assert len(there - sure) <= unknown
        assert states.verify().problems == ()


READ_ONLY = """
import ctypes, json, sys
libc = ctypes.CDLL(None)
libc.prctl(24, 1, 0, 0, 0)  # root is stopped by modes only without CAP_DAC_OVERRIDE
class Head(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
libc.capset(ctypes.byref(Head(0x20080522, 0)), (ctypes.c_uint32 * 6)())
from dspex.errors import StoreError
from dspex.versions import StateManager
try:
    with StateManager(sys.argv[1]) as states:
        states.save_state("m", {"i": 2})
    print(json.dumps("saved"))
except StoreError as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.parametrize("kind", DURABLE)
def test_a_read_only_directory_is_said_to_be(kind, tmp_path):
    """Who may not write is told so with the place; nothing is changed, and who may goes on."""
    directory = tmp_path / "place"
    directory.mkdir()
    url = url_of(kind, directory)
    with StateManager(url) as states:
        states.save_state("m", {"i": 1})
    places = [directory, *directory.rglob("*")]
    modes = {path: path.stat().st_mode for path in places}
    for path in places:
        path.chmod(modes[path] & 0o555)
    try:
        command = [sys.executable, "-c", READ_ONLY, url]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    finally:
        for path in places:
            path.chmod(modes[path])
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert str(directory) in said
    assert "saved" not in said
    with StateManager(url) as states:
        assert states.load_state("m") == {"i": 1}
        assert states.save_state("m", {"i": 3}).id == "2"
        assert states.verify().ok


SET_BACK = """
import sys, time
now, seconds = time.time, time.time_ns
time.time = lambda: now() - 3600
time.time_ns = lambda: seconds() - 3600 * 10**9
from dspex.versions import Retention, StateManager
with StateManager(sys.argv[1], versioning=sys.argv[2], retention=Retention(keep_last=5)) as states:
    for i in range(10, 20):
        states.save_state("m", {"i": i})
    states.compact()
"""


@pytest.mark.parametrize("versioning", ["incremental", "timestamp"])
def test_a_clock_that_was_set_back_changes_no_order(durable_url, versioning):
    """Versions of a process whose clock is an hour behind come after those that were there; the lease of a killed sweep ends."""
    from dspex.versions import _sweep

    with StateManager(durable_url, versioning=versioning) as states:
        for i in range(10):
            states.save_state("m", {"i": i})
        _sweep.take(states.store, "killed")
        subprocess.run(
            [sys.executable, "-c", SET_BACK, durable_url, versioning], env=ENVIRONMENT, check=True, timeout=60
        )
        versions = states.list_versions("m").versions
        assert [states.load_state("m", version)["i"] for version in versions] == [19, 18, 17, 16, 15]
        times = [version.time for version in versions]
        assert times == sorted(times, reverse=True)
        assert states.load_state("m", versions[2].time) == {"i": 17}
        assert states.save_state("m", {"i": 20}).parents == (versions[0].id,)
        assert states.verify().ok


def test_files_of_somebody_else_are_not_touched(tmp_path):
    """A database or a directory of something else, and a text, are refused by name and stay as they are."""
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    text = tmp_path / "text.db"
    text.write_text("no database, but long enough to be taken for one " * 100)
    directory = tmp_path / "photos"
    directory.mkdir()
    (directory / "photo").write_bytes(b"photo")
    for url, path, said in (
        (f"sqlite:///{other}", other, "no store of dspex; name another file"),
        (f"sqlite:///{text}", text, "file is not a database"),
        (f"file:///{directory}", directory / "photo", "holds something else; name an empty or a new directory"),
    ):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=said):
            StateManager(url)
        assert path.read_bytes() == before
    assert [path.name for path in directory.iterdir()] == ["photo"]
    with pytest.raises(StoreUnavailableError, match="does not exist; make it first"):
        StateManager(f"sqlite:///{tmp_path}/nowhere/states.db")
    with pytest.raises(StoreUnavailableError, match="does not exist; make it first"):
        StateManager(f"file:///{tmp_path}/nowhere/states")


def test_newer_files_are_refused(tmp_path):
    """A database or a journal of a newer dspex is said to be just that."""
    for kind in DURABLE:
        with StateManager(url_of(kind, tmp_path)) as states:
            states.save_state("m", {})
    with contextlib.closing(sqlite3.connect(tmp_path / "states.db")) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreError, match="has format 7, made by a newer dspex; this one reads up to 2"):
        StateManager(url_of("sqlite", tmp_path))
    from hashlib import sha256

    newest = sorted((tmp_path / "states" / "journal").glob("*/*.txt"))[-1]
    body = newest.read_bytes()[:-69].replace(b"dspex journal 1", b"dspex journal 2")
    newest.write_bytes(body + b"end " + sha256(body).hexdigest().encode() + b"\n")
    with pytest.raises(StoreError, match="was written by a newer dspex; this one reads journals of format 1"):
        StateManager(url_of("file", tmp_path))


CHILD = """
import os, sys, threading, time
from dspex.versions import StateManager
states = StateManager(sys.argv[1])
states.save_state("m", {"i": 0})
stop = threading.Event()
def write():
    while not stop.is_set():
        states.save_state("busy", {"text": "x" * 5000})
thread = threading.Thread(target=write)
thread.start()
children = []
for i in range(8):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        try:
            states.load_state("m")
            states.save_state("m", {"child": i})
            os._exit(0)
        finally:
            os._exit(1)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
stop.set()
thread.join()
assert codes == [0] * 8, codes
assert len(states.list_versions("m").versions) == 9
idle = os.fork()
if idle == 0:
    time.sleep(60)
    os._exit(0)
print(idle, flush=True)
while True:
    states.save_state("m", {"text": "x" * 5000})
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_children_share_no_lock_with_their_parent(durable_url):
    """Forked while a thread writes, children save too; a child that idles holds no lock when its parent is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, durable_url], stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as parent:
        idle = int(parent.stdout.readline())
        time.sleep(0.1)
        parent.kill()
        parent.wait()
        try:
            with StateManager(durable_url) as states:
                states.save_state("m", {"after": 1})
                assert states.load_state("m") == {"after": 1}
                assert states.verify().ok
        finally:
            os.kill(idle, 9)
