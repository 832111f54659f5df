"""How strong the walls shall be: `Isolation`, and the layers that each level is made of."""

from __future__ import annotations

from typing import NamedTuple

from dspex.errors import UsageError
from dspex.execution._result import IsolationReport

LEVELS = ("namespaces", "landlock")
LAYERS = {
    "namespaces": (
        "user",
        "mount",
        "pid",
        "ipc",
        "uts",
        "network",
        "root",
        "files",
        "proc",
        "rlimits",
        "credentials",
        "landlock",
        "descriptors",
        "seccomp",
    ),
    "landlock": ("files", "rlimits", "credentials", "memory", "landlock", "descriptors", "seccomp"),
}
# What can be left out on request; without the others a guest cannot even be made.
OPTIONAL = frozenset(
    (
        "user",
        "pid",
        "ipc",
        "network",
        "root",
        "proc",
        "rlimits",
        "credentials",
        "memory",
        "landlock",
        "descriptors",
        "seccomp",
    )
)


class Isolation(NamedTuple):
    """`level` None is the strongest that the host offers, at or above the minimum; a name demands that level.

    `without` leaves layers out by name, to see what each is for. Never for code that you do not trust.
    """

    level: str | None = None
    without: frozenset[str] = frozenset()

    @classmethod
    def of(cls, value: Isolation | str | None) -> Isolation:
        """The isolation that an argument stands for. Raises `UsageError`."""
        isolation = value if isinstance(value, Isolation) else cls(value)
        if isolation.level is not None and isolation.level not in LEVELS:
            known = " or ".join(repr(level) for level in LEVELS)
            raise UsageError(f"isolation is {isolation.level!r}; it can be {known}, or None for the best there is")
        unknown = set(isolation.without) - OPTIONAL
        if unknown:
            raise UsageError(f"isolation cannot leave out {sorted(unknown)}; it can leave out {sorted(OPTIONAL)}")
        return cls(isolation.level, frozenset(isolation.without))

    def report(self, level: str) -> IsolationReport:
        """What is in force at `level`."""
        return IsolationReport(level, tuple(layer for layer in LAYERS[level] if layer not in self.without))
