"""`Watch`: a guest at work, and the limits that the kernel does not hold for it."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final

from dspex._kernel import resources

if TYPE_CHECKING:
    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.process import Guest

_GRACE: Final = 0.25  # seconds beyond its deadline after which the keeper kills what its caller did not


class Watch:
    """What the keeper looks at several times a second, from the moment that a run is no longer short.

    A guest that is `alone` is one process in its own namespaces: there the kernel bounds all but the CPU time of sessions.
    """

    __slots__ = ("_alone", "_deadline", "_limits", "_started_cpu", "_threads", "guest", "limit_hit", "processes")

    def __init__(self, guest: Guest, limits: ResourceLimits, *, deadline: float, alone: bool, threads: int = 0) -> None:
        self.guest = guest
        self.limit_hit = ""
        self.processes = 1  # the most that were seen at once
        self._limits = limits
        self._deadline = deadline
        self._alone = alone
        self._threads = threads  # that the runtime has for itself
        # With that of children who are gone: a compiler, say, whose time is not the program's.
        self._started_cpu = resources.cpu_time(guest.pid) if alone else resources.tree_usage(guest.pid).cpu

    def enforce(self, now: float) -> None:
        """Kill the guest if it is beyond a limit, and keep which."""
        if self.limit_hit:
            return  # it is being killed for that
        try:
            if now > self._deadline + _GRACE and not self._has_spoken():
                self.limit_hit = "timeout"
            else:
                self.limit_hit = self._cpu() if self._alone else self._all()
        except (OSError, ValueError):
            return  # it has ended, or was closed just now
        if self.limit_hit:
            self.guest.kill()

    def _has_spoken(self) -> bool:
        """True while something of the guest's lies unread: then its caller is late (in a tool, say), and it may be done."""
        poll = select.poll()
        poll.register(self.guest.channel, select.POLLIN)
        return bool(poll.poll(0))

    def _cpu(self) -> str:
        used = resources.cpu_time(self.guest.pid) - self._started_cpu
        return "cpu_limit" if used > self._limits.cpu else ""

    def _all(self) -> str:
        limits, usage = self._limits, resources.tree_usage(self.guest.pid)
        self.processes = max(self.processes, usage.processes)
        if usage.memory > limits.memory:
            return "memory_limit"
        if usage.cpu - self._started_cpu > limits.cpu:
            return "cpu_limit"
        if max(usage.threads, usage.processes) > limits.processes + self._threads:
            return "process_limit"
        if self.guest.directory and resources.disk_usage(self.guest.directory) > limits.disk:
            return "disk_limit"
        return ""
