"""The order of what reaches the disk before a save is acknowledged, as the kernel saw it (strace)."""

import os
import re
import shutil
import subprocess
import sys

from statestores import url_of

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
CALLS = "openat,rename,renameat,renameat2,fsync,fdatasync,write,pwrite64,mkdir,mkdirat"

SAVES = """
import os, sys
from dspex.versions import StateManager
with StateManager(sys.argv[1]) as states:
    for i in range(3):
        states.save_state("m", {"i": i})
        os.write(1, b"acknowledged %d" % i)
"""


def traced(url, tmp_path):
    """The calls of a program that saves three times, up to each acknowledgement, as (name, path, whole line)."""
    out = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-e", f"trace={CALLS}", "-o", out, sys.executable, "-c", SAVES, url]
    subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    spans, span = [], []
    for line in out.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call is None:
            continue
        if '"acknowledged' in call[2]:
            spans.append(span)
            span = []
        elif " = -1 " not in line:
            span.append((call[1], call[2]))
    assert len(spans) == 3
    return spans


def place(calls, name, pattern, after=-1):
    """Where a call first comes, beyond another."""
    for number, (called, rest) in enumerate(calls):
        if number > after and called in name and re.search(pattern, rest):
            return number
    raise AssertionError(f"no {name} of {pattern} in {calls[after + 1 :]}")


def test_a_trace_can_be_taken():
    """Without strace nothing of this is known, and a test that did not look has not passed."""
    assert shutil.which("strace"), "install the Debian package strace"


def test_a_file_is_synced_renamed_and_its_directory_synced(tmp_path):
    """Each save in files: its temporary file is written and synced, then renamed, then the directory synced, then acknowledged."""
    for number, calls in enumerate(traced(url_of("file", tmp_path), tmp_path), 2):
        target = rf"journal/000000/{number:012d}\.txt"
        renamed = place(calls, ("rename", "renameat", "renameat2"), target)
        temporary = re.search(r"\.dspex-\w+\.tmp", calls[renamed][1])[0]
        written = place(calls, ("write",), re.escape(temporary))
        synced = place(calls, ("fsync", "fdatasync"), re.escape(temporary), written)
        assert written < synced < renamed
        assert not any(name == "write" and temporary in rest for name, rest in calls[synced:renamed])
        place(calls, ("fsync",), r"<[^>]*/journal/000000>", renamed)


def test_new_directories_are_synced_up_to_the_one_that_was_there(tmp_path):
    """Before the first write is acknowledged, every directory that leads to it is synced in its parent."""
    calls = traced(url_of("file", tmp_path), tmp_path)[0]
    first = place(calls, ("rename", "renameat", "renameat2"), r"journal/000000/000000000001\.txt")
    for directory in (f"{tmp_path}>", f"{tmp_path}/states>", f"{tmp_path}/states/journal>"):
        assert place(calls, ("fsync",), re.escape(directory)) < first


def test_the_log_of_sqlite_is_synced_after_it_was_written(tmp_path):
    """Each save in SQLite: the write-ahead log is written, then synced, then the save is acknowledged."""
    for calls in traced(url_of("sqlite", tmp_path), tmp_path):
        written = [
            number
            for number, (name, rest) in enumerate(calls)
            if name in ("write", "pwrite64") and "states.db-wal>" in rest
        ]
        assert written
        place(calls, ("fsync", "fdatasync"), r"states\.db-wal>", written[-1])
