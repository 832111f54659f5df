"""What becomes of a save whose head has moved meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from dspex.errors import ConflictError, UsageError
from dspex.versions._merge import merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.versions._version import Version

ResolverName = Literal["reject", "last_write_wins", "merge"]


class Conflict(Protocol):
    """A save that started from `base` and met `theirs` as the head. States are read when they are asked for."""

    @property
    def base(self) -> Version | None: ...
    @property
    def theirs(self) -> Version: ...
    @property
    def base_state(self) -> Any: ...
    @property
    def our_state(self) -> Any: ...
    @property
    def their_state(self) -> Any: ...


Resolver: TypeAlias = "ResolverName | Callable[[Conflict], Any]"


def resolve(resolver: Resolver, conflict: Conflict) -> Any:
    """The state to save on top of both. Raises ConflictError when the resolver refuses."""
    if callable(resolver):
        return resolver(conflict)
    return _RESOLVERS[resolver](conflict)


def check_resolver(resolver: Any) -> None:
    """Raise UsageError for what is no resolver."""
    if not callable(resolver) and resolver not in _RESOLVERS:
        raise UsageError(f"resolver must be {', '.join(map(repr, _RESOLVERS))} or a function, not {resolver!r}")


def refusal(conflict: Conflict, *, paths: tuple[str, ...] = ()) -> ConflictError:
    """The error that names both versions, and the way out."""
    theirs, base = conflict.theirs, conflict.base
    where = f"; both changed {', '.join(paths)}" if paths else ""
    return ConflictError(
        f"{theirs.module_id!r} has moved on to {theirs.id!r} since {base.id if base else 'nothing'!r}{where};"
        f" load that and save again, or open the manager with another resolver",
        ours=base,
        theirs=theirs,
        paths=paths,
    )


def _reject(conflict: Conflict) -> Any:
    raise refusal(conflict)


def _merge(conflict: Conflict) -> Any:
    if conflict.base is not None and conflict.base.schema != conflict.theirs.schema:
        raise refusal(conflict, paths=(f"the schema ({conflict.base.schema} to {conflict.theirs.schema})",))
    merged = merge(conflict.base_state, conflict.our_state, conflict.their_state)
    if merged.conflicts:
        raise refusal(conflict, paths=merged.conflicts)
    return merged.state


_RESOLVERS: dict[str, Callable[[Conflict], Any]] = {
    "reject": _reject,
    "last_write_wins": lambda conflict: conflict.our_state,
    "merge": _merge,
}
