"""State files on disk: whole, durable, in the place and with the permissions of the old one."""

import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys

import pytest

from dspex import state
from dspex.errors import StateError, StateFormatError, UsageError

WRITER = """
import sys
from dspex import state
old, new = ({"value": c * 200_000, "n": list(range(2000))} for c in "ab")
state.write_file(sys.argv[1], old)
print("ready", flush=True)
while True:
    state.write_file(sys.argv[1], new)
    state.write_file(sys.argv[1], old)
"""
FULL = """
import resource, signal, sys
from dspex import state
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    state.write_file(sys.argv[1], {"value": "b" * 100_000})
except OSError as error:
    sys.exit(error.errno)
"""


def python(source, *arguments, **options):
    """A Python process that runs such source with this dspex."""
    root = str(pathlib.Path(state.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    return subprocess.Popen([sys.executable, "-c", source, *map(str, arguments)], env=environment, **options)


def names(directory):
    return sorted(entry.name for entry in directory.iterdir())


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.json", b'{\n  "dspex"'),
        ("a", b'{\n  "dspex"'),
        ("a.b.json.gz", b"\x1f\x8b"),
        ("a.msgpack", b"\x82\xa5dspex"),
        ("a.mpk.zst", b"\x28\xb5\x2f\xfd"),
        ("a.pb", b"\x0a\x0bdspex.state"),
        ("a.etf", b"\x83"),
    ],
)
def test_the_name_chooses_when_nothing_is_said(tmp_path, name, start):
    """Format and compression come from the name, and what is read does not depend on it."""
    state.write_file(tmp_path / name, {"a": (1, b"2")})
    assert (tmp_path / name).read_bytes().startswith(start)
    os.rename(tmp_path / name, tmp_path / "other.x")
    assert state.read_file(tmp_path / "other.x") == {"a": (1, b"2")}


def test_what_is_said_goes_before_the_name(tmp_path):
    """An argument overrules the suffix; "plain" leaves out the compression of the name."""
    state.write_file(str(tmp_path / "a.json.gz"), {}, format="etf", compression="plain")
    assert (tmp_path / "a.json.gz").read_bytes().startswith(b"\x83")


def test_the_mode_of_the_old_file_stays(tmp_path):
    """A replaced file keeps its permissions; a new one has those of the umask."""
    path = tmp_path / "a.json"
    old = os.umask(0o027)
    try:
        state.write_file(path, {})
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o7777 == 0o640
    path.chmod(0o604)
    state.write_file(path, {"a": 1})
    assert path.stat().st_mode & 0o7777 == 0o604


def test_a_link_stays_a_link(tmp_path):
    """Writing through a symbolic link replaces its target, dangling or not, beside which the new file is made."""
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to("there/target.json")
    for value in (1, 2):
        state.write_file(link, value)
        assert link.is_symlink()
        assert state.read_file(tmp_path / "there" / "target.json") == value
    assert names(tmp_path / "there") == ["target.json"]


def test_a_state_that_cannot_be_written_touches_nothing(tmp_path):
    """A value that is no plain data is refused before the file is opened."""
    path = tmp_path / "a.json"
    state.write_file(path, "old")
    with pytest.raises(StateError):
        state.write_file(path, object())
    assert state.read_file(path) == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A write that fails for want of space is an OSError; the old file stays, and nothing lies beside it."""
    path = tmp_path / "a.json"
    state.write_file(path, "old")
    process = python(FULL, path)
    assert process.wait(60) == errno.EFBIG
    assert state.read_file(path) == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new(tmp_path):
    """However often a writer is killed, the file is one of the two that it wrote."""
    path = tmp_path / "a.json"
    for delay in range(12):
        process = python(WRITER, path, stdout=subprocess.PIPE)
        with process:
            assert process.stdout.readline() == b"ready\n"
            try:
                process.wait(0.003 * delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert state.read_file(path)["value"] in ("a" * 200_000, "b" * 200_000)


def test_readers_see_whole_files_only(tmp_path):
    """One who reads while another writes sees the old state or the new."""
    path = tmp_path / "a.json"
    with python(WRITER, path, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        seen = {state.read_file(path)["value"][0] for _ in range(300)}
        process.kill()
    assert seen <= {"a", "b"}


def test_what_is_no_file(tmp_path):
    """Directories and devices are neither read nor replaced, a missing directory is an OSError."""
    with pytest.raises(OSError, match="directory"):
        state.read_file(tmp_path)
    with pytest.raises(UsageError, match="no regular file"):
        state.write_file(tmp_path, {})
    with pytest.raises(StateFormatError, match="no regular file"):
        state.read_file("/dev/zero")
    with pytest.raises(FileNotFoundError):
        state.write_file(tmp_path / "none" / "a.json", {})
    with pytest.raises(FileNotFoundError):
        state.read_file(tmp_path / "none.json")


def test_a_pipe_does_not_hold_the_reader(tmp_path):
    """A named pipe without a writer is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StateFormatError, match="no regular file"):
        state.read_file(tmp_path / "pipe")


def test_errors_name_the_file(tmp_path):
    """A damaged or too large file is refused with its path."""
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": ')
    with pytest.raises(StateFormatError) as caught:
        state.read_file(path)
    assert caught.value.source == str(path)
    with pytest.raises(StateFormatError, match=r"a\.json: 6 bytes; max_size allows 5"):
        state.read_file(path, max_size=5)


def test_a_huge_sparse_file_is_not_read(tmp_path):
    """A file beyond the bound is refused by its size, without reading it."""
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, 1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StateFormatError, match="max_size allows"):
        state.read_file(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_directory_that_is_not_there_is_named(tmp_path):
    """And the file that was to be written, not the one that would have been renamed to it."""
    with pytest.raises(FileNotFoundError, match="no file can be made in") as caught:
        state.write_file(tmp_path / "nowhere" / "a.json", {"a": 1})
    assert caught.value.filename == str(tmp_path / "nowhere" / "a.json")
