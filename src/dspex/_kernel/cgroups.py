"""Control groups, version 2: find the part of the tree that was given to us, make groups in it (cgroups(7)).

Theory of operation
-------------------
A group that hands controllers to its children may not hold processes itself, the root excepted. So
controllers are usable in two cases: they are handed down already, or the group holds nobody (whoever
delegated it keeps our process in a group beside or below). We never move a process that is not ours to make
room.

A host may carry version 2 beside version 1 (hybrid), with the controllers bound to version 1: then there are
groups, with `cgroup.kill` and counts of nothing, and limits are refused by name.
"""

from __future__ import annotations

import errno
import os
import select
import time
from typing import Final, NamedTuple

_PATIENCE: Final = 5.0  # seconds for killed processes to be gone; they hold nothing that can stop them


class Delegation(NamedTuple):
    """The version 2 group of this process: where it is, whether groups can be made in it, and with what."""

    path: str
    writable: bool
    controllers: tuple[str, ...]


def delegated(root: str = "/sys/fs/cgroup") -> Delegation | None:
    """The version 2 group of this process below `root`, also in a hybrid tree; None when there is none in sight."""
    path = _own_path(root)
    if path is None:
        return None
    writable = os.access(path, os.W_OK) and os.access(f"{path}/cgroup.procs", os.W_OK)
    return Delegation(path, writable, _usable(path) if writable else ())


class Group:
    """One group below a delegation. `close` kills what is in it and removes it."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def create(cls, within: Delegation, name: str) -> Group:
        """A new group `name`, with the controllers of `within`. `PermissionError` when that is not writable."""
        if not within.writable:
            raise PermissionError(errno.EACCES, f"control group {within.path} was not delegated to this user")
        if within.controllers:
            _write(f"{within.path}/cgroup.subtree_control", " ".join(f"+{c}" for c in within.controllers))
        path = f"{within.path}/{name}"
        os.mkdir(path, 0o755)
        return cls(path)

    def limit(self, *, memory: int | None = None, pids: int | None = None) -> None:
        """Bound the bytes (without swap) and the processes and threads of the whole group.

        `OSError` (EOPNOTSUPP) names the controller that this group does not have.
        """
        if memory is not None:
            self._need("memory")
            _write(f"{self.path}/memory.max", str(memory))
            if os.path.exists(f"{self.path}/memory.swap.max"):  # absent where swap is not accounted
                _write(f"{self.path}/memory.swap.max", "0")
        if pids is not None:
            self._need("pids")
            _write(f"{self.path}/pids.max", str(pids))

    def add(self, pid: int) -> None:
        """Move process `pid` into the group; its future children are born there."""
        _write(f"{self.path}/cgroup.procs", str(pid))

    def processes(self) -> list[int]:
        """The processes in the group."""
        return [int(line) for line in _read(f"{self.path}/cgroup.procs").split()]

    def kill(self) -> None:
        """SIGKILL every process of the group at once, forks in progress included (Linux 5.14)."""
        _write(f"{self.path}/cgroup.kill", "1")

    def memory_peak(self) -> int:
        """The most bytes that the group has used (Linux 5.19). `OSError` without the memory controller."""
        self._need("memory")
        return int(_read(f"{self.path}/memory.peak"))

    def close(self) -> None:
        """Kill, wait and remove. `TimeoutError` when the killed do not end; a group that is gone is no error."""
        try:
            self.kill()
            self._wait_until_empty()
            os.rmdir(self.path)
        except FileNotFoundError:
            return

    def _need(self, controller: str) -> None:
        if controller not in _read(f"{self.path}/cgroup.controllers").split():
            raise OSError(errno.EOPNOTSUPP, f"control group {self.path} has no {controller} controller")

    def _wait_until_empty(self) -> None:
        events = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + _PATIENCE
            waiter = select.poll()
            waiter.register(events, select.POLLPRI)  # a change of the file, once for each read
            while b"populated 1" in os.pread(events, 256, 0):
                if not waiter.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise TimeoutError(f"processes of {self.path} outlive SIGKILL")
        finally:
            os.close(events)


def _own_path(root: str) -> str | None:
    own = next((line[3:] for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    if own is None:
        return None
    for top, mounted_at in _mounts(root):
        # A mount may show a part of the tree only (`top`), as containers without a namespace of groups do.
        inside = os.path.relpath(own, top)
        if not inside.startswith(".."):
            return os.path.normpath(f"{mounted_at}/{inside}")
    return None


def _mounts(root: str) -> list[tuple[str, str]]:
    """Root within the tree, and mount point, of every version 2 mount at or below `root`."""
    found = []
    for line in _read("/proc/self/mountinfo").splitlines():
        words, _, kind = line.partition(" - ")
        top, mounted_at = words.split(" ")[3:5]
        if kind.startswith("cgroup2 ") and f"{mounted_at}/".startswith(f"{root.rstrip('/')}/"):
            found.append((top, mounted_at))
    return found


def _usable(path: str) -> tuple[str, ...]:
    handed_down = set(_read(f"{path}/cgroup.subtree_control").split())
    # The root of the whole tree has no type, and may hold processes beside its children.
    is_root = not os.path.exists(f"{path}/cgroup.type")
    if is_root or not _read(f"{path}/cgroup.procs").split():
        handed_down |= set(_read(f"{path}/cgroup.controllers").split())
    return tuple(sorted(handed_down & {"memory", "pids", "cpu"}))


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {text!r} to {path}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(descriptor)
