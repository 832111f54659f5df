"""Control groups on the real tree, as far as this user may write to it."""

import errno
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from dspex._kernel import cgroups


@pytest.fixture
def delegation():
    """The delegated part of the tree; tests that write need one."""
    found = cgroups.delegated()
    if found is None or not found.writable:
        pytest.skip("no version 2 control group is delegated to this user")
    return found


@pytest.fixture
def group(delegation):
    """A new empty group."""
    made = cgroups.Group.create(delegation, f"dspex-test-{uuid.uuid4().hex[:8]}")
    yield made
    made.close()


@pytest.fixture
def sleeper():
    """A process that waits."""
    process = subprocess.Popen(["/bin/sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_the_own_group_is_found():
    """The path that is found holds this process, or a mount of the tree is not in sight."""
    found = cgroups.delegated()
    if found is None:
        assert not any(" cgroup2 " in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
        return
    assert str(os.getpid()) in Path(found.path, "cgroup.procs").read_text().split()
    offered = Path(found.path, "cgroup.controllers").read_text().split()
    assert set(found.controllers) <= set(offered)


def test_no_tree_below_another_root(tmp_path):
    """Where no version 2 tree is mounted there is no delegation."""
    assert cgroups.delegated(str(tmp_path)) is None


def test_what_is_not_writable_is_refused(tmp_path):
    """A group in a part of the tree that belongs to others is refused, naming the part."""
    foreign = cgroups.Delegation(str(tmp_path), False, ())
    with pytest.raises(PermissionError, match=str(tmp_path)):
        cgroups.Group.create(foreign, "mine")
    assert list(tmp_path.iterdir()) == []


def test_an_ordinary_user_is_told_that_nothing_is_delegated():
    """For a user who owns no group the tree is seen and not writable."""
    source = str(Path(cgroups.__file__).parents[2])
    script = f"""
import sys, os
sys.path.insert(0, {source!r})
from dspex._kernel import cgroups
try:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
except PermissionError:
    sys.exit(77)
found = cgroups.delegated()
print(found is None or (found.writable, found.controllers))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip("only root with its capabilities can become an ordinary user")
    assert done.stdout.strip() in ("True", "(False, ())")


def test_a_process_moves_in(group, sleeper):
    """An added process is in the group, and one that it forks would be."""
    group.add(sleeper.pid)
    assert group.processes() == [sleeper.pid]
    assert group.path.rpartition("/")[2] in Path(f"/proc/{sleeper.pid}/cgroup").read_text()


def test_kill_ends_the_whole_group(group):
    """A shell and what it started in the background end together."""
    command = "read go; sleep 600 & sleep 600 & echo started; wait"
    shell = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    group.add(shell.pid)
    shell.stdin.write("go\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "started\n"
    assert len(group.processes()) == 3
    group.kill()
    assert shell.wait() == -signal.SIGKILL
    shell.communicate()


def test_close_kills_and_removes(delegation, sleeper):
    """A closed group has left no process and no directory; closing again is nothing."""
    made = cgroups.Group.create(delegation, f"dspex-test-{uuid.uuid4().hex[:8]}")
    made.add(sleeper.pid)
    made.close()
    assert sleeper.wait() == -signal.SIGKILL
    assert not os.path.exists(made.path)
    made.close()


def test_a_pid_of_nobody_is_refused(group):
    """A process that has ended cannot be added."""
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    with pytest.raises(OSError, match=r"cgroup\.procs") as caught:
        group.add(process.pid)
    assert caught.value.errno == errno.ESRCH


@pytest.mark.parametrize(("limit", "controller"), [({"memory": 1 << 26}, "memory"), ({"pids": 7}, "pids")])
def test_a_limit_binds_or_names_what_is_missing(delegation, group, limit, controller):
    """With its controller a limit stands in the kernel's file; without it the refusal names the controller."""
    if controller in delegation.controllers:
        group.limit(**limit)
        assert Path(group.path, f"{controller}.max").read_text().strip() == str(*limit.values())
    else:
        with pytest.raises(OSError, match=f"no {controller} controller") as caught:
            group.limit(**limit)
        assert caught.value.errno == errno.EOPNOTSUPP


def test_the_peak_is_told_or_its_lack(delegation, group):
    """The peak of an empty group is small; without the memory controller asking for it is refused by name."""
    if "memory" in delegation.controllers:
        assert group.memory_peak() < 1 << 20
    else:
        with pytest.raises(OSError, match="no memory controller"):
            group.memory_peak()
