"""What a program leaves behind: its descriptors, descendants, mounts; and waiting for a fact to become true."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from dspex._kernel import resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def descriptors() -> dict[int, str]:
    """The descriptors of this process and what they stand for."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own
            continue
    return found


def descendants() -> list[int]:
    """The processes beneath this one, those that have ended but were not waited for included."""
    return resources.descendants(os.getpid())


def mounts() -> str:
    """The mounts that this process sees."""
    with open("/proc/self/mounts") as file:
        return file.read()


def identity(pid: int) -> tuple[int, str]:
    """A process that cannot be taken for a later one of the same number; the text is empty once it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return pid, ""
    return pid, "" if fields[0] in "ZX" else fields[19]


def becomes_true(fact: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether `fact` comes to hold within so many seconds."""
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def vanish(processes: Iterable[tuple[int, str]], seconds: float = 10.0) -> bool:
    """Whether all these processes, as `identity` gave them, end within so many seconds."""
    known = [process for process in processes if process[1]]
    return becomes_true(lambda: all(identity(pid) != (pid, start) for pid, start in known), seconds)
