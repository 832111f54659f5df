"""Limits of one process, and what a process or a tree of them has used (setrlimit(2), clock_gettime(2),
proc(5)).

Theory of operation
-------------------
The CPU time of another process needs no /proc: the kernel gives each process a clock whose id is made of its
pid (the C library's clock_getcpuclockid), and reading it costs about a microsecond. It counts the process
with all its threads, to the nanosecond, and not its children.

A tree is walked over /proc/PID/task/TID/children while it lives, so it is a view and not a snapshot: a
process that ends meanwhile is left out, one that starts is seen the next time. A process that was orphaned
belongs to its new parent: the tree must be walked from a process that adopts (PID 1 of a namespace, or a
subreaper).

Memory counts the resident anonymous and shared pages, not those of files. Pages that a fork still shares with
its parent count in each of them: for a tree the sum is an upper bound.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import stat
import sys
import time
from typing import Final, NamedTuple

_PROCESS_CLOCK: Final = 2  # CPUCLOCK_SCHED: user and system time of all threads
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_DEPTH: Final = 100  # of directories that `disk_usage` walks

_LIMITS: Final = {
    "address_space": resource.RLIMIT_AS,
    "data": resource.RLIMIT_DATA,
    "stack": resource.RLIMIT_STACK,
    "cpu": resource.RLIMIT_CPU,
    "processes": resource.RLIMIT_NPROC,
    "open_files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
    "locked": resource.RLIMIT_MEMLOCK,
    "pending_signals": resource.RLIMIT_SIGPENDING,
    "message_queues": resource.RLIMIT_MSGQUEUE,
    "core": resource.RLIMIT_CORE,
}


class Usage(NamedTuple):
    """What a tree of processes uses: `cpu` in seconds, `memory` in bytes, and how many of each."""

    cpu: float = 0.0
    memory: int = 0
    processes: int = 0
    threads: int = 0


def set_limits(**limits: int) -> None:
    """Set the named limits of this process, for good: the hard limit goes down with the soft one.

    Names: address_space, data, stack, file_size, locked, message_queues, core (bytes), cpu (whole seconds),
    processes (of the user, in its user namespace), open_files, pending_signals. A limit above the one in
    force is cut to it. `KeyError` for another name.
    """
    for name, value in limits.items():
        kind = _LIMITS[name]
        _, hard = resource.getrlimit(kind)
        allowed = _cut(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _cut(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def allow_cpu(pid: int, seconds: float) -> None:
    """Let process `pid` (0: this one) use CPU time up to `seconds` in all before the kernel signals it (SIGXCPU).

    `PermissionError` where its user is another and the caller has no CAP_SYS_RESOURCE.
    """
    _, hard = resource.prlimit(pid, resource.RLIMIT_CPU)
    resource.prlimit(pid, resource.RLIMIT_CPU, (_cut(math.ceil(seconds), hard), hard))


def allow_processes(pid: int, number: int) -> None:
    """Let process `pid` (0: this one) find up to `number` processes and threads of its user before it can make no more."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
    resource.prlimit(pid, resource.RLIMIT_NPROC, (_cut(number, hard), hard))


def bound_data(pid: int, room: int) -> None:
    """Let process `pid` have `room` bytes of private memory more than it has now, for good.

    `ProcessLookupError` once it has ended, `PermissionError` where its user is another and the caller has no
    CAP_SYS_RESOURCE.
    """
    _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
    bound = _cut(_kilobytes(_read(f"/proc/{pid}/status"), b"VmData:", pid) + room, hard)
    resource.prlimit(pid, resource.RLIMIT_DATA, (bound, bound))


def cpu_time(pid: int) -> float:
    """Seconds of CPU that process `pid` has used, without its children. `ProcessLookupError` once it was reaped."""
    try:
        return time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)
    except OSError as error:
        if error.errno == errno.EINVAL:  # the kernel's word for a clock of nobody
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}") from error
        raise


def peak_memory(pid: int) -> int:
    """The most bytes that process `pid` has had resident. `ProcessLookupError` once it has ended."""
    return peak_memory_in(_read(f"/proc/{pid}/status"), pid)


def peak_memory_in(status: bytes, pid: int) -> int:
    """`peak_memory`, for who keeps /proc/PID/status open and has just read it."""
    return _kilobytes(status, b"VmHWM:", pid)


def descendants(pid: int) -> list[int]:
    """The children of `pid`, their children and so on, parents first."""
    found: list[int] = []
    pending = [pid]
    while pending:
        children = _children(pending.pop())
        found += children
        pending += children
    return found


def tree_usage(pid: int) -> Usage:
    """What `pid` and its descendants use now; all zero when there is no such process.

    `cpu` holds also what children used that were reaped, to the clock tick (10 ms).
    """
    total = Usage()
    for each in (pid, *descendants(pid)):
        try:
            total = _sum(total, _usage(each))
        except ProcessLookupError:
            continue
    return total


def _sum(a: Usage, b: Usage) -> Usage:
    return Usage(a.cpu + b.cpu, a.memory + b.memory, a.processes + b.processes, a.threads + b.threads)


def _usage(pid: int) -> Usage:
    status = _read(f"/proc/{pid}/status")
    memory = _kilobytes(status, b"RssAnon:", pid) + _kilobytes(status, b"RssShmem:", pid)
    return Usage(cpu_time(pid) + _reaped(pid), memory, 1, _field(status, b"Threads:", pid))


def _reaped(pid: int) -> float:
    # After the name, which may hold any byte but ends at the last parenthesis: cutime and cstime are the 14th
    # and 15th words (fields 16 and 17 of proc(5)).
    words = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return (int(words[13]) + int(words[14])) / _TICKS


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended; what it had is its parent's or its adopter's now
    return found


def _kilobytes(status: bytes, name: bytes, pid: int) -> int:
    return _field(status, name, pid) * 1024


def _field(status: bytes, name: bytes, pid: int) -> int:
    # From the start of a line: the first one holds the process's name, which a program may choose (prctl).
    _, found, rest = status.partition(b"\n" + name)
    if not found:
        raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended")  # a zombie has no memory to tell of
    return int(rest.split(maxsplit=1)[0])


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ProcessLookupError(errno.ESRCH, f"no process behind {path}") from error
    try:
        parts = []
        while part := os.read(descriptor, 16384):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def disk_usage(directory: str) -> int:
    """Bytes that the files beneath `directory` take, a page for each file at least; links are not followed.

    A tree too deep, or one that has been closed to reading, counts as without end: nobody needs one, and somebody made it.
    """
    try:
        return _disk_usage(directory, None, _DEPTH)
    except FileNotFoundError:
        return 0
    except OSError:
        return sys.maxsize


def _disk_usage(name: str, parent: int | None, depth: int) -> int:
    # Each level holds a descriptor open: without a bound a guest could use up those of its host.
    if depth == 0:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    total = 0
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        for entry in os.listdir(descriptor):
            try:
                found = os.stat(entry, dir_fd=descriptor, follow_symlinks=False)
                total += max(4096, found.st_blocks * 512)
                if stat.S_ISDIR(found.st_mode):
                    total += _disk_usage(entry, descriptor, depth - 1)
            except (FileNotFoundError, NotADirectoryError):
                continue
    finally:
        os.close(descriptor)
    return total
