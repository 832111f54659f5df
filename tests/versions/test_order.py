"""The order in which bytes reach the disk, as the kernel saw it: synced, renamed, synced, and only then acknowledged."""

import os
import re
import shutil
import subprocess
import sys

import pytest

_TRACED = "fsync,fdatasync,rename,renameat,renameat2,write,pwrite64"
_SAVES = """
import os, sys
from dspex.versions import StateManager
states = StateManager(sys.argv[1])
states.save_state("m", {"i": 0})
os.write(1, b"BEGIN")
states.save_state("m", {"i": 1, "text": "x" * 30000})
os.write(1, b"ACKNOWLEDGED")
"""


def calls(url, directory):
    """The system calls of one save, between its beginning and its acknowledgement, as (name, what it was of)."""
    assert shutil.which("strace"), "the tests need strace; scripts/test installs it"
    path, log = os.pathsep.join(filter(None, sys.path)), directory / "strace.txt"
    done = subprocess.run(
        ["strace", "-f", "-y", "-e", f"trace={_TRACED}", "-o", str(log), sys.executable, "-c", _SAVES, url],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = log.read_text()
    inside = text[text.index('"BEGIN"') : text.index('"ACKNOWLEDGED"')]
    return re.findall(r"^\d+ +(\w+)\((.*?)\) += \d", inside, flags=re.MULTILINE)


def test_a_file_is_synced_renamed_and_its_directory_synced(tmp_path):
    """fsync of the new file, rename, fsync of the directory, in this order, before the save returns."""
    found = calls(f"file:///{tmp_path}/states", tmp_path)
    order = [
        (name, "directory" if name == "fsync" and "journal/000000>" in what else "file")
        for name, what in found
        if name.startswith("rename") or (name == "fsync" and "/journal/" in what)
    ]
    assert [(name[:6], what) for name, what in order] == [("fsync", "file"), ("rename", "file"), ("fsync", "directory")]


def test_a_commit_is_synced(tmp_path):
    """The log of the database is written, then synced, before the save returns."""
    found = calls(f"sqlite:///{tmp_path}/states.db", tmp_path)
    last_write = max(i for i, (name, what) in enumerate(found) if name == "pwrite64" and "states.db-wal" in what)
    synced = [i for i, (name, what) in enumerate(found) if name in ("fsync", "fdatasync") and "states.db-wal" in what]
    assert synced
    assert synced[-1] > last_write


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_strace_sees_something(kind, tmp_path):
    """A run without operations would prove nothing."""
    assert len(calls(f"{kind}:///{tmp_path}/states.db", tmp_path)) >= 3
