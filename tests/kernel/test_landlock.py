"""Landlock, tried by processes that restrict themselves."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dspex._kernel import landlock

SOURCE = str(Path(landlock.__file__).parents[2])
PREAMBLE = """
import sys
sys.path.insert(0, {source!r})
import os
from dspex._kernel import landlock, mounts, namespaces
from dspex._kernel.processes import forbid_new_privileges

def tried(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return os.strerror(error.errno)
    return "done"

def restrict(*rules, version=None):
    forbid_new_privileges()
    with landlock.Ruleset.create(version) as ruleset:
        for name, target in rules:
            getattr(ruleset, name)(target)
        ruleset.restrict()
"""


def require(abi: int) -> None:
    if landlock.abi() < abi:
        pytest.skip(f"Landlock ABI {abi} is not offered by this kernel")


def output(body: str, *arguments: object) -> list[str]:
    command = [sys.executable, "-c", PREAMBLE.format(source=SOURCE) + body, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def place(tmp_path):
    """A directory `open` and a directory `shut`, with a file in each."""
    for name in ("open", "shut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")
    return tmp_path


def test_each_abi_adds_its_layers():
    """The names grow with the ABI, and there are none without Landlock."""
    assert landlock.layers(0) == ()
    assert landlock.layers(1) == ("files",)
    assert landlock.layers(4) == ("files", "links and renames", "truncation", "tcp")
    assert landlock.layers(6)[-2:] == ("abstract sockets", "signals")
    assert landlock.layers(9) == landlock.layers(6)


def test_a_kernel_without_landlock_is_named():
    """Version 0 makes no ruleset: there is no silent nothing."""
    with pytest.raises(OSError, match="CONFIG_SECURITY_LANDLOCK") as caught:
        landlock.Ruleset.create(0)
    assert caught.value.errno == errno.ENOSYS


def test_closing_twice_is_once():
    """A ruleset lets go of its descriptor, and of that only."""
    require(1)
    ruleset = landlock.Ruleset.create()
    before = len(os.listdir("/proc/self/fd"))
    ruleset.close()
    ruleset.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    with pytest.raises(OSError, match="landlock_restrict_self"):
        ruleset.restrict()


def test_nothing_is_allowed_without_a_rule(place):
    """Under an empty ruleset no file opens and no directory lists or grows."""
    require(1)
    body = """
here = sys.argv[1]
restrict()
print(tried(open, here + "/open/file"))
print(tried(os.listdir, here))
print(tried(os.mkdir, here + "/new"))
print(tried(os.unlink, here + "/open/file"))
"""
    assert output(body, place) == ["Permission denied"] * 4


def test_reading_is_not_writing(place):
    """A readable tree reads and lists, and refuses to be written, truncated, run, or to lose files."""
    require(3)
    (place / "open" / "program").write_text("#!/bin/sh\n")
    (place / "open" / "program").chmod(0o755)
    body = """
here = sys.argv[1]
restrict(("allow_read", here + "/open"))
print(open(here + "/open/file").read(), tried(os.listdir, here + "/open"))
actions = [
    (open, here + "/open/file", "a"), (os.truncate, here + "/open/file", 0), (open, here + "/open/n", "w"),
    (os.unlink, here + "/open/file"), (os.execv, here + "/open/program", ["x"]), (open, here + "/shut/file"),
]
for action in actions:
    print(tried(*action))
"""
    assert output(body, place) == ["text done"] + ["Permission denied"] * 6
    assert (place / "open" / "file").read_text() == "text"


def test_executing_needs_its_own_right():
    """A tree that may be executed starts programs."""
    require(1)
    body = """
restrict(("allow_read_execute", "/"))
os.execv("/bin/echo", ["echo", "ran"])
"""
    assert output(body) == ["ran"]


def test_writing_makes_changes_and_removes(place):
    """A writable tree takes every ordinary change, renames across its directories included; no socket, no device."""
    require(3)
    body = """
import socket, stat
here = sys.argv[1] + "/open"
restrict(("allow_write", here))
print(tried(open, here + "/new", "w"), tried(os.mkdir, here + "/d"), tried(os.rename, here + "/new", here + "/d/new"))
print(tried(os.truncate, here + "/file", 1), tried(os.symlink, "file", here + "/s"), tried(os.mkfifo, here + "/f"))
print(tried(os.link, here + "/file", here + "/d/l"), tried(os.unlink, here + "/s"), tried(os.unlink, here + "/d/new"))
print(tried(socket.socket(socket.AF_UNIX).bind, here + "/socket"))
print(tried(os.rename, here + "/file", sys.argv[1] + "/shut/file2"))
"""
    lines = output(body, place)
    assert lines[:3] == ["done done done"] * 3
    assert lines[3] == "Permission denied"
    assert lines[4] in ("Permission denied", "Invalid cross-device link")


def test_a_rule_may_sit_on_a_file(place):
    """A file can be allowed by itself, by path or by descriptor, with what a file can have."""
    require(1)
    body = """
here = sys.argv[1]
restrict(("allow_write", here + "/open/file"), ("allow_read", os.open(here + "/shut/file", os.O_PATH)))
print(tried(open, here + "/open/file", "a"), tried(open, here + "/shut/file"), tried(open, here + "/shut/file", "a"))
print(tried(os.unlink, here + "/open/file"), tried(os.listdir, here + "/open"))
"""
    assert output(body, place) == ["done done Permission denied", "Permission denied Permission denied"]


def test_a_missing_path_is_named(place):
    """A rule for what is not there raises, naming it."""
    require(1)
    with landlock.Ruleset.create() as ruleset, pytest.raises(FileNotFoundError, match="absent"):
        ruleset.allow_read(place / "absent")


@pytest.mark.parametrize("version", range(1, 8))
def test_older_abis_still_guard_files(place, version):
    """A ruleset for an older kernel's ABI is accepted and keeps files shut."""
    require(version)
    body = """
here = sys.argv[1]
restrict(("allow_write", here + "/open"), version=int(sys.argv[2]))
print(tried(open, here + "/open/file", "a"), tried(open, here + "/shut/file"))
"""
    assert output(body, place, version) == ["done Permission denied"]


def test_rulesets_only_add_up_to_less(place):
    """A second ruleset cannot give back what the first took."""
    require(1)
    body = """
here = sys.argv[1]
restrict(("allow_read", here + "/open"))
restrict(("allow_read", "/"))
print(tried(open, here + "/open/file"), tried(open, here + "/shut/file"))
"""
    # The root can still be named: only reading it was taken.
    assert output(body, place) == ["done Permission denied"]


def test_children_are_restricted_too(place):
    """What a restricted process starts is restricted."""
    require(1)
    body = """
import subprocess
restrict(("allow_read_execute", "/bin"), ("allow_read_execute", "/usr"), ("allow_read_execute", "/lib"),
         ("allow_read_execute", "/etc"), ("allow_write", "/dev/null"))
print(subprocess.run(["/bin/cat", sys.argv[1] + "/shut/file"], stderr=subprocess.DEVNULL).returncode)
"""
    assert output(body, place) == ["1"]


def test_no_tcp_port_is_bound_or_reached():
    """From ABI 4 a socket that exists can neither bind nor connect over TCP."""
    require(4)
    body = """
import socket
server = socket.create_server(("127.0.0.1", 0))
first, second = socket.socket(), socket.socket()
restrict()
print(tried(first.connect, server.getsockname()), tried(second.bind, ("127.0.0.1", 0)))
"""
    assert output(body) == ["Permission denied Permission denied"]


def test_ports_to_connect_to_are_given_back():
    """A port that is named is reached, another not, and none can be bound."""
    require(4)
    body = """
import socket
servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
clients = [socket.socket() for _ in range(3)]
restrict(("allow_connect", servers[0].getsockname()[1]))
print(*(tried(client.connect, server.getsockname()) for client, server in zip(clients, servers)))
print(tried(clients[2].bind, ("127.0.0.1", 0)))
"""
    assert output(body) == ["done Permission denied", "Permission denied"]


def test_no_abstract_socket_beyond_is_reached():
    """From ABI 6 an abstract socket made outside refuses."""
    require(6)
    body = """
import socket
outside, inside = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
outside.bind(b"\\0dspex-landlock-%d" % os.getpid())
outside.listen()
restrict()
print(tried(inside.connect, outside.getsockname()))
"""
    assert output(body) == ["Operation not permitted"]


def test_no_process_beyond_is_signalled():
    """From ABI 6 a signal reaches the process itself and its children, not its parent."""
    require(6)
    body = """
restrict()
child = os.fork()
if not child:
    os.read(os.pipe()[0], 1)
print(tried(os.kill, os.getppid(), 0), tried(os.kill, os.getpid(), 0), tried(os.kill, child, 9))
os.waitpid(child, 0)
"""
    assert output(body) == ["Operation not permitted done done"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("above", ["done", "done", "Permission denied"]), ("below", ["Permission denied"] * 3)],
)
def test_a_rule_covers_later_mounts_from_above_only(place, rule, expected):
    """A rule on a directory holds for what is mounted beneath it later; one on the mount point itself is buried."""
    require(1)
    (place / "open" / "b").mkdir()
    body = """
here, rule = sys.argv[1], sys.argv[2]
try:
    uid, gid = os.geteuid(), os.getegid()
    namespaces.unshare(namespaces.USER | namespaces.MOUNT)
    namespaces.write_maps(f"0 {uid} 1", f"0 {gid} 1")
except OSError as error:
    print("no namespaces:", error)
    sys.exit()
mounts.make_private()
forbid_new_privileges()
with landlock.Ruleset.create() as ruleset:
    ruleset.allow_write(here + ("/open" if rule == "above" else "/open/b"))
    mounts.tmpfs(here + "/open/b")
    ruleset.restrict()
print(tried(open, here + "/open/b/x", "w"), tried(os.listdir, here + "/open/b"), tried(os.listdir, here), sep="\\n")
"""
    lines = output(body, place, rule)
    if lines[0].startswith("no namespaces"):
        pytest.skip(lines[0])
    assert lines == expected
