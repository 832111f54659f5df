"""How strong the walls shall be: `Isolation`, and the layers that each level is made of."""

from __future__ import annotations

from typing import NamedTuple

from dspex.errors import UsageError
from dspex.execution._result import IsolationReport

LEVELS = ("namespaces", "landlock", "wasm")
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
    # The program runs in WebAssembly; the kernel's own layers stand behind that where the host offers them.
    "wasm": ("webassembly", "files", "rlimits", "credentials", "memory", "landlock", "descriptors", "seccomp"),
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

    Where it offers none of those, programs run in WebAssembly if `portable` says so (as `level="wasm"` does anywhere), for
    the languages that can; else nothing runs. `without` leaves layers out by name, to see what each is for. Never for code
    that you do not trust.
    """

    level: str | None = None
    without: frozenset[str] = frozenset()
    portable: bool = False

    @classmethod
    def of(cls, value: Isolation | str | None) -> Isolation:
        """The isolation that an argument stands for. Raises `UsageError`."""
        isolation = value if isinstance(value, Isolation) else cls(value)
        if isolation.level is not None and isolation.level not in LEVELS:
            known = ", ".join(repr(level) for level in LEVELS)
            raise UsageError(
                f"isolation is {isolation.level!r}; it can be {known}, or None for the best of the first two"
            )
        unknown = set(isolation.without) - OPTIONAL
        if unknown:
            raise UsageError(f"isolation cannot leave out {sorted(unknown)}; it can leave out {sorted(OPTIONAL)}")
        return isolation._replace(without=frozenset(isolation.without))

    def settled(self) -> Isolation:
        """With the level named, where only WebAssembly is left and will do."""
        if self.level is not None or not self.portable:
            return self
        from dspex._kernel.probe import probe

        return self if probe().level() is not None else self._replace(level="wasm")

    def offered(self) -> Isolation:
        """At level `wasm`, without the kernel's layers that this host does not have; other levels are all or nothing."""
        if self.level != "wasm":
            return self
        from dspex._kernel.probe import probe

        found = probe()
        missing = {
            name for name, there in (("landlock", found.landlock_abi > 0), ("seccomp", found.seccomp)) if not there
        }
        return self._replace(without=self.without | missing)

    def report(self, level: str) -> IsolationReport:
        """What is in force at `level`."""
        return IsolationReport(level, tuple(layer for layer in LAYERS[level] if layer not in self.without))
